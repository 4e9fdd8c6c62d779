//! Mistake: there is no write interest, as a write usually succeeds.
//! Verdict: the loop sleeps although 5 bytes are in the buffer and the receiver has room

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::{CAPACITY, Relay};

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, !relay.at_eof && relay.buffer.len() < CAPACITY);
    to.set(PollFlags::OUT, false);
    [from, to]
}
