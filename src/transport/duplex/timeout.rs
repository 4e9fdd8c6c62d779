//! The timeouts of a connection. The idle timeout ends a connection on which no byte moves. The
//! linger timeout ends a closed connection whose peer does not end its side.
//!
//! Invariant: a connection has at most one timer here, and none after its end. The timer is not set
//! again for each byte that moves. When it expires, we check how long ago the last byte moved.
//!
//! A slow peer may take bytes from the kernel's send buffer for a long time before we can write
//! again. So we also check how many bytes the peer has yet to acknowledge, four times per limit,
//! and only while there are some. A stalled connection ends at most a quarter of the limit late (or
//! one limit late, if it was quiet before). While the peer acknowledges bytes, the idle timeout
//! never ends the connection. (A peer whose receive buffer is full acknowledges nothing until it
//! has read a large part of the buffer.)
//!
//! Read next: `../connection.rs`, which handles pending I/O before a timeout.

use std::mem;
use std::time::{Duration, Instant};

use super::{Duplex, ReadState};
use crate::reactor::{FAR_FUTURE, Id, Reactor, Timer};
use crate::sys;
use crate::transport::CloseReason;

/// How long a closed connection waits for the peer to take more of what is buffered, and then to
/// end its side.
const LINGER: Duration = Duration::from_secs(30);

/// The shortest idle limit. A shorter one would keep the loop busy while reading is paused and
/// bytes wait.
const SHORTEST: Duration = Duration::from_millis(1);

/// The timeout of a connection. There is one at a time: the linger timeout replaces the idle
/// timeout.
pub(super) struct Timeout {
    limit: Duration,
    /// When a byte last moved. In a linger timeout, only sent bytes count.
    moved: Instant,
    /// How many bytes the kernel had yet to deliver at the last check.
    unacknowledged: usize,
    /// Whether this is the linger timeout.
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
        let moved = reactor.actual_time();
        let timer = reactor.timeout_at(moved + limit, id);
        // An idle timeout starts with 0, so bytes that the kernel holds at the first check count as
        // moved.
        let unacknowledged = if is_linger { self.unacknowledged() } else { 0 };
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
        match limit.map(|limit| limit.clamp(SHORTEST, FAR_FUTURE)) {
            limit if self.is_lingering() => self.shorten_linger(limit.unwrap_or(LINGER), id, reactor),
            Some(limit) => self.set_timeout(limit, false, id, reactor),
            None => self.cancel_timeout(reactor),
        }
    }

    /// Shortens the linger timeout. Nothing extends it.
    fn shorten_linger(&mut self, limit: Duration, id: Id, reactor: &mut Reactor) {
        let Some(timeout) = self.timeout.as_deref_mut().filter(|timeout| limit < timeout.limit) else {
            return;
        };
        timeout.limit = limit;
        let timer = reactor.timeout_at(timeout.moved + limit, id);
        reactor.cancel(mem::replace(&mut timeout.timer, timer));
    }

    /// Starts the linger timeout, which replaces an idle timeout. Bytes that are received after
    /// `close` do not extend it. If the idle limit is shorter than the linger limit, it stays the
    /// limit.
    pub(super) fn start_linger(&mut self, id: Id, reactor: &mut Reactor) {
        let idle_limit = match self.timeout.as_deref() {
            Some(Timeout { is_linger: true, .. }) => return,
            idle => idle.map_or(LINGER, |idle| idle.limit),
        };
        self.set_timeout(LINGER.min(idle_limit), true, id, reactor);
    }

    /// Returns how long ago a byte, or the FIN, last moved, if a timeout is set.
    pub fn idle_time(&self, reactor: &Reactor) -> Option<Duration> {
        let timeout = self.timeout.as_ref()?;
        Some(reactor.now().saturating_duration_since(timeout.moved))
    }

    /// Handles the expired timer, after the pending I/O: ends the connection, or sets the timer
    /// again.
    pub fn on_timeout(&mut self, id: Id, reactor: &mut Reactor) {
        let (now, left) = (reactor.polled_at(), self.unacknowledged());
        // Bytes wait for us, so the peer is not idle. (`READABLE` does not prove that: the last
        // read before the pause may have taken all of them.)
        let we_pause = self.read == ReadState::Paused
            && self.write_buffer.is_empty()
            && sys::is_ready_now(&self.socket, libc::POLLIN).unwrap_or(false);
        let Some(timeout) = &mut self.timeout else { return };
        // After our FIN, only the peer's end of file matters, and not what the peer reads.
        let counts = !timeout.is_linger || !self.write_buffer.is_empty();
        if we_pause || counts && left != mem::replace(&mut timeout.unacknowledged, left) {
            timeout.moved = reactor.actual_time();
        }
        let end = timeout.moved + timeout.limit;
        if now < end {
            let next = if left > 0 { end.min(now + timeout.limit / 4) } else { end };
            let timer = reactor.timeout_at(next, id);
            reactor.cancel(mem::replace(&mut timeout.timer, timer)); // a callback may have set one
        } else {
            let is_linger = timeout.is_linger;
            self.end(if is_linger { CloseReason::LingerTimeout } else { CloseReason::IdleTimeout });
        }
    }
}
