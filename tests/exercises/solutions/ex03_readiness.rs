//! Interest only in what the relay can act on now.

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::{CAPACITY, Relay};

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, !relay.at_eof && relay.buffer.len() < CAPACITY);
    to.set(PollFlags::OUT, !relay.buffer.is_empty());
    [from, to]
}
