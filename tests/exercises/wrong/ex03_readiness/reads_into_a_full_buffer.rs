//! Mistake: read interest stays on while the buffer is full.
//! Verdict: read interest is on although the buffer is full, so what arrives cannot be read

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::Relay;

pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    let (mut from, mut to) = (PollFlags::empty(), PollFlags::empty());
    from.set(PollFlags::IN, !relay.at_eof);
    to.set(PollFlags::OUT, !relay.buffer.is_empty());
    [from, to]
}
