//! Sources: the trait, and how a source is added, reached and removed.
//!
//! Invariant: a source is notified when it leaves the reactor. However it ends (it returned `Done`,
//! was removed, or the reactor is dropped), [`Source::removed`] is called once, so that it can
//! release what it holds elsewhere: timers, a place among a listener's connections, the
//! registration of a descriptor that stays open.
//!
//! Read next: `slots.rs`, where sources live; `registration.rs`, how they get events.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use mio::Interest;

use super::observe::{ConnectionState, IoStats};
use super::{Handle, Id, Job, Reactor, Ready, Running, Unavailable};

/// How many times a dropped reactor removes all sources: a source may add another one when it is
/// removed.
const REMOVAL_ROUNDS: usize = 8;

/// A state machine that the loop calls when its descriptor is ready, or when it is woken.
///
/// Most programs need none of their own: they implement [`Protocol`](crate::Protocol), or pass a
/// closure to [`Reactor::watch`].
pub trait Source: Any {
    /// Called when the source is ready; the bits of `ready` are the reason. The source may do
    /// anything to the reactor and to other sources. It is out of its slot meanwhile, so it cannot
    /// be called a second time.
    ///
    /// Events are edge-triggered. The source goes on until a system call returns `WouldBlock` (then
    /// it returns [`Next::Wait`]) or its budget is used up (then [`Next::Again`]).
    ///
    /// If it panics and the caller of the loop catches that, the source is removed in the next
    /// turn.
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next;

    /// Called once when the source has left the reactor, for whatever reason, to release what the
    /// source holds elsewhere. `id` no longer names a source.
    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        let _ = (id, reactor);
    }

    /// Returns the name of the source's type, for observers.
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Returns the counters of the source, for observers.
    fn stats(&self) -> Option<IoStats> {
        None
    }

    /// Returns the state of the connection, if the source is one, for observers.
    fn connection_state(&self) -> Option<ConnectionState> {
        None
    }
}

/// What a source returns from a call: what the loop does with it next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call me when something changes.
    Wait,
    /// I stopped before `WouldBlock`: call me again after the other sources.
    Again,
    /// I am finished: remove me.
    Done,
}

impl Reactor {
    /// Adds a source that owns a descriptor (asyncio: `add_reader` and `add_writer` at once).
    ///
    /// # Errors
    /// `PermissionDenied` for a descriptor that epoll refuses, such as a regular file; otherwise as
    /// in `epoll_ctl(2)`.
    pub fn add<T: Source + AsFd>(&mut self, source: T, interest: Interest) -> io::Result<Handle<T>> {
        let id = self.reserve(&source, interest)?;
        Ok(self.install(id, source))
    }

