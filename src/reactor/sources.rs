//! Adding sources, finding them, and letting them go.
//!
//! Invariant: a descriptor is registered once, for all that will ever be of interest, and leaves epoll
//! either by being closed with its source or, where it lives on, by being deregistered.
//!
//! Read next: `slots.rs`, where they live.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Instant;

use mio::Interest;
use mio::unix::SourceFd;

use super::{Handle, Id, Reactor, Source};

impl Reactor {
    /// Adds a source that owns a descriptor (asyncio: `add_reader` and `add_writer` at once).
    ///
    /// The source must be the only owner: closing the descriptor when the source is dropped is what
    /// takes it out of epoll, and saves a system call. For a descriptor that lives on (stdin, a
    /// duplicate), use [`add_lent`](Self::add_lent).
    ///
    /// # Errors
    /// `PermissionDenied` for what epoll does not take (a regular file), else as in `epoll_ctl(2)`.
    pub fn add<T: Source + AsFd>(&mut self, source: T, interest: Interest) -> io::Result<Handle<T>> {
        let id = self.slots.reserve();
        if let Err(error) = self.attach(id, &source, interest) {
            self.slots.vacate(id);
            return Err(error);
        }
        Ok(self.settle_in(id, source))
    }

    /// Adds a source whose descriptor outlives it: it is deregistered when the source goes.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn add_lent<T: Source + AsFd>(&mut self, source: T, interest: Interest) -> io::Result<Handle<T>> {
        let fd = source.as_fd().as_raw_fd();
        let handle = self.add(source, interest)?;
        self.lend(handle.id(), fd);
        Ok(handle)
    }

    /// Adds a source without a descriptor: a mailbox, or one that will [`attach`](Self::attach) its
    /// descriptors.
    pub fn insert<T: Source>(&mut self, source: T) -> Handle<T> {
        let id = self.slots.reserve();
        self.settle_in(id, source)
    }

    /// Registers one more descriptor for a source. It must be owned by that source alone, as in
    /// [`add`](Self::add), and registered once, for all that will ever be of interest.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn attach(&self, id: Id, descriptor: &impl AsFd, interest: Interest) -> io::Result<()> {
        let fd = descriptor.as_fd().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), id.token(), interest)
    }

    /// Notes a descriptor to be deregistered when its source goes.
    pub(super) fn lend(&mut self, id: Id, fd: RawFd) {
        self.lent.insert((id, fd));
    }

    /// Deregisters one that [`lend`](Self::lend) noted.
    pub(super) fn take_back(&mut self, id: Id, fd: RawFd) {
        if self.lent.remove(&(id, fd))
            && let Err(error) = self.poll.registry().deregister(&mut SourceFd(&fd))
        {
            log::debug!("source {id}: cannot deregister its descriptor: {error}");
        }
    }

    /// Puts another source in the place of the one that is running: same [`Id`], same descriptors.
    /// The old one is dropped when it returns. (A connector becomes the connection.)
    pub fn replace<T: Source>(&mut self, running: Id, by: T) -> Handle<T> {
        self.settle_in(running, by)
    }

    fn settle_in<T: Source>(&mut self, id: Id, source: T) -> Handle<T> {
        if self.is_observed() {
            let (kind, activity, now) = (source.kind(), source.activity(), Instant::now());
            self.tell(|observer| observer.added(id, kind, activity, now));
        }
        // An error would mean that the slot is no longer ours; then the handle is simply stale.
        drop(self.slots.put_back(id, Box::new(source)));
        Handle::new(id)
    }

    /// Removes a source and drops it, or lets it be dropped as soon as it returns. It is told
    /// nothing: a connection is ended with [`Transport::close`](crate::Transport::close) or
    /// [`abort`](crate::Transport::abort) instead. A stale `id` is ignored.
    pub fn remove(&mut self, id: Id) {
        while let Some(&(_, fd)) = self.lent.range((id, RawFd::MIN)..=(id, RawFd::MAX)).next() {
            self.take_back(id, fd);
        }
        if self.is_observed() && self.slots.contains(id) {
            let now = Instant::now();
            self.tell(|observer| observer.removed(id, now));
        }
        drop(self.slots.vacate(id));
    }

    /// Calls `f` with a source, which is out of its slot meanwhile. `None`: it is gone, it is
    /// running, or it is of another type.
    pub fn with<T: Source, R>(
        &mut self,
        of: Handle<T>,
        f: impl FnOnce(&mut T, &mut Reactor) -> R,
    ) -> Option<R> {
        self.get_mut(of)?; // the type, before anything moves
        let mut source = self.slots.take_out(of.id())?;
        let result = (source.as_mut() as &mut dyn Any).downcast_mut().map(|source| f(source, self));
        drop(self.slots.put_back(of.id(), source));
        result
    }

    /// Looks at a source. `None` as for [`with`](Self::with).
    pub fn get_mut<T: Source>(&mut self, of: Handle<T>) -> Option<&mut T> {
        self.slots.get_mut(of.id())
    }

    /// The addresses of all sources of one type that are not running: all connections, say.
    #[must_use]
    pub fn all<T: Source>(&self) -> Vec<Handle<T>> {
        self.slots.all_of().collect()
    }

    /// Whether `id` still names a source.
    #[must_use]
    pub fn contains(&self, id: Id) -> bool {
        self.slots.contains(id)
    }

    /// How many sources there are.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.slots.len()
    }
}
