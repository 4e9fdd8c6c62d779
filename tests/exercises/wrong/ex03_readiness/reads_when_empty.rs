//! Mistake: the relay reads only when all that it has is written.
//! Verdict: the loop sleeps although the sender's bytes are there and the buffer has room for 3096

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::Relay;

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, !relay.at_eof && relay.buffer.is_empty());
    to.set(PollFlags::OUT, !relay.buffer.is_empty());
    [from, to]
}
