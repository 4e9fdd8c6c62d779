//! Mistake: the token gets stale when its entry runs, and not when it is removed.
//! Verdict: `take_out` of `ann` returned None. She was put back, and her token has to work

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
        self.slots[index].entry = Some(entry.to_owned());
        Token { index, generation: self.slots[index].generation }
    }

    fn take_out(&mut self, token: Token) -> Option<String> {
        let slot = self.slot(token)?;
        let entry = slot.entry.take()?;
        slot.generation += 1;
        Some(entry)
    }

    fn put_back(&mut self, token: Token, entry: String) {
        if let Some(slot) = self.slot(token) {
            slot.entry = Some(entry);
        }
    }

    fn remove(&mut self, token: Token) {
        if let Some(slot) = self.slot(token) {
            *slot = Slot { generation: slot.generation + 1, entry: None };
            self.free.push(token.index);
        }
    }
}
