//! What is to happen later, and what time it is.
//!
//! Invariant: what is queued or set here runs in a turn and never at once, so who asks for it is done
//! before it begins.
//!
//! Read next: `timers.rs`.

use std::time::{Duration, Instant};

use super::clock::Clock;
use super::{Id, Job, Reactor, Ready, Timer};

/// About thirty years.
const NEVER: Duration = Duration::from_secs(1_000_000_000);

impl Reactor {
    /// Has a source called with [`Ready::WOKEN`]: in this turn, or in the next if this one's queue
    /// runs already. Several wakes before that are one.
    pub fn wake(&mut self, id: Id) {
        self.enqueue(id, Ready::WOKEN);
    }

    /// Has a source called with nothing new, as if it had returned [`Next::Again`](super::Next::Again).
    pub fn call_again(&mut self, id: Id) {
        self.enqueue(id, Ready::NONE);
    }

    pub(super) fn enqueue(&mut self, id: Id, ready: Ready) {
        if self.slots.queue(id, ready) {
            self.queue.push_back(Job::Wake(id));
        }
    }

    /// Has a source called with [`Ready::DUE`], at `when` or soon after.
    pub fn wake_at(&mut self, when: Instant, id: Id) -> Timer {
        self.timers.set(when, Job::Wake(id))
    }

    /// Calls `f` in this turn, or in the next if this one's queue runs already (asyncio: `call_soon`).
    pub fn call_soon(&mut self, f: impl FnOnce(&mut Reactor) + 'static) {
        self.queue.push_back(Job::Call(Box::new(f)));
    }

    /// Calls `f` at `when` or soon after, never before (asyncio: `call_at`).
    pub fn call_at(&mut self, when: Instant, f: impl FnOnce(&mut Reactor) + 'static) -> Timer {
        self.timers.set(when, Job::Call(Box::new(f)))
    }

    /// Calls `f` after `delay`, counted from this turn's [`now`](Self::now) (asyncio: `call_later`).
    pub fn call_later(&mut self, delay: Duration, f: impl FnOnce(&mut Reactor) + 'static) -> Timer {
        self.call_at(self.after(delay), f)
    }

    /// The time after `delay`. What is too far away for the clock is as good as never.
    pub(crate) fn after(&self, delay: Duration) -> Instant {
        self.now() + delay.min(NEVER)
    }

    /// Takes a timer back. `false`: it ran, or was cancelled, before.
    pub fn cancel(&mut self, timer: Timer) -> bool {
        self.timers.cancel(timer)
    }

    /// The time of this turn: read once, when first asked for (asyncio: `loop.time()`).
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Stops the clock, for tests: from now on it shows `now`, until it is set again.
    pub fn set_now(&mut self, now: Instant) {
        self.clock = Clock::Set(now);
    }

    /// Turns made so far.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Timers that are set.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.timers.len()
    }
}
