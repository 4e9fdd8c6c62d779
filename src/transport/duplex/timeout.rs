//! The timeouts of a connection: the idle timeout ends one on which no byte moves, and the linger
//! timeout ends a closed one whose peer does not end its side.
//!
//! Invariant: a connection has at most one timer here, and none is left when it ends. The timer is
//! not set again for each byte that moves. When it expires, it checks how long ago the last byte
//! moved.
//!
//! A slow peer may take bytes out of the kernel's send buffer for a long time before we can write
//! again. So the timer also checks how many bytes the kernel still holds, four times in one limit,
//! and only while there are some. A stalled peer is closed at most a quarter of the limit late (or
//! one limit late, if it had been quiet before). A peer that reads is never closed.
//!
//! Read next: `../connection.rs`, which handles pending I/O before a timeout.

use std::mem;
use std::time::{Duration, Instant};

use super::Duplex;
use crate::reactor::{Id, Reactor, Timer};
use crate::sys;
use crate::transport::CloseReason;

/// How long a closed connection waits for the peer: to take something of what is buffered, and then
/// to end its side.
const LINGER: Duration = Duration::from_secs(30);

/// Ends the connection when nothing has moved for a while. There is one at a time: a connection
/// that lingers is not idle any more.
pub(super) struct Timeout {
    limit: Duration,
    /// When something last moved. If it lingers, only what is sent counts.
    moved: Instant,
    /// Bytes that the kernel had yet to deliver when last asked.
    unacknowledged: usize,
    /// Whether the connection was closed, and waits for its peer.
    is_linger: bool,
    timer: Timer,
}

impl Duplex {
    /// Cancels the timer of a connection that ends.
    pub fn cancel_timeout(&mut self, reactor: &mut Reactor) {
        if let Some(timeout) = self.timeout.take() {
            reactor.cancel(timeout.timer);
        }
    }

    /// Records that a byte, or the FIN, has moved.
    pub fn touch(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(timeout) = &mut self.timeout {
            timeout.moved = now();
        }
    }

    fn set_timeout(&mut self, limit: Duration, is_linger: bool, id: Id, reactor: &mut Reactor) {
        let (moved, end) = (reactor.now(), reactor.after(limit));
        let (limit, timer) = (end - moved, reactor.timeout_at(end, id));
        let unacknowledged = if is_linger { self.unacknowledged() } else { 0 }; // nothing was sent yet
        self.cancel_timeout(reactor);
        self.timeout = Some(Box::new(Timeout { limit, moved, unacknowledged, is_linger, timer }));
    }

    fn unacknowledged(&self) -> usize {
        sys::unacknowledged_bytes(&self.socket).unwrap_or(0)
    }

    pub fn is_lingering(&self) -> bool {
        self.timeout.as_ref().is_some_and(|timeout| timeout.is_linger)
    }

    pub fn set_idle_timeout(&mut self, limit: Option<Duration>, id: Id, reactor: &mut Reactor) {
        match limit {
            _ if self.has_ended() => {}
            _ if self.is_lingering() => self.shorten_linger(limit.unwrap_or(LINGER), id, reactor),
            Some(limit) => self.set_timeout(limit, false, id, reactor),
            None => self.cancel_timeout(reactor),
        }
    }

    /// Nothing extends the time that a closed connection has left.
    fn shorten_linger(&mut self, limit: Duration, id: Id, reactor: &mut Reactor) {
        let Some(timeout) = self.timeout.as_deref_mut().filter(|timeout| limit < timeout.limit) else {
            return;
        };
        timeout.limit = limit;
        let timer = reactor.timeout_at(timeout.moved + limit, id);
        reactor.cancel(mem::replace(&mut timeout.timer, timer));
    }

    /// Starts the linger timeout, which replaces an idle timeout. Bytes that a closed connection
    /// receives do not extend it. If the idle limit is shorter, it stays the limit.
    pub(super) fn start_linger(&mut self, id: Id, reactor: &mut Reactor) {
        let idle_limit = match self.timeout.as_deref() {
            Some(Timeout { is_linger: true, .. }) => return,
            idle => idle.map_or(LINGER, |idle| idle.limit),
        };
        self.set_timeout(LINGER.min(idle_limit), true, id, reactor);
    }

    /// How long ago a byte last moved, if that is tracked.
    pub fn idle_time(&self, reactor: &Reactor) -> Option<Duration> {
        let idle = self.timeout.as_ref().filter(|timeout| !timeout.is_linger)?;
        Some(reactor.now().saturating_duration_since(idle.moved))
    }

    /// Handles the expired timer, after the pending I/O: ends the connection, or sets the timer
    /// again.
    pub fn on_timeout(&mut self, id: Id, reactor: &mut Reactor) {
        let (now, left) = (reactor.now(), self.unacknowledged());
        let Some(timeout) = &mut self.timeout else { return };
        // After its FIN, a connection waits for the peer's end, and for nothing else.
        let counts = !timeout.is_linger || !self.write_buffer.is_empty();
        if counts && left != mem::replace(&mut timeout.unacknowledged, left) {
            timeout.moved = now;
        }
        let end = timeout.moved + timeout.limit;
        if now < end {
            let next = if left > 0 { end.min(now + timeout.limit / 4) } else { end };
            timeout.timer = reactor.timeout_at(next, id);
        } else {
            let is_linger = timeout.is_linger;
            self.end(if is_linger { CloseReason::LingerTimeout } else { CloseReason::IdleTimeout });
        }
    }
}
