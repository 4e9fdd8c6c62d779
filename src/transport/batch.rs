//! How many newcomers a listener accepts in a turn.
//!
//! One too many is an `accept` that fails, and that is dear (`../reactor/level.rs`); one too few is a turn
//! more for each who waits. So a turn begins with one, and takes twice as many each time as long as the
//! listener is called turn after turn.
//!
//! Invariant: at least one, at most [`RATION`].
//!
//! Read next: `listener.rs`.

/// The most connections accepted in one turn.
const RATION: usize = 64;

#[derive(Default)]
pub(super) struct Batch {
    size: usize,
    /// The turn it was for.
    turn: u64,
}

impl Batch {
    /// The size for this turn.
    pub fn for_turn(&mut self, turn: u64) -> usize {
        self.size = if turn == self.turn + 1 { (2 * self.size).clamp(1, RATION) } else { 1 };
        self.turn = turn;
        self.size
    }

    /// There were fewer: the next one begins with one again.
    pub fn was_too_large(&mut self) {
        self.size = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(batch: &mut Batch, turns: impl IntoIterator<Item = u64>) -> Vec<usize> {
        turns.into_iter().map(|turn| batch.for_turn(turn)).collect()
    }

    #[test]
    fn it_doubles_while_turn_follows_turn_up_to_a_ration() {
        let mut batch = Batch::default();
        assert_eq!(sizes(&mut batch, 7..15), [1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(sizes(&mut batch, [16, 17]), [1, 2], "a turn without newcomers lay between");
    }

    #[test]
    fn it_begins_with_one_again_when_it_was_too_large() {
        let mut batch = Batch::default();
        assert_eq!(sizes(&mut batch, 1..4), [1, 2, 4]);
        batch.was_too_large();
        assert_eq!(sizes(&mut batch, 4..6), [1, 2]);
    }
}
