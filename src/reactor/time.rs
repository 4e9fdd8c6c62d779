//! Time: the loop's clock, its timers, and what is scheduled on them.
//!
//! Invariants:
//! - Time does not advance while a turn calls sources. The clock is read only if it is needed, at
//!   most once before the poll (if there are timers) and once after it.
//! - A job runs at its deadline or later, never earlier, in the order of the deadlines. Jobs with
//!   equal deadlines run in the order in which they were set.
//! - Nothing that is scheduled here runs immediately; the caller always finishes first. A turn runs
//!   only timers that were set before it began to run timers, so a timer that keeps setting itself
//!   cannot hold the loop.
//!
//! Read next: `mod.rs`, steps 4 and 5 of a turn.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::observe::{Origin, Phase};
use super::{Id, Job, Reactor, Ready};

/// The longest delay that is meaningful, about thirty years: longer ones count as this one, because
/// adding them to the clock could overflow.
pub(crate) const FAR_FUTURE: Duration = Duration::from_secs(1_000_000_000);

/// Identifies a timer that was set, for [`Reactor::cancel`]. After the timer has run, it identifies
/// no timer.
///
/// Like an [`Id`], it is only meaningful for the reactor that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    when: Instant,
    sequence: u64,
}

#[derive(Default)]
pub(super) struct Timers {
    jobs: BTreeMap<Timer, Job>,
    /// How many timers were ever set.
    count: u64,
}

impl Timers {
    fn set(&mut self, when: Instant, job: Job) -> Timer {
        let timer = Timer { when, sequence: self.count };
        self.count += 1;
        self.jobs.insert(timer, job);
        timer
    }

    /// Returns the next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.jobs.first_key_value().map(|(timer, _)| timer.when)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Instant, &Job)> {
        self.jobs.iter().map(|(timer, job)| (timer.when, job))
    }

    /// Returns the timers that are due at `now`, in order.
    fn due(&self, now: Instant) -> Vec<Timer> {
        self.jobs.keys().copied().take_while(|timer| timer.when <= now).collect()
    }
}

pub(super) enum Clock {
    /// The monotonic clock of the system, and the time that this turn has read, if any.
    System(Cell<Option<Instant>>),
    /// A time that a test has set. It does not advance.
    Set(Instant),
}

impl Clock {
    /// Forgets the time that was read, because the loop may have slept since.
    pub fn forget(&self) {
        if let Clock::System(read) = self {
            read.set(None);
        }
    }
}

impl Reactor {
    /// Calls a source with [`Ready::WOKEN`]: in this turn, or in the next one if this turn's queue
    /// has begun to run. Several wake-ups before that call are merged into one.
    ///
    /// Returns `false` if `id` names no source. A connection that is closing is called, but its
    /// protocol gets no callback any more.
    pub fn wake(&mut self, id: Id) -> bool {
        self.enqueue(id, Ready::WOKEN)
    }

    /// Calls a source with [`Ready::NONE`], as if it had returned
    /// [`Next::Again`](super::Next::Again).
    pub(crate) fn call_again(&mut self, id: Id) {
        self.enqueue(id, Ready::NONE);
    }

    pub(crate) fn enqueue(&mut self, id: Id, ready: Ready) -> bool {
        let Some(needs_entry) = self.slots.queue(id, ready) else { return false };
        if needs_entry {
            self.local.push(Job::Queued(id)); // the slot has the bits
        }
        true
    }

    /// Calls a source with [`Ready::WOKEN`] at `when` or soon after, never earlier.
    ///
    /// A source that leaves should [`cancel`](Self::cancel) its timers. A timer whose source has
    /// left stays set until it expires, and then does nothing. Returns `None` if `id` names no
    /// source.
    pub fn wake_at(&mut self, when: Instant, id: Id) -> Option<Timer> {
        self.contains(id).then(|| self.timers.set(when, Job::Dispatch(id, Ready::WOKEN)))
    }

    /// Calls a source of the library with [`Ready::TIMEOUT`] at `when`.
    pub(crate) fn timeout_at(&mut self, when: Instant, id: Id) -> Timer {
        self.timers.set(when, Job::Dispatch(id, Ready::TIMEOUT))
    }

    /// Calls `f` in this turn, or in the next one if this turn's queue has begun to run (asyncio:
    /// `call_soon`).
    pub fn call_soon(&mut self, f: impl FnOnce(&mut Reactor) + 'static) {
        self.local.push(Job::Call(Box::new(f)));
    }

    /// Calls `f` at `when` or soon after, never earlier (asyncio: `call_at`).
    pub fn call_at(&mut self, when: Instant, f: impl FnOnce(&mut Reactor) + 'static) -> Timer {
        self.timers.set(when, Job::Call(Box::new(f)))
    }

    /// Calls `f` after `delay`, counted from this turn's [`now`](Self::now) (asyncio:
    /// `call_later`).
    pub fn call_later(&mut self, delay: Duration, f: impl FnOnce(&mut Reactor) + 'static) -> Timer {
        self.call_at(self.now() + delay.min(FAR_FUTURE), f)
    }

    /// Returns the current time plus `delay`, which is limited to [`FAR_FUTURE`]: the end of a
    /// limit that begins now. The turn's time would be too early, because a callback may have
    /// blocked.
    pub(crate) fn after(&self, delay: Duration) -> Instant {
        self.actual_time() + delay.min(FAR_FUTURE)
    }

    /// Cancels a timer (asyncio: `TimerHandle.cancel`). Returns `false` if it has run or was
    /// cancelled before.
    pub fn cancel(&mut self, timer: Timer) -> bool {
        self.timers.jobs.remove(&timer).is_some()
    }

    /// Returns the time of this turn (asyncio: `loop.time`). The first call in a turn reads the
    /// clock, and later calls return the same time. Between two turns, it returns the current time.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.clock {
            Clock::System(read) if self.events.is_none() => read.get().unwrap_or_else(|| {
                let now = Instant::now();
                read.set(Some(now));
                now
            }),
            _ => self.actual_time(), // between two turns
        }
    }

    /// Returns the current time, even in the middle of a turn.
    pub(crate) fn actual_time(&self) -> Instant {
        match &self.clock {
            Clock::System(_) => Instant::now(),
            Clock::Set(now) => *now,
        }
    }

    /// Returns the time up to which timers may be due, in this turn or in the last one that could
    /// run timers: I/O that was there by then has been handled before a timer runs. The turn's time
    /// may be later, if a callback has blocked.
    pub(crate) fn polled_at(&self) -> Instant {
        self.polled_at
    }

    /// Stops the clock at `now`, for tests. It shows that time until it is set again.
    pub fn set_now(&mut self, now: Instant) {
        self.clock = Clock::Set(now);
    }

    /// Returns how many timers are set.
    #[must_use]
    pub fn timer_count(&self) -> usize {
        self.timers.jobs.len()
    }

    /// Runs the timers that were due at `now`.
    pub(super) fn run_timers(&mut self, now: Instant) {
        for timer in self.timers.due(now) {
            // An earlier timer may have cancelled this one.
            if let Some(job) = self.timers.jobs.remove(&timer) {
                self.run_job(Origin::Timer, job);
                self.step(Phase::Timers);
            }
        }
    }
}
