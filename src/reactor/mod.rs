//! The reactor: one thread, one poll, one slab of sources.
//!
//! ```text
//!            ┌──────────────────────────── a turn ────────────────────────────┐
//!  kernel ──▶│ 1 how long may I sleep?  not at all if something is queued,    │
//!            │                          else until the next timer             │
//!            │ 2 poll                   the only place that blocks            │
//!            │ 3 events                 each to the source that owns it       │
//!            │ 4 the queue              wakes, calls, sources that returned   │
//!            │                          `Again`                               │
//!            │ 5 timers                 those that were due before the poll   │
//!            └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: steps 4 and 5 process only the entries that existed when they began. Entries that a
//! callback adds wait for the next turn, so no source can hold the loop. Timers run last, so I/O
//! that was ready before a deadline is handled before the timer. If a source is in the queue
//! already, an event or a timer does not call it a second time: its bits are added to the queued
//! call.
//!
//! Read next: `sources.rs` (what a source is), `id.rs` (how it is named), `slots.rs` (where it
//! lives), `registration.rs` (which events it gets), `running.rs` (how it is called), `poll.rs`
//! (steps 1 and 2), `time.rs` (what is scheduled), `watch.rs` (the smallest source), then
//! `../transport/connection.rs` (the most important source).

mod id;
mod loop_handle;
pub mod observe;
mod poll;
mod ready;
mod registration;
mod remote;
mod running;
pub(crate) mod signals;
mod slots;
mod sources;
mod time;
mod watch;

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

pub use id::{Handle, Id, Unavailable};
pub use loop_handle::LoopHandle;
pub use ready::Ready;
pub use remote::{Remote, Stopped};
pub use sources::{Next, Source};
pub use time::Timer;

pub(crate) use time::FAR_FUTURE;

use loop_handle::Local;
use observe::{Observer, Origin, Phase, TurnEnd};
use poll::LentEvents;
use registration::Owners;
use running::Running;
use signals::Signals;
use slots::Slots;
use time::{Clock, Timers};

/// Size of the scratch buffer in bytes, and so of the largest read. A smaller buffer means more
/// system calls for the same data.
pub const SCRATCH_SIZE: usize = 256 * 1024;

/// How many events one poll can report. The next poll reports the others.
const EVENT_CAPACITY: usize = 1024;

/// How much capacity, in jobs, the queue keeps after a burst.
const RETAINED_JOBS: usize = 4096;

/// Something to do later.
enum Job {
    Call(Box<dyn FnOnce(&mut Reactor)>),
    /// Call a source with these bits.
    Dispatch(Id, Ready),
    /// Call a source with the bits that are in its slot.
    Queued(Id),
    /// Remove a source that has panicked.
    Remove(Id, Box<dyn Source>),
}

impl Job {
    /// Returns the source that the job calls.
    fn source(&self) -> Option<Id> {
        match self {
            Job::Call(_) => None,
            Job::Dispatch(id, _) | Job::Queued(id) | Job::Remove(id, _) => Some(*id),
        }
    }
}

/// The event loop.
///
/// It belongs to one thread, and the compiler checks that. Other threads use a [`Remote`].
///
/// ```compile_fail,E0277
/// let reactor = echo_reactor::Reactor::new().unwrap();
/// std::thread::spawn(move || drop(reactor)); // a Reactor is not Send
/// ```
///
/// ```
/// use std::time::Duration;
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = echo_reactor::Reactor::new()?;
/// reactor.call_later(Duration::from_millis(5), |reactor| reactor.stop());
/// reactor.run()
/// # }
/// ```
///
/// When the reactor is dropped, it removes all its sources, so [`Source::removed`] is called for
/// each of them. It also removes sources that are added meanwhile, but only for some rounds.
/// Closures that are still queued are dropped without a call. (While the thread unwinds from a
/// panic, sources are dropped without a call, too, and their open connections are reset.)
pub struct Reactor {
    poll: Poll,
    /// `None` while a turn is under way.
    events: Option<Events>,
    /// In a series of polls that fill the event list: when the first one began, and how many events
    /// are left until each source that was ready then has been reported.
    unreported: Option<(Instant, usize)>,
    slots: Slots,
    owners: Owners,
    timers: Timers,
    local: Rc<Local>,
    clock: Clock,
    /// How long to poll before sleeping.
    spin: Duration,
    remote: Option<Remote>,
    signals: Option<Signals>,
    observers: Vec<Box<dyn Observer>>,
    /// A caught panic, which continues at the end of the turn or of the reactor.
    pending_panic: Option<Box<dyn Any + Send>>,
    turn_count: u64,
    /// I/O that was there by then has been handled, see [`polled_at`](Self::polled_at).
    polled_at: Instant,
    stopping: bool,
    /// Whether a source is called, so that no turn may begin.
    is_running: bool,
    /// While [`Source::removed`] is called: the sources that have left meanwhile.
    leaving: Option<VecDeque<(Id, Box<dyn Source>)>>,
}

