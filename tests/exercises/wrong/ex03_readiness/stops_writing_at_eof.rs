//! Mistake: write interest goes off at the end of file, although the last bytes are unsent.
//! Verdict: the loop sleeps although 3 bytes are in the buffer, the sender has ended and the receiver has room

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::{CAPACITY, Relay};

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, !relay.at_eof && relay.buffer.len() < CAPACITY);
    to.set(PollFlags::OUT, !relay.buffer.is_empty() && !relay.at_eof);
    [from, to]
}
