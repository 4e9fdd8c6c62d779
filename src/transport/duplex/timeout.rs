//! The timeouts of a connection: the idle timeout and the linger timeout.
//!
//! Invariant: a connection has at most one timer here, and none is left when it ends. The idle timer is
//! not set again for each byte that moves. When it expires, it checks how long ago that was.
//!
//! A slow peer may take bytes out of the kernel's buffer for a long time before there is room for more
//! of ours. So the idle timer also looks at how much is there, four times in the time allowed, and only
//! while there is something. A peer that stalls is given up a quarter late at most (or, if it had been
//! quiet before, once the limit late); one that reads never is.
//!
//! Read next: `../connection.rs`, which does the I/O that is there before it looks at a timeout.

use std::time::{Duration, Instant};

use super::Duplex;
use crate::reactor::{Id, Reactor, Timer};
use crate::sys;
use crate::transport::CloseReason;

/// How long a closed connection waits for the peer: to take something of what is buffered, and then to end
/// its side.
const LINGER: Duration = Duration::from_secs(30);

/// One of the two at a time: a connection that lingers is not idle any more.
enum Timeout {
    Idle {
        limit: Duration,
        /// When a byte last moved.
        moved: Instant,
        /// Bytes that the kernel had yet to deliver when last asked.
        unacknowledged: usize,
        timer: Timer,
    },
    Linger {
        timer: Timer,
        period: Duration,
        /// Bytes sent, and bytes that the kernel had yet to deliver, when last asked.
        progress: (u64, usize),
    },
}

/// The timeout of a connection, if it has one. Most have none, so it is one pointer wide.
#[derive(Default)]
pub(super) struct ConnectionTimeout(Option<Box<Timeout>>);

impl ConnectionTimeout {
    pub fn touch(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(timeout) = &mut self.0
            && let Timeout::Idle { moved, .. } = timeout.as_mut()
        {
            *moved = now();
        }
    }

    fn is_lingering(&self) -> bool {
        matches!(self.0.as_deref(), Some(Timeout::Linger { .. }))
    }

    pub fn cancel(&mut self, reactor: &mut Reactor) {
        if let Some(timeout) = self.0.take() {
            let (Timeout::Idle { timer, .. } | Timeout::Linger { timer, .. }) = *timeout;
            reactor.cancel(timer);
        }
    }
}

impl Duplex {
    /// Cancels the timer of a connection that ends.
    pub fn cancel_timeout(&mut self, reactor: &mut Reactor) {
        self.timeout.cancel(reactor);
    }

    /// Records that a byte has moved.
    pub fn touch(&mut self, reactor: &Reactor) {
        self.timeout.touch(|| reactor.now());
    }

    pub fn set_idle_timeout(&mut self, limit: Option<Duration>, id: Id, reactor: &mut Reactor) {
        if self.timeout.is_lingering() || self.has_ended() {
            return;
        }
        self.timeout.cancel(reactor);
        if let Some(limit) = limit {
            let (moved, end) = (reactor.now(), reactor.after(limit));
            let timer = reactor.timeout_at(end, id);
            let idle = Timeout::Idle { limit: end - moved, moved, unacknowledged: 0, timer };
            self.timeout.0 = Some(Box::new(idle));
        }
    }

    /// Waits for the peer, in the place of an idle timeout: what a closed connection receives does not
    /// count. A shorter idle limit stays the limit.
    pub(super) fn start_linger(&mut self, id: Id, reactor: &mut Reactor) {
        let period = match self.timeout.0.as_deref() {
            Some(Timeout::Linger { .. }) => return,
            Some(Timeout::Idle { limit, .. }) => LINGER.min(*limit),
            None => LINGER,
        };
        self.timeout.cancel(reactor);
        let timer = reactor.timeout_after(period, id);
        self.timeout.0 = Some(Box::new(Timeout::Linger { timer, period, progress: self.progress() }));
    }

    /// Gives the peer the whole time again.
    pub(super) fn restart_linger(&mut self, id: Id, reactor: &mut Reactor) {
        if let Some(Timeout::Linger { timer, period, .. }) = self.timeout.0.as_deref_mut() {
            reactor.cancel(*timer);
            *timer = reactor.timeout_after(*period, id);
        }
    }

    fn progress(&self) -> (u64, usize) {
        (self.bytes_out, sys::unacknowledged_bytes(&self.socket).unwrap_or(0))
    }

    /// How long ago a byte last moved, if that is tracked.
    pub fn idle_time(&self, reactor: &Reactor) -> Option<Duration> {
        match self.timeout.0.as_deref() {
            Some(Timeout::Idle { moved, .. }) => Some(reactor.now().saturating_duration_since(*moved)),
            _ => None,
        }
    }

    /// The timer has expired, and the I/O that was there is done: ends the connection, or sets the timer
    /// again.
    pub fn on_timeout(&mut self, id: Id, reactor: &mut Reactor) {
        let now = reactor.now();
        let (sent, left) = self.progress();
        match self.timeout.0.as_deref_mut() {
            Some(Timeout::Idle { limit, moved, unacknowledged, timer }) => {
                if left != *unacknowledged {
                    *unacknowledged = left;
                    *moved = now;
                }
                let end = *moved + *limit;
                if now >= end {
                    return self.end(CloseReason::IdleTimeout);
                }
                let next = if left > 0 { end.min(now + *limit / 4) } else { end };
                *timer = reactor.timeout_at(next, id);
            }
            Some(Timeout::Linger { timer, period, progress }) => {
                if *progress == (sent, left) || self.write_buffer.is_empty() {
                    return self.end(CloseReason::LingerTimeout);
                }
                *progress = (sent, left);
                *timer = reactor.timeout_after(*period, id);
            }
            None => {}
        }
    }
}
