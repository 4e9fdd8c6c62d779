//! Observability: observers are notified of each action of the loop.
//!
//! Invariant: observers never change what the loop does. They receive values and a shared reference
//! to the reactor. Without observers, the cost is one check for an empty list, and no timestamp is
//! taken.
//!
//! Read next: `../timeline/mod.rs`, which writes all of it to a file.

use std::time::{Duration, Instant};

use super::{Id, Job, Next, Reactor, Ready, Source};
use crate::net::Address;

/// An observer of the loop, notified of each action after it is done (asyncio: the debug mode).
///
/// ```
/// use echo_reactor::Reactor;
/// use echo_reactor::observe::{Observer, PollEnd};
/// # fn main() -> std::io::Result<()> {
/// struct Sleeps;
/// impl Observer for Sleeps {
///     fn on_poll(&mut self, poll: &PollEnd) {
///         println!("slept for {:?}, {} events", poll.ended - poll.began, poll.events);
///     }
/// }
/// let mut reactor = Reactor::new()?;
/// reactor.add_observer(Sleeps);
/// reactor.call_soon(Reactor::stop);
/// reactor.run()
/// # }
/// ```
#[allow(unused_variables)] // by the defaults
pub trait Observer {
    /// Called when the loop has polled, and perhaps slept.
    fn on_poll(&mut self, poll: &PollEnd) {}

    /// Called for each event that the poll has reported. `id` is its source (`None`: a
    /// [`Remote`](super::Remote)). The source is called later in the turn, if it is still there.
    fn on_event(&mut self, id: Option<Id>, ready: Ready) {}

    /// Called when a source has returned from a call.
    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {}

    /// Called when a closure has returned.
    fn on_callback(&mut self, callback: &CallbackEnd) {}

    /// Called when a source was added.
    fn on_added(&mut self, id: Id, type_name: &'static str, stats: Option<IoStats>, at: Instant) {}

    /// Called when a source was removed.
    fn on_removed(&mut self, id: Id, at: Instant) {}

    /// Called when a turn has ended.
    fn on_turn_end(&mut self, turn: &TurnEnd) {}

    /// Called between two calls, when no source is running: when a turn begins
    /// ([`Phase::Timeout`]), after the poll, and after each event, entry of the queue and timer.
    /// The loop is blocked until it returns.
    fn on_step(&mut self, phase: Phase, reactor: &Reactor) {}
}

/// The parts of a turn, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// How long may the loop sleep?
    Timeout,
    /// The poll.
    Poll,
    /// The events of the poll.
    Events,
    /// The queue.
    Queue,
    /// The timers that were due before the poll.
    Timers,
}

/// A slot of the slab.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Slot {
    /// The slot and its generation. If the slot is vacant, the id names no source.
    pub id: Id,
    /// The type of the source. `None`: the slot is vacant, or its source is running.
    pub type_name: Option<&'static str>,
    /// The call that is queued for the source, if any.
    pub queued: Option<Ready>,
    /// The state of the connection, if the source is one.
    pub connection: Option<ConnectionState>,
}

/// The two directions of a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionState {
    /// The address of the peer.
    pub peer: Option<Address>,
    /// The readiness that is remembered.
    pub ready: Ready,
    /// The read half: `open`, `paused`, `discarding` or `eof`.
    pub read: &'static str,
    /// The write half: `open`, `draining`, `shutdown` or `broken`.
    pub write: &'static str,
    /// The counters.
    pub stats: IoStats,
    /// The high-water mark of the write buffer.
    pub high: usize,
    /// The low-water mark of the write buffer.
    pub low: usize,
}

/// The counters of a source, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes in the write buffer.
    pub buffered: usize,
    /// Whether writing is paused, because the peer reads too slowly.
    pub backpressured: bool,
}

impl IoStats {
    /// Returns how many bytes were received and sent since `earlier`. A source that has reset its
    /// counters meanwhile counts as one that moved nothing.
    #[must_use]
    pub fn moved_since(&self, earlier: &IoStats) -> (u64, u64) {
        let received = self.bytes_in.saturating_sub(earlier.bytes_in);
        (received, self.bytes_out.saturating_sub(earlier.bytes_out))
    }
}

