//! Mistake: write interest is on for every connection, as it may have to write some time.
//! Verdict: write interest is on although the buffer is empty, and an idle socket is always writable

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::{CAPACITY, Relay};

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, !relay.at_eof && relay.buffer.len() < CAPACITY);
    to.set(PollFlags::OUT, true);
    [from, to]
}
