//! What is to happen to a connection if nothing else does.
//!
//! Invariant: there is at most one timer for a connection, and none is left when it ends. The timer of
//! idleness is not set anew for each byte that moves: it looks, when it comes, at how long ago that was.
//!
//! A slow peer may take bytes out of the kernel's buffer for a long time before there is room for more of
//! ours. So it also looks at how much is there: that is asked four times in the time allowed, and only
//! while there is something. A peer that stalls is given up a quarter late at the most, or, if it had been
//! quiet before, once as late again; one that reads never is.
//!
//! Read next: `channel/mod.rs`.

use std::time::{Duration, Instant};

use super::{Reason, Socket};
use crate::reactor::{Id, Reactor, Timer};
use crate::sys;

/// How long a closed connection waits for the peer to end its side.
const LINGER: Duration = Duration::from_secs(30);

/// At most one of the two at a time: a connection that lingers is no longer idle.
enum Wait {
    Idle {
        limit: Duration,
        moved: Instant,
        /// Bytes that the kernel had yet to get rid of, when last asked.
        under_way: usize,
        timer: Timer,
    },
    Linger {
        timer: Timer,
    },
}

/// The deadline of a connection, if it has one. Most have none, so it is one pointer wide.
#[derive(Default)]
pub(super) struct Deadline(Option<Box<Wait>>);

impl Deadline {
    /// A byte has moved.
    pub fn put_off(&mut self, reactor: &Reactor) {
        if let Some(wait) = &mut self.0
            && let Wait::Idle { moved, .. } = wait.as_mut()
        {
            *moved = reactor.now();
        }
    }

    pub fn set_idle_timeout(&mut self, limit: Option<Duration>, id: Id, reactor: &mut Reactor) {
        if self.is_lingering() {
            return;
        }
        self.cancel(reactor);
        if let Some(limit) = limit {
            let moved = reactor.now();
            let when = reactor.after(limit);
            let (timer, limit) = (reactor.wake_at(when, id), when - moved);
            self.0 = Some(Box::new(Wait::Idle { limit, moved, under_way: 0, timer }));
        }
    }

    /// For how long no byte has moved, where that is noted.
    pub fn idle(&self, reactor: &Reactor) -> Option<Duration> {
        match self.0.as_deref() {
            Some(Wait::Idle { moved, .. }) => Some(reactor.now().saturating_duration_since(*moved)),
            _ => None,
        }
    }

    /// All is sent; the peer has yet to end its side.
    pub fn linger(&mut self, id: Id, reactor: &mut Reactor) {
        if !self.is_lingering() {
            self.cancel(reactor);
            let timer = reactor.wake_at(reactor.after(LINGER), id);
            self.0 = Some(Box::new(Wait::Linger { timer }));
        }
    }

    fn is_lingering(&self) -> bool {
        matches!(self.0.as_deref(), Some(Wait::Linger { .. }))
    }

    /// The timer came. What it means, if the time is up.
    pub fn check(&mut self, socket: &Socket, id: Id, reactor: &mut Reactor) -> Option<Reason> {
        match self.0.as_deref_mut()? {
            Wait::Idle { limit, moved, under_way, timer } => {
                let now = reactor.now();
                let left = sys::bytes_under_way(socket).unwrap_or(0);
                if left != *under_way {
                    *under_way = left;
                    *moved = now;
                }
                let end = *moved + *limit;
                if now >= end {
                    return Some(Reason::Idle);
                }
                let next = if left > 0 { end.min(now + *limit / 4) } else { end };
                *timer = reactor.wake_at(next, id);
                None
            }
            Wait::Linger { .. } => Some(Reason::Lingered),
        }
    }

    pub fn cancel(&mut self, reactor: &mut Reactor) {
        if let Some(wait) = self.0.take() {
            let (Wait::Idle { timer, .. } | Wait::Linger { timer }) = *wait;
            reactor.cancel(timer);
        }
    }
}
