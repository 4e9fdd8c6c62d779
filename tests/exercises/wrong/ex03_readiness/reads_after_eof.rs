//! Mistake: read interest stays on after the end of file.
//! Verdict: read interest is on after the end of file, and a socket at its end is always readable

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::{CAPACITY, Relay};

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, relay.buffer.len() < CAPACITY);
    to.set(PollFlags::OUT, !relay.buffer.is_empty());
    [from, to]
}
