//! Mistake: the generation goes up when the next entry comes.
//! Verdict: A token is stale as soon as its entry has gone

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

impl Table {
    /// The slot of a token, unless the token is stale.
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index)?;
        (slot.generation == token.generation).then_some(slot)
    }
}

impl Slab for Table {
    fn insert(&mut self, entry: &str) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[index].generation += 1;
        self.slots[index].entry = Some(entry.to_owned());
        Token { index, generation: self.slots[index].generation }
    }

    fn take_out(&mut self, token: Token) -> Option<String> {
        self.slot(token)?.entry.take()
    }

    fn put_back(&mut self, token: Token, entry: String) {
        if let Some(slot) = self.slot(token) {
            slot.entry = Some(entry);
        }
    }

    fn remove(&mut self, token: Token) {
        if let Some(slot) = self.slot(token) {
            slot.entry = None;
            self.free.push(token.index);
        }
    }
}
