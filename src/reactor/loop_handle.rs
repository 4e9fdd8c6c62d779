//! A handle to the reactor for futures, which cannot hold `&mut Reactor` while they wait.
//!
//! Invariant: calls that are scheduled here wait in the same queue as those that a source
//! schedules. The handle never leaves the reactor's thread, so it needs no lock and no system call.
//!
//! Read next: `mod.rs`, step 4 of a turn; `../streams/awaitable.rs`, which builds futures on it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};

use super::{Id, Job, Reactor, Ready, Remote, SCRATCH_SIZE, Stopped};

/// The parts of a reactor that can be used without `&mut Reactor`.
#[derive(Default)]
pub(super) struct Local {
    pub queue: RefCell<VecDeque<Job>>,
    /// `None` while the buffer is in use, and before its first use.
    scratch: Cell<Option<Box<[u8]>>>,
}

impl Local {
    pub fn push(&self, job: Job) {
        self.queue.borrow_mut().push_back(job);
    }

    pub fn take_scratch(&self) -> Box<[u8]> {
        self.scratch.take().unwrap_or_else(|| vec![0; SCRATCH_SIZE].into_boxed_slice())
    }

    pub fn return_scratch(&self, scratch: Box<[u8]>) {
        self.scratch.set(Some(scratch));
    }
}

/// A handle to the reactor for futures (asyncio: what `get_running_loop` returns).
///
/// It can be cloned and stored. It does not keep the reactor alive.
#[derive(Clone)]
pub struct LoopHandle {
    local: Weak<Local>,
    remote: Remote,
}

impl LoopHandle {
    /// Calls `f` with the reactor: in this turn, or in the next one if this turn's queue has begun
    /// to run (asyncio: `call_soon`).
    ///
    /// # Errors
    /// [`Stopped`] if the reactor is gone.
    pub fn call_soon(&self, f: impl FnOnce(&mut Reactor) + 'static) -> Result<(), Stopped> {
        self.push(Job::Call(Box::new(f)))
    }

    /// Calls a source from the queue, with [`Ready::NONE`].
    pub(crate) fn dispatch_soon(&self, id: Id) -> Result<(), Stopped> {
        self.push(Job::Dispatch(id, Ready::NONE))
    }

    /// Calls `f` with the reactor's scratch buffer.
    pub(crate) fn with_scratch<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let local = self.local.upgrade().unwrap_or_default();
        let mut scratch = local.take_scratch();
        let result = f(&mut scratch);
        local.return_scratch(scratch);
        result
    }

    /// Returns the [`Remote`] of this reactor, for other threads.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    fn push(&self, job: Job) -> Result<(), Stopped> {
        self.local.upgrade().map(|local| local.push(job)).ok_or(Stopped)
    }
}

impl Reactor {
    /// Returns a handle to this reactor for futures: see [`LoopHandle::spawn`].
    ///
    /// # Errors
    /// As for [`Reactor::remote`].
    pub fn handle(&mut self) -> io::Result<LoopHandle> {
        Ok(LoopHandle { remote: self.remote()?, local: Rc::downgrade(&self.local) })
    }
}

crate::opaque_debug!(LoopHandle);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn empty_queue_keeps_little_memory() {
        let mut reactor = Reactor::new().unwrap();
        (0..100_000).for_each(|_| reactor.call_soon(|_| ()));
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let capacity = reactor.local.queue.borrow().capacity();
        assert!(capacity < 10_000, "{capacity} jobs");
    }
}
