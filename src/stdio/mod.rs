//! Stdin and stdout of every kind as sources, without side effects.
//!
//! The descriptors 0, 1 and 2 are shared with the process that started the program. `O_NONBLOCK`
//! belongs to the open file description, which `dup(2)` and `fork(2)` share. So setting it on our
//! stdin sets it for the shell as well, and it stays set when the program is killed.
//!
//! Invariant: the flags of a descriptor that we were given are never changed, and no read or write
//! on one blocks the loop. (The exception is a terminal that cannot be reopened: see the known gap
//! in `descriptor.rs`.)
//!
//! Read next: `descriptor.rs` (how), then `input.rs` and `output.rs` (the two sources).

mod descriptor;
mod input;
mod output;

#[cfg(feature = "cli")]
pub(crate) use descriptor::write_shared;
pub use descriptor::{Descriptor, Direction};
pub use input::{Chunk, Framing, Input};
pub use output::Output;

use std::time::Duration;

use crate::reactor::{Id, Reactor, Timer};

/// How long to wait after a signal has interrupted a call. The loop must handle the signal first,
/// because it may end the program. If the program handles SIGTTIN or SIGTTOU, a terminal sends it
/// for each call from a background job, so the call must not be repeated at once.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Has a source called after [`RETRY_DELAY`], in place of an earlier `retry`.
fn schedule_retry(retry: &mut Option<Timer>, id: Id, reactor: &mut Reactor) {
    cancel_retry(retry, reactor);
    *retry = Some(reactor.timeout_at(reactor.after(RETRY_DELAY), id));
}

fn cancel_retry(retry: &mut Option<Timer>, reactor: &mut Reactor) {
    if let Some(timer) = retry.take() {
        reactor.cancel(timer);
    }
}