/// A poll, and the sleep in it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PollEnd {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The longest time that it was allowed to sleep. `None`: no limit.
    pub timeout: Option<Duration>,
    /// How many events it reported.
    pub events: usize,
}

/// One call of a source.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DispatchEnd {
    /// The source.
    pub id: Id,
    /// The name of its type.
    pub type_name: &'static str,
    /// Why it was called.
    pub ready: Ready,
    /// What it returned.
    pub next: Next,
    /// When the call began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Its counters before the call, and after it.
    pub stats: Option<(IoStats, IoStats)>,
}

/// Where a closure was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A timer: [`Reactor::call_later`], [`Reactor::call_at`].
    Timer,
    /// The queue: [`Reactor::call_soon`], or [`Remote::call`](super::Remote::call).
    Queue,
}

/// One call of a closure.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallbackEnd {
    /// Where the closure was scheduled.
    pub origin: Origin,
    /// When the call began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// A whole turn, without the sleep.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TurnEnd {
    /// The number of the turn. The first one is 1.
    pub number: u64,
    /// When the poll had ended.
    pub began: Instant,
    /// When the turn was done.
    pub ended: Instant,
}

impl Reactor {
    /// Notifies `observer` of everything that the loop does from now on. An observer that panics is
    /// removed, and its panic continues at the end of the turn, or of the next one.
    pub fn add_observer(&mut self, observer: impl Observer + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// Returns the slots of the slab, including the vacant ones.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter()
    }

    /// Returns the slot of a source, or `None` if the source is gone.
    #[must_use]
    pub fn slot(&self, id: Id) -> Option<Slot> {
        self.slots.describe(id)
    }

    /// Returns the timers in the order of their deadlines: each with the source that it will call
    /// (`None`: a closure).
    pub fn timers(&self) -> impl Iterator<Item = (Instant, Option<Id>)> {
        self.timers.iter().map(|(when, job)| (when, job.source()))
    }

    /// Returns the entries of the queue in their order: for each, the source that it will call
    /// (`None`: a closure).
    #[must_use]
    pub fn queue(&self) -> Vec<Option<Id>> {
        self.local.queue.borrow().iter().map(Job::source).collect()
    }

    /// Notifies the observers that the loop is between two calls.
    #[inline]
    pub(super) fn step(&mut self, phase: Phase) {
        if self.is_observed() {
            self.notify(|observer, reactor| observer.on_step(phase, reactor));
        }
    }

    pub(super) fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Calls `event` with each observer. One that panics is removed. Its panic continues when the
    /// turn has ended, because here it could interrupt any other action.
    pub(super) fn notify(&mut self, mut event: impl FnMut(&mut dyn Observer, &Reactor)) {
        for _ in 0..self.observers.len() {
            let mut observer = self.observers.remove(0);
            if self.catch_panic(|reactor| event(observer.as_mut(), reactor)) {
                self.observers.push(observer);
            }
        }
    }

    pub(super) fn run_observed(&mut self, source: &mut dyn Source, id: Id, ready: Ready) -> Next {
        let (began, before) = (Instant::now(), source.stats());
        let next = source.ready(id, ready, self);
        // A source that was removed while it ran has already been reported as removed.
        let stats = before.zip(source.stats()).filter(|_| self.slots.contains(id));
        let type_name = source.type_name();
        let dispatch = DispatchEnd { id, type_name, ready, next, began, ended: Instant::now(), stats };
        self.notify(|observer, _| observer.on_dispatch(&dispatch));
        next
    }

    pub(super) fn call(&mut self, origin: Origin, f: impl FnOnce(&mut Reactor)) {
        let began = self.is_observed().then(Instant::now);
        f(self);
        if let Some(began) = began {
            let callback = CallbackEnd { origin, began, ended: Instant::now() };
            self.notify(|observer, _| observer.on_callback(&callback));
        }
    }
}
