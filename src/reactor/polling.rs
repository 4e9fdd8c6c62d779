//! How the loop waits: steps 1 and 2 of a turn.
//!
//! Invariant: this is the only place that blocks, and it does so for no longer than until the next timer,
//! and not at all while something is queued.
//!
//! Read next: `ready.rs`, what comes of it.

use std::io;
use std::time::{Duration, Instant};

use mio::Events;

use super::clock::Clock;
use super::{Reactor, Sleep};

impl Reactor {
    /// Has the loop, before each sleep, poll without sleeping for this long. Off ([`Duration::ZERO`]) unless
    /// set.
    ///
    /// It trades CPU for latency: to put a thread to sleep and to wake it up takes several microseconds,
    /// which is most of a round trip on one machine when there is one message at a time. It pays where
    /// there is a core to spare, and gaps between messages are short. It hurts where the loop shares its
    /// core, be it with the peer, and gives nothing under load: a busy loop does not sleep anyway.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    pub(super) fn poll_events(&mut self, events: &mut Events, at_most: Option<Duration>) -> io::Result<()> {
        self.clock.forget();
        let timeout = match (self.time_to_sleep(), at_most) {
            (Some(own), Some(given)) => Some(own.min(given)),
            (own, given) => own.or(given),
        };
        let began = self.is_observed().then(Instant::now);
        let polled = if self.spin.is_zero() || timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.poll.poll(events, timeout)
        } else {
            self.spin_then_sleep(events, timeout)
        };
        self.clock.forget();
        let polled = match polled {
            // A signal came: the turn is empty, and the next one finds what the handler wrote.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        };
        if let Some(began) = began {
            let events = events.iter().count();
            let sleep = Sleep { began, ended: Instant::now(), limit: timeout, events };
            self.tell(|observer| observer.slept(&sleep));
        }
        polled
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

    /// `None`: for ever. mio rounds it up to whole milliseconds, so that no timer is early.
    fn time_to_sleep(&self) -> Option<Duration> {
        if !self.queue.is_empty() || self.stopping {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.next()?;
        match self.clock {
            Clock::System(_) => Some(deadline.saturating_duration_since(self.now())),
            // Time that stands still brings no deadline nearer.
            Clock::Set(now) => (deadline <= now).then_some(Duration::ZERO),
        }
    }
}
