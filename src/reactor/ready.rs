//! Readiness: why a source is called.
//!
//! Invariant: a readiness bit is a *hint* that a system call may succeed now. Only the call itself
//! shows whether it does. So a hang-up or an error also sets [`Ready::READABLE`] or
//! [`Ready::WRITABLE`], and the next read or write returns the error. This way each error is found
//! once, and in one place.
//!
//! Read next: `mod.rs`, which delivers the bits; `../transport/duplex/`, which remembers them.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use mio::event::Event;

/// A set of readiness bits.
///
/// Events are edge-triggered: each change is reported once. A source remembers the bits (`|=`) and
/// removes one when a system call returns `WouldBlock`.
///
/// ```
/// use echo_reactor::Ready;
/// let mut ready = Ready::READABLE | Ready::WRITABLE;
/// ready.remove(Ready::READABLE);
/// assert!(ready.intersects(Ready::WRITABLE) && !ready.intersects(Ready::READABLE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u8);

impl Ready {
    /// No bit: the source asked to be called again ([`Next::Again`](super::Next::Again)).
    pub const NONE: Ready = Ready(0);
    /// A read, or an accept, may not block.
    pub const READABLE: Ready = Ready(1);
    /// A write may not block, or a connect has finished.
    pub const WRITABLE: Ready = Ready(1 << 1);
    /// The peer has ended its side: a read returns 0 after the bytes that have arrived. While this
    /// bit is set, a short read does *not* prove that nothing is left.
    pub const READ_CLOSED: Ready = Ready(1 << 2);
    /// Nothing will ever read what is written: the pipe has no reader, or the socket is gone.
    pub const WRITE_CLOSED: Ready = Ready(1 << 3);
    /// Urgent data has arrived (`MSG_OOB`). A read stops at the urgent byte, so a short read does
    /// not prove that nothing is left. kqueue does not report urgent data, so on macOS and the BSDs
    /// a short read never proves it.
    pub const PRIORITY: Ready = Ready(1 << 4);
    /// [`Reactor::wake`](super::Reactor::wake) was called, or a timer that was set with
    /// [`Reactor::wake_at`](super::Reactor::wake_at) has expired.
    pub const WOKEN: Ready = Ready(1 << 5);
    /// A timer that the library set for itself has expired. Timers of users set [`Ready::WOKEN`]
    /// instead, so the two cannot be confused.
    pub(crate) const TIMEOUT: Ready = Ready(1 << 6);

    /// Returns whether any bit of `bits` is set.
    #[must_use]
    pub const fn intersects(self, bits: Ready) -> bool {
        self.0 & bits.0 != 0
    }

    /// Clears `bits`.
    pub fn remove(&mut self, bits: Ready) {
        self.0 &= !bits.0;
    }

    /// Returns what the kernel reported, without wake-ups and timeouts: the part to remember.
    pub(crate) fn kernel_bits(self) -> Ready {
        Ready(self.0 & !(Ready::WOKEN.0 | Ready::TIMEOUT.0))
    }
}

impl From<&Event> for Ready {
    fn from(event: &Event) -> Self {
        let mut ready = Ready::NONE;
        let mut set = |reported: bool, bits: Ready| {
            if reported {
                ready |= bits;
            }
        };
        set(event.is_readable(), Ready::READABLE);
        set(event.is_writable(), Ready::WRITABLE);
        set(event.is_priority(), Ready::PRIORITY);
        // A descriptor that has ended in either direction reports at least one of these two.
        if event.is_read_closed() || event.is_error() {
            // A pipe that has ended reports a hang-up, and not that it is readable.
            set(event.is_read_closed(), Ready::READ_CLOSED | Ready::READABLE);
            set(event.is_write_closed(), Ready::WRITE_CLOSED | Ready::WRITABLE);
            set(event.is_error(), Ready::READABLE | Ready::WRITABLE);
        }
        ready
    }
}

impl BitOr for Ready {
    type Output = Ready;
    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Ready) {
        self.0 |= other.0;
    }
}

const NAMES: [(Ready, &str); 7] = [
    (Ready::READABLE, "readable"),
    (Ready::WRITABLE, "writable"),
    (Ready::READ_CLOSED, "read-closed"),
    (Ready::WRITE_CLOSED, "write-closed"),
    (Ready::PRIORITY, "priority"),
    (Ready::WOKEN, "woken"),
    (Ready::TIMEOUT, "timeout"),
];

/// Shown as `readable+writable`, or as `again` if no bit is set.
impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            NAMES.iter().filter(|(bit, _)| self.intersects(*bit)).map(|(_, name)| *name).collect();
        f.pad(&if names.is_empty() { String::from("again") } else { names.join("+") })
    }
}
