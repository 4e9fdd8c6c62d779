//! Exercise 5: a table with stale tokens.
//!
//! Complete the table. Anybody may keep a token for any time, so each method may get a token whose
//! entry has gone and whose slot has another entry. An entry that runs is out of its slot, and may
//! be removed meanwhile, perhaps twice. When an entry has gone, its slot is used again.
//! The types that you need are in `checks/ex05_slab.rs`. You may read it.
//!
//!     cargo test --test exercises ex05_slab -- --ignored

use crate::checks::ex05_slab::{Slab, Token};

#[derive(Default)]
pub struct Table {
    slots: Vec<Slot>,
    /// The indices of the slots that are free.
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    generation: usize,
    /// `None` while the entry runs, and in a free slot.
    entry: Option<String>,
}

impl Slab for Table {
    /// Puts an entry into a free slot, or into a new one.
    fn insert(&mut self, entry: &str) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[index].entry = Some(entry.to_owned());
        Token { index, generation: self.slots[index].generation }
    }

    /// Takes the entry out of its slot, so that it can run. Its slot is not free meanwhile.
    fn take_out(&mut self, token: Token) -> Option<String> {
        todo!("one private method can find the slot of a token that is not stale, for all three of these")
    }

    /// Puts an entry back that was taken out, unless it was removed meanwhile.
    fn put_back(&mut self, token: Token, entry: String) {
        todo!()
    }

    /// Removes an entry, also while it runs.
    fn remove(&mut self, token: Token) {
        todo!()
    }
}