impl Reactor {
    /// Creates a reactor without sources.
    ///
    /// # Errors
    /// If there is no descriptor left for an epoll instance: see `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Reactor {
            poll: Poll::new()?,
            events: Some(Events::with_capacity(EVENT_CAPACITY)),
            unreported: None,
            slots: Slots::default(),
            owners: Owners::default(),
            timers: Timers::default(),
            local: Rc::default(),
            clock: Clock::System(Cell::new(None)),
            spin: Duration::ZERO,
            remote: None,
            signals: None,
            observers: Vec::new(),
            pending_panic: None,
            turn_count: 0,
            polled_at: Instant::now(),
            stopping: false,
            is_running: false,
            leaving: None,
        })
    }

    // ---- running

    /// Runs turns until [`stop`](Self::stop) is called (asyncio: `run_forever`).
    ///
    /// # Errors
    /// If the poll fails, or if this is called while a turn or a source of this reactor is running.
    pub fn run(&mut self) -> io::Result<()> {
        self.run_while(|| true)
    }

    /// Runs turns until [`stop`](Self::stop) is called or `goes_on` returns `false`.
    pub(crate) fn run_while(&mut self, goes_on: impl Fn() -> bool) -> io::Result<()> {
        self.check_not_running()?;
        while goes_on() && !self.stopping {
            self.turn(None)?;
        }
        self.stopping = false;
        Ok(())
    }

    /// Runs turns until `done` returns `true`, or until `limit` has elapsed on the system clock.
    /// Returns what `done` returned last. One more turn handles I/O that was ready before the
    /// limit, within the budgets. A call of [`stop`](Self::stop) ends neither this call nor the
    /// next [`run`](Self::run).
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Reactor) -> bool,
    ) -> io::Result<bool> {
        self.check_not_running()?;
        let deadline = Instant::now() + limit.min(FAR_FUTURE);
        let mut is_late = false;
        loop {
            let is_done = done(self);
            self.stopping = false;
            if is_done || is_late {
                return Ok(is_done);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            is_late = left.is_zero(); // one more turn handles the I/O that is ready
            self.turn(Some(left))?;
        }
    }

    /// Fails if a turn or a source is running. Otherwise a nested run could take the `stop` of the
    /// run around it.
    fn check_not_running(&self) -> io::Result<()> {
        if self.is_running || self.events.is_none() { Err(running_already()) } else { Ok(()) }
    }

    /// Makes [`run`](Self::run) return after the current turn. Between two turns, it makes the next
    /// `run` return without a turn.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Runs one turn. It sleeps for no longer than `at_most`. With `None`, it sleeps until an event
    /// or the next timer.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn turn(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        let Some(mut events) = self.events.take_if(|_| !self.is_running) else {
            return Err(running_already());
        };
        events.clear(); // those of the last turn
        let mut lent = LentEvents { reactor: self, events, dispatched: 0 };
        let LentEvents { reactor, events, dispatched } = &mut lent;
        reactor.step(Phase::Timeout);
        let due = reactor.poll_events(events, at_most)?;
        reactor.turn_count += 1;
        let began = reactor.is_observed().then(Instant::now);
        reactor.step(Phase::Poll);
        for event in &*events {
            *dispatched += 1;
            reactor.dispatch_event(event);
            reactor.step(Phase::Events);
        }
        reactor.run_queue();
        if let Some(due) = due {
            reactor.run_timers(due);
        }
        if let Some(began) = began {
            let turn = TurnEnd { number: reactor.turn_count, began, ended: Instant::now() };
            reactor.notify(|observer, _| observer.on_turn_end(&turn));
        }
        if let Some(panic) = reactor.pending_panic.take() {
            resume_unwind(panic);
        }
        Ok(())
    }

    /// Returns how many turns have been run so far.
    #[must_use]
    pub fn turn_count(&self) -> u64 {
        self.turn_count
    }

    fn dispatch_event(&mut self, event: &mio::event::Event) {
        if event.token() == remote::TOKEN {
            self.queue_remote_jobs();
        } else {
            self.dispatch(Id::from_token(event.token()), Ready::from(event));
        }
    }

    fn run_queue(&mut self) {
        let count = self.local.queue.borrow().len();
        for _ in 0..count {
            let job = self.local.queue.borrow_mut().pop_front();
            if let Some(job) = job {
                self.run_job(Origin::Queue, job);
                self.step(Phase::Queue);
            }
        }
        let mut queue = self.local.queue.borrow_mut();
        if queue.capacity() > RETAINED_JOBS && queue.len() < queue.capacity() / 8 {
            queue.shrink_to(RETAINED_JOBS);
        }
    }

    fn run_job(&mut self, origin: Origin, job: Job) {
        match job {
            Job::Call(call) => self.call(origin, call),
            Job::Dispatch(id, ready) => self.dispatch(id, ready),
            Job::Queued(id) => {
                if let Some(ready) = self.slots.take_queued(id) {
                    self.dispatch(id, ready);
                }
            }
            Job::Remove(id, source) => self.remove_panicked(id, source),
        }
    }

    /// Calls a source with `ready`. If a call of it is queued, adds `ready` to that call instead.
    pub(crate) fn dispatch(&mut self, id: Id, ready: Ready) {
        let Some(source) = self.slots.take_out_or_queue(id, ready) else { return };
        let returned = Running::new(self, id, source).run(|source, reactor| {
            if reactor.is_observed() {
                reactor.run_observed(source, id, ready)
            } else {
                source.ready(id, ready, reactor)
            }
        });
        match returned {
            Some((Next::Again, true)) => self.call_again(id),
            Some((Next::Done, true)) => drop(self.remove(id)),
            _ => {}
        }
    }

    /// Calls `f` with the scratch buffer of [`SCRATCH_SIZE`] bytes. One buffer serves all sources,
    /// because only one runs at a time, so an idle connection owns none. A nested call gets a
    /// buffer of its own.
    pub fn with_scratch<R>(&mut self, f: impl FnOnce(&mut Reactor, &mut [u8]) -> R) -> R {
        let mut scratch = self.local.take_scratch();
        let result = f(self, &mut scratch);
        self.local.return_scratch(scratch);
        result
    }
}

fn running_already() -> io::Error {
    io::Error::other("a turn or a source of this reactor is running already")
}

crate::opaque_debug!(Reactor);
