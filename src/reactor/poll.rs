//! How the loop waits: steps 1 and 2 of a turn.
//!
//! Invariants:
//! - This is the only place that blocks. It blocks until the next timer at most, and not at all
//!   while something is queued.
//! - **Pending I/O is handled before a deadline.** Timers that are due when the poll begins run
//!   after its events and the queue, and only if it reported everything that was ready. So a
//!   program that was stopped, or whose machine was suspended, handles its sockets first. (A timer
//!   that expires during the sleep runs in the next turn, which does not sleep.)
//!
//! Read next: `ready.rs`, what the events become.

use std::io;
use std::time::{Duration, Instant};

use mio::Events;

use super::observe::PollEnd;
use super::time::Clock;
use super::{EVENT_CAPACITY, Id, Reactor, remote};
use crate::sys;

impl Reactor {
    /// Makes the loop busy-poll for this long before each sleep. Off ([`Duration::ZERO`]) by
    /// default.
    ///
    /// This trades CPU for latency: putting a thread to sleep and waking it takes several
    /// microseconds, which is most of a round trip on one machine when there is one message at a
    /// time. It pays if there is a core to spare and the gaps between messages are short. It hurts
    /// if the loop shares its core, for example with its peer, and gains nothing under load,
    /// because a busy loop does not sleep anyway.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    /// Polls. If timers may run in this turn, returns the time up to which they may be due: every
    /// source that was ready by then has been reported.
    pub(super) fn poll_events(
        &mut self,
        events: &mut Events,
        at_most: Option<Duration>,
    ) -> io::Result<Option<Instant>> {
        self.clock.forget();
        let began = self.timers.next().map(|_| self.now());
        let timeout = match (self.time_to_sleep(), at_most) {
            (Some(own), Some(given)) => Some(own.min(given)),
            (own, given) => own.or(given),
        };
        let observed = self.is_observed().then(Instant::now);
        let mut polled = if self.spin.is_zero() {
            self.poll.poll(events, timeout)
        } else {
            self.spin_then_sleep(events, timeout)
        };
        // A signal interrupted the poll. The signal handler has written to the signal pipe, so poll
        // again to get that event in this turn.
        while polled.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            polled = self.poll.poll(events, Some(Duration::ZERO));
        }
        self.clock.forget();
        polled?;
        let count = events.iter().count();
        if let Some(began) = observed {
            let end = PollEnd { began, ended: Instant::now(), timeout, events: count };
            self.notify(|observer, _| observer.on_poll(&end));
            for event in &*events {
                let id = (event.token() != remote::TOKEN).then(|| Id::from_token(event.token()));
                self.notify(|observer, _| observer.on_event(id, event.into()));
            }
        }
        let due = self.all_reported_since(began, count);
        self.polled_at = due.unwrap_or(self.polled_at);
        Ok(due)
    }

    /// Returns the begin of a poll, if every source that was ready at that time has been reported.
    /// A poll that fills the event list leaves the rest for the next one. The kernel reports ready
    /// sources in rotation. So after as many events as all descriptors together can have, each
    /// source has been reported that was ready at the first of these polls.
    fn all_reported_since(&mut self, began: Option<Instant>, count: usize) -> Option<Instant> {
        let series = self.unreported.take();
        let began = began?; // without a timer, nobody asks
        if count < EVENT_CAPACITY {
            return Some(began);
        }
        let (first, left) = series.unwrap_or_else(|| {
            let descriptors = self.owners.count(&self.slots) + 1; // and the waker of other threads
            (began, descriptors * sys::EVENTS_PER_DESCRIPTOR)
        });
        if left > count {
            self.unreported = Some((first, left - count));
            return None;
        }
        Some(first)
    }

    fn spin_then_sleep(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let began = Instant::now();
        let spin = timeout.map_or(self.spin, |timeout| timeout.min(self.spin));
        while began.elapsed() < spin {
            self.poll.poll(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                return Ok(());
            }
        }
        self.poll.poll(events, timeout.map(|timeout| timeout.saturating_sub(began.elapsed())))
    }

    /// Returns how long the poll may sleep. `None` means without limit. `mio` rounds up to whole
    /// milliseconds, so that no timer runs early.
    fn time_to_sleep(&self) -> Option<Duration> {
        if !self.local.queue.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.next()?;
        match self.clock {
            Clock::System(_) => Some(deadline.saturating_duration_since(self.now())),
            // A clock that a test has set does not advance.
            Clock::Set(now) => (deadline <= now).then_some(Duration::ZERO),
        }
    }
}

/// The event list while a turn uses it. On drop it returns to the reactor, whether the turn has
/// returned or panicked. Events that were not dispatched are queued, because the kernel does not
/// report them again.
pub(super) struct LentEvents<'a> {
    pub reactor: &'a mut Reactor,
    pub events: Events,
    pub dispatched: usize,
}

impl Drop for LentEvents<'_> {
    fn drop(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in events.iter().skip(self.dispatched) {
            if event.token() == remote::TOKEN {
                self.reactor.queue_remote_jobs();
            } else {
                self.reactor.enqueue(Id::from_token(event.token()), event.into());
            }
        }
        self.reactor.events = Some(events);
    }
}