    /// Reserves the slot of a source that will own `descriptor`.
    pub(crate) fn reserve(&mut self, descriptor: &impl AsFd, interest: Interest) -> io::Result<Id> {
        let descriptor = descriptor.as_fd(); // a user's `as_fd` may panic
        let id = self.slots.reserve();
        if let Err(error) = self.register(id, &descriptor, interest) {
            self.slots.vacate(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Adds a source without a descriptor: a mailbox, or one that will [`register`](Self::register)
    /// its descriptors.
    pub fn insert<T: Source>(&mut self, source: T) -> Handle<T> {
        let id = self.slots.reserve();
        self.install(id, source)
    }

    /// Puts a source in its slot. If a source is running there, the new one replaces it, with the
    /// same [`Id`] and the same registrations, and the old one is dropped when it returns. (This is
    /// how a connector becomes a connection.)
    pub(crate) fn install<T: Source>(&mut self, id: Id, source: T) -> Handle<T> {
        let handle = Handle::new(id);
        // This fails only if the slot was vacated meanwhile. Then the handle finds nothing.
        drop(self.slots.put_back(id, Box::new(source)));
        if self.is_observed()
            && let Ok(source) = self.get::<T>(handle)
        {
            let (type_name, stats, now) = (source.type_name(), source.stats(), Instant::now());
            self.notify(|observer, _| observer.on_added(id, type_name, stats, now));
        }
        handle
    }

    /// Removes a source, calls [`Source::removed`] for it, and drops it. If the source is running,
    /// the call and the drop wait until it returns. If another source is in its own `removed`, they
    /// wait until that returns. Until then its descriptors stay open and registered: add another
    /// source for the same descriptor or address later, for example from
    /// [`call_soon`](Self::call_soon). Returns `false` if `id` names no source.
    ///
    /// Removing a connection aborts it. To end it gracefully, use
    /// [`Transport::close`](crate::Transport::close). A connection that removes itself can write
    /// until its callback returns.
    pub fn remove(&mut self, id: Id) -> bool {
        if !self.contains(id) {
            return false;
        }
        let source = self.slots.vacate(id);
        if self.is_observed() {
            let now = Instant::now();
            self.notify(|observer, _| observer.on_removed(id, now));
        }
        if let Some(source) = source {
            self.leave(id, source);
        }
        true
    }

    /// Calls [`Source::removed`], but never inside another such call. Otherwise a chain of sources,
    /// each of which removes the next one, could overflow the stack.
    pub(super) fn leave(&mut self, id: Id, source: Box<dyn Source>) {
        if let Some(leaving) = &mut self.leaving {
            return leaving.push_back((id, source));
        }
        self.leaving = Some(VecDeque::new());
        let is_nested = mem::replace(&mut self.is_running, true);
        let (mut next, mut panicked) = (Some((id, source)), None);
        while let Some((id, mut source)) = next {
            let remove = || {
                source.removed(id, self);
                drop(source); // a destructor may panic, too
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(remove)) {
                mem::forget(panicked.replace(panic)); // the destructor of a panic may panic
            }
            next = self.leaving.as_mut().and_then(VecDeque::pop_front);
        }
        self.is_running = is_nested;
        self.leaving = None;
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    /// Removes a source whose panic was caught.
    pub(super) fn remove_panicked(&mut self, id: Id, source: Box<dyn Source>) {
        if self.slots.is_running(id) {
            self.remove(id); // otherwise it was removed or replaced before it panicked
        }
        self.leave(id, source);
    }

    /// Returns whether a source is called.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Calls `f`, and returns whether it returned. If it panics, the panic continues at the end of
    /// the turn or of the reactor.
    pub(super) fn catch_panic(&mut self, f: impl FnOnce(&mut Reactor)) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| f(self)));
        result.map_err(|panic| mem::forget(self.pending_panic.replace(panic))).is_ok()
    }

    /// Calls `f` with a source, which is out of its slot meanwhile.
    ///
    /// # Errors
    /// If the source cannot be reached; the error says why.
    pub fn with<T: Source, R>(
        &mut self,
        handle: Handle<T>,
        f: impl FnOnce(&mut T, &mut Reactor) -> R,
    ) -> Result<R, Unavailable> {
        let id = handle.id();
        self.slots.get::<T>(id)?; // checks the type before the source is moved
        let source = self.slots.take_out(id).ok_or(Unavailable::Running)?;
        Running::new(self, id, source)
            .run(|source, reactor| (source as &mut dyn Any).downcast_mut().map(|source| f(source, reactor)))
            .and_then(|(result, _)| result)
            .ok_or(Unavailable::WrongType)
    }

    /// Returns a reference to a source.
    ///
    /// # Errors
    /// If the source cannot be reached; the error says why.
    pub fn get<T: Source>(&self, handle: Handle<T>) -> Result<&T, Unavailable> {
        self.slots.get(handle.id())
    }

    /// Returns a mutable reference to a source.
    ///
    /// # Errors
    /// If the source cannot be reached; the error says why.
    pub fn get_mut<T: Source>(&mut self, handle: Handle<T>) -> Result<&mut T, Unavailable> {
        self.slots.get_mut(handle.id())
    }

    /// Returns the handles of all sources of one type that are not running: all connections, for
    /// example.
    #[must_use]
    pub fn handles<T: Source>(&self) -> Vec<Handle<T>> {
        self.slots.handles_of().collect()
    }

    /// Returns whether `id` still names a source.
    #[must_use]
    pub fn contains(&self, id: Id) -> bool {
        self.slots.contains(id)
    }

    /// Returns how many sources there are.
    #[must_use]
    pub fn source_count(&self) -> usize {
        self.slots.len()
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.catch_panic(Reactor::close_remote);
        self.events = None; // no turn from here on
        self.leaving = None;
        // Not while unwinding: a second panic, in a callback, would abort the process.
        if std::thread::panicking() {
            return;
        }
        // A source that is removed may add others, so repeat this. The limit ends an endless chain.
        for _ in 0..REMOVAL_ROUNDS {
            let jobs = mem::take(&mut *self.local.queue.borrow_mut());
            for job in jobs {
                match job {
                    Job::Remove(id, source) => {
                        self.catch_panic(|reactor| reactor.remove_panicked(id, source));
                    }
                    other => self.local.push(other),
                }
            }
            let ids: Vec<Id> = self.slots.ids().collect();
            for id in ids {
                self.catch_panic(|reactor| _ = reactor.remove(id));
            }
        }
        if let Some(panic) = self.pending_panic.take() {
            resume_unwind(panic);
        }
    }
}
