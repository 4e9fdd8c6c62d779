//! Registration: which source gets the events of a descriptor.
//!
//! Invariant: a source deregisters only what it has registered. epoll keeps one registration for
//! each descriptor, and removes it whoever asks. So the reactor remembers the source, by the
//! descriptor's number. The entry of a closed descriptor stays until the number is used again: it
//! is harmless, because closing has deregistered it.
//!
//! Read next: `ready.rs`, what the events become.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use mio::Interest;
use mio::unix::SourceFd;

use super::slots::Slots;
use super::{Id, Reactor, Unavailable};

/// Names no source: occupied slots have even generations.
const NOBODY: Id = Id { slot: u32::MAX, generation: u32::MAX };

/// The source that registered a descriptor last, by the descriptor's number.
#[derive(Default)]
pub(super) struct Owners(RefCell<Vec<Id>>);

impl Owners {
    fn set(&self, fd: RawFd, id: Id) {
        let index = usize::try_from(fd).unwrap_or(0); // an open descriptor is never negative
        let mut owners = self.0.borrow_mut();
        if index >= owners.len() {
            owners.resize(index + 1, NOBODY);
        }
        owners[index] = id;
    }

    /// Forgets the owner if it is `id`. Returns whether it was.
    fn take(&self, fd: RawFd, id: Id) -> bool {
        let mut owners = self.0.borrow_mut();
        let owner = usize::try_from(fd).ok().and_then(|index| owners.get_mut(index));
        owner.filter(|owner| **owner == id).map(|owner| *owner = NOBODY).is_some()
    }

    /// Returns how many descriptors may report events, or a few more: those of closed descriptors
    /// whose source has not left.
    pub fn count(&self, slots: &Slots) -> usize {
        self.0.borrow().iter().filter(|id| slots.contains(**id)).count()
    }
}

impl Reactor {
    /// Registers a descriptor for a source, edge-triggered. Register it once, with every interest
    /// that the source will ever have.
    ///
    /// Closing the descriptor deregisters it, unless another process or a duplicate keeps it open:
    /// then [`deregister`](Self::deregister) it in [`Source::removed`](super::Source::removed).
    ///
    /// # Errors
    /// `NotFound` if there is no such source; otherwise as for [`add`](Self::add).
    pub fn register(&self, id: Id, descriptor: &impl AsFd, interest: Interest) -> io::Result<()> {
        let fd = descriptor.as_fd().as_raw_fd();
        self.check(id)?;
        self.poll.registry().register(&mut SourceFd(&fd), id.token(), interest)?;
        self.owners.set(fd, id);
        Ok(())
    }

    /// Changes the interest of a registered descriptor, and the source that gets its events.
    /// Readiness that exists already is reported again.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    pub fn reregister(&self, id: Id, descriptor: &impl AsFd, interest: Interest) -> io::Result<()> {
        let fd = descriptor.as_fd().as_raw_fd();
        self.check(id)?;
        self.poll.registry().reregister(&mut SourceFd(&fd), id.token(), interest)?;
        self.owners.set(fd, id);
        Ok(())
    }

    /// Deregisters a descriptor that stays open. `id` names the source that registered it, which
    /// may have left.
    ///
    /// # Errors
    /// `NotFound` if the descriptor is not registered for that source; otherwise as in
    /// `epoll_ctl(2)`.
    pub fn deregister(&self, id: Id, descriptor: &impl AsFd) -> io::Result<()> {
        let fd = descriptor.as_fd().as_raw_fd();
        if !self.owners.take(fd, id) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is not registered for this source"));
        }
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    fn check(&self, id: Id) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, Unavailable::Gone);
        self.contains(id).then_some(()).ok_or_else(gone)
    }
}
