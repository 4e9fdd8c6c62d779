//! Readiness: what the kernel, or another source, had to say to a source.
//!
//! Invariant: a bit is a *hint* that something may be possible now. Only the system call that is
//! tried next knows. So hang-up and error are folded into [`Ready::READABLE`] and
//! [`Ready::WRITABLE`]: the read or write finds the error, once, and in one place.
//!
//! Read next: `mod.rs`, which hands these out; `../transport/connection.rs`, which remembers them.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use mio::event::Event;

/// A set of readiness bits.
///
/// Events are edge-triggered: a bit comes once for each change. A source remembers it (`|=`) and
/// clears it when a system call answers `WouldBlock`.
///
/// ```
/// use echo_reactor::Ready;
/// let mut ready = Ready::READABLE | Ready::WRITABLE;
/// ready.clear(Ready::READABLE);
/// assert!(ready.is(Ready::WRITABLE) && !ready.is(Ready::READABLE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u8);

impl Ready {
    /// Nothing new: the source asked to go on ([`Next::Again`](super::Next::Again)).
    pub const NONE: Ready = Ready(0);
    /// A read, or an accept, may not block.
    pub const READABLE: Ready = Ready(1);
    /// A write may not block, or a connect has ended.
    pub const WRITABLE: Ready = Ready(1 << 1);
    /// The peer has ended its side: after the bytes under way a read returns 0. While this is set, a
    /// short read does *not* mean that there is nothing more to read.
    pub const READ_CLOSED: Ready = Ready(1 << 2);
    /// Nobody will ever take what is written: the pipe has no reader, or the socket is gone.
    pub const WRITE_CLOSED: Ready = Ready(1 << 3);
    /// There is urgent data (`MSG_OOB`). A read stops short at its mark, so here, too, a short read
    /// proves nothing.
    pub const PRIORITY: Ready = Ready(1 << 4);
    /// Somebody called [`Reactor::wake`](super::Reactor::wake).
    pub const WOKEN: Ready = Ready(1 << 5);
    /// A timer set with [`Reactor::wake_at`](super::Reactor::wake_at) is due.
    pub const DUE: Ready = Ready(1 << 6);

    /// Whether any bit of `bits` is set.
    #[must_use]
    pub fn is(self, bits: Ready) -> bool {
        self.0 & bits.0 != 0
    }

    /// Clears `bits`.
    pub fn clear(&mut self, bits: Ready) {
        self.0 &= !bits.0;
    }

    pub(super) fn of(event: &Event) -> Self {
        let mut ready = Ready::NONE;
        let mut note = |says: bool, bits: Ready| {
            if says {
                ready |= bits;
            }
        };
        note(event.is_readable(), Ready::READABLE);
        note(event.is_writable(), Ready::WRITABLE);
        note(event.is_priority(), Ready::PRIORITY);
        // One of these two is true of whatever has ended, in one direction or both.
        if event.is_read_closed() || event.is_error() {
            // A pipe at its end reports a hang-up and nothing else.
            note(event.is_read_closed(), Ready::READ_CLOSED | Ready::READABLE);
            note(event.is_write_closed(), Ready::WRITE_CLOSED | Ready::WRITABLE);
            note(event.is_error(), Ready::READABLE | Ready::WRITABLE);
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
    (Ready::DUE, "due"),
];

impl Ready {
    /// Appends what `Debug` shows.
    pub(crate) fn append_names(self, to: &mut Vec<u8>) {
        let before = to.len();
        for (bit, name) in NAMES {
            if self.is(bit) {
                to.extend_from_slice(if to.len() > before { b"+" } else { b"" });
                to.extend_from_slice(name.as_bytes());
            }
        }
        if to.len() == before {
            to.extend_from_slice(b"again");
        }
    }
}

/// Shown as `readable+writable`.
impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Vec::new();
        self.append_names(&mut names);
        f.pad(&String::from_utf8_lossy(&names))
    }
}
