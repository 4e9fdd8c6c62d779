//! Transport and protocol: the kernel's side of a connection, and yours.
//!
//! ```text
//!   kernel ─▶ turn ─▶ Connection ─┬─ data_received(&mut transport, data) ─▶ Protocol (yours)
//!                                 │                                            │
//!   kernel ◀───────── Duplex ◀────┴──────────── transport.write(bytes) ◀───────┘
//! ```
//!
//! Invariant: the callbacks of a [`Protocol`] are called in this order, and none after the last
//! one:
//!
//! ```text
//!   connection_made?  ( data_received | pause_writing resume_writing | woken )*
//!   eof_received?     connection_lost
//! ```
//!
//! (Between `eof_received` and `connection_lost`, a protocol that keeps its own side open still
//! gets `woken`, `pause_writing` and `resume_writing`.) A [`Transport`] is borrowed for one call.
//! It cannot be stored, so it cannot dangle.
//!
//! Read next: `connection.rs` (which callback is called when), `duplex/` (the two directions of a
//! connection), `../net/` (where connections come from).

mod connection;
mod duplex;

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

pub use connection::{Connection, create_connection, create_server, create_server_with_sockets};

pub(crate) use duplex::{
    Duplex, HIGH_WATER, KERNEL_BUFFER, LOW_WATER, Received, SMALLEST_CHARGE, WriteBuffer,
};

use crate::net::{Address, ConnectError, ErrorText};
use crate::reactor::{Handle, Id, Reactor};
use crate::sys;

/// The program's side of a connection: callbacks (asyncio: `asyncio.Protocol`).
///
/// The defaults of the callbacks close the connection when the peer ends its side, and they bound
/// the memory that a peer can use. An echo server:
///
/// ```
/// use echo_reactor::{Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
///         transport.write(data);
///     }
/// }
/// ```
#[allow(unused_variables)] // by the defaults
pub trait Protocol: Sized + 'static {
    /// Called when the connection is established.
    fn connection_made(&mut self, transport: &mut Transport) {}

    /// Called when bytes have arrived. `data` is what one read returned: TCP does not keep the
    /// boundaries of the peer's messages.
    ///
    /// If the answers are larger than the requests, stop at [`Flow::Full`] and keep the rest of
    /// `data` until [`resume_writing`](Self::resume_writing). [`LineBuffer`](crate::LineBuffer) has
    /// an example.
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]);

    /// Called when the peer has ended its side (its FIN has arrived). The default sends what is
    /// buffered and closes. Override it to keep writing, and call [`Transport::close`] or
    /// [`Transport::write_eof`] when done.
    fn eof_received(&mut self, transport: &mut Transport) {
        transport.close();
    }

    /// Called when more is buffered than the high-water mark, because the peer reads more slowly
    /// than you write. The default pauses reading, so a peer that sends and never reads cannot fill
    /// the memory.
    ///
    /// That is right for a protocol that only answers what it reads. A protocol that also writes
    /// without being asked, such as a client, overrides this to do nothing: if each end stops
    /// reading until the other one reads, both wait forever.
    fn pause_writing(&mut self, transport: &mut Transport) {
        transport.pause_reading();
    }

    /// Called when no more is buffered than the low-water mark. The default resumes reading. If you
    /// override only this method, call [`Transport::resume_reading`] in it, because the default of
    /// [`pause_writing`](Self::pause_writing) has paused reading.
    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }

    /// Called after [`Reactor::wake`] with this connection's [`Id`], for example by a mailbox, and
    /// when a timer that was set with [`Reactor::wake_at`] has expired. Not called while the
    /// connection is [closing](Transport::is_closing).
    fn woken(&mut self, transport: &mut Transport) {}

    /// Called exactly once, as the last callback, when the connection has ended for any reason. It
    /// is the only callback if the connection was never established, or was removed before its
    /// first turn.
    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {}
}

/// A connection that has ended: which one it was, what it did, and why it ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionLost {
    /// The address that it had in the reactor.
    pub id: Id,
    /// The address of the peer, if there was one.
    pub peer: Option<Address>,
    /// Bytes received. Bytes that were discarded after `close` do not count.
    pub bytes_in: u64,
    /// Bytes that the kernel accepted for sending.
    pub bytes_out: u64,
    /// Why it ended.
    pub reason: CloseReason,
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// It ended gracefully: both sides have ended, and everything that was buffered is sent.
    Closed,
    /// [`Transport::abort`] was called, or the connection was removed from the reactor.
    Aborted,
    /// No byte moved, either way, for as long as [`Transport::set_idle_timeout`] allows.
    IdleTimeout,
    /// It was closed, but the peer did not take the rest, or did not end its side, in time: see
    /// [`Transport::close`].
    LingerTimeout,
    /// It could not be established.
    Unreachable(ConnectError),
    /// An error broke it, most often a reset.
    Failed(io::Error),
}

impl CloseReason {
    /// Returns the error that a read or a write returns for this reason, or `None` for a graceful
    /// end.
    pub(crate) fn to_error(&self) -> Option<io::Error> {
        let kind = match self {
            CloseReason::Closed => return None,
            CloseReason::Failed(error) => error.kind(),
            CloseReason::Unreachable(_) => ErrorKind::NotConnected,
            CloseReason::Aborted | CloseReason::IdleTimeout | CloseReason::LingerTimeout => {
                ErrorKind::ConnectionAborted
            }
        };
        Some(io::Error::new(kind, self.to_string()))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Closed => f.write_str("closed"),
            CloseReason::Aborted => f.write_str("aborted"),
            CloseReason::IdleTimeout => f.write_str("idle for too long"),
            CloseReason::LingerTimeout => f.write_str("the peer did not end its side in time"),
            CloseReason::Unreachable(error) => write!(f, "{error}"),
            CloseReason::Failed(error) => write!(f, "{}", ErrorText(error)),
        }
    }
}

/// Backpressure: whether a connection, an [`Output`](crate::Output) or a
/// [`Mailbox`](crate::Mailbox) can take another write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Open,
    /// Stop until there is room again: more is buffered than the high-water mark. The bytes that
    /// you have written are kept.
    Full,
    /// Our side has ended, or the connection is broken: bytes that are written now are dropped.
    /// There is nothing to wait for, so go on as with `Open`.
    Closed,
}

/// The kernel's side of a connection. It is borrowed by the [`Protocol`] for one call (asyncio:
/// `asyncio.Transport`).
///
/// ```compile_fail
/// use echo_reactor::{Protocol, Transport};
/// struct Greedy<'a>(Option<&'a mut Transport<'a>>);
/// impl Protocol for Greedy<'static> {
///     fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
///         self.0 = Some(transport); // an error: it is borrowed for this call only
///     }
/// }
/// ```
pub struct Transport<'a> {
    id: Id,
    duplex: &'a mut Duplex,
    reactor: &'a mut Reactor,
}

impl Transport<'_> {
    /// Sends `bytes`. The part that the socket does not take at once is buffered and sent later. If
    /// sending fails, `connection_lost` is called with the error.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        self.duplex.write(bytes, || self.reactor.actual_time())
    }

    /// Returns what [`write`](Self::write) would return now.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.duplex.flow()
    }

    /// Ends our side when everything that is buffered has been sent. The peer may go on sending
    /// (asyncio: `write_eof`). If the peer has ended its side already, this is the same as
    /// [`close`](Self::close), with its limits.
    pub fn write_eof(&mut self) {
        self.duplex.write_eof();
    }

    /// Ends the connection gracefully: sends what is buffered, ends our side, and discards input
    /// until the peer has ended its side. (Closing the socket earlier could cause a reset, which
    /// destroys bytes that are on their way.) After this callback, only `connection_lost` is
    /// called. The peer has 30 seconds to acknowledge more of what is buffered, and then 30 seconds
    /// to end its side. Otherwise the connection ends with [`CloseReason::LingerTimeout`]. A
    /// shorter [`set_idle_timeout`](Self::set_idle_timeout) shortens these limits.
    pub fn close(&mut self) {
        self.duplex.close();
    }

    /// Ends the connection at once. Buffered bytes are dropped. A TCP peer gets a reset. A Unix
    /// socket has none: its peer reads what was sent, and then the end of file.
    pub fn abort(&mut self) {
        self.duplex.end(CloseReason::Aborted);
    }

    /// Returns whether the connection is ending: [`close`](Self::close) or [`abort`](Self::abort)
    /// was called, or both sides have ended (asyncio: `is_closing`).
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.duplex.is_closing()
    }

    /// Stops the calls of `data_received`, without a system call. Bytes wait in the kernel, and
    /// when its buffers are full, the peer waits. Data that has arrived is delivered before the end
    /// of file is reported. So the end of file is reported only after
    /// [`resume_reading`](Self::resume_reading). If writing fails meanwhile, reading resumes
    /// automatically, because then the connection ends.
    pub fn pause_reading(&mut self) {
        self.duplex.pause_reading();
    }

    /// Resumes the calls of `data_received` after [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&mut self) {
        self.duplex.resume_reading();
    }

    /// Sets the high- and low-water marks, in bytes. The defaults are 64 KiB and 16 KiB.
    /// `pause_writing` is called when more than `high` is buffered, and `resume_writing` when no
    /// more than `low` is buffered. A `low` above `high` counts as `high`.
    pub fn set_write_marks(&mut self, high: usize, low: usize) {
        self.duplex.set_write_marks(high, low);
    }

    /// Ends the connection when no byte has moved, either way, for `limit` (`None`: never; less
    /// than a millisecond counts as one). While reading is paused, a peer whose bytes wait in our
    /// kernel is not idle, unless bytes are buffered that it does not take.
    pub fn set_idle_timeout(&mut self, limit: Option<Duration>) {
        self.duplex.set_idle_timeout(limit, self.id, self.reactor);
    }

    /// Returns how long ago a byte last moved, either way. After [`close`](Self::close), only the
    /// close itself and what is sent count. `None` if the connection has no timeout.
    #[must_use]
    pub fn idle_time(&self) -> Option<Duration> {
        self.duplex.idle_time(self.reactor)
    }

    /// Returns how many bytes are buffered for the peer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.duplex.buffered()
    }

    /// Returns how many bytes were received. Bytes that were discarded after `close` do not count.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.duplex.stats().bytes_in
    }

    /// Returns how many bytes the kernel has accepted for sending.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.duplex.stats().bytes_out
    }

    /// Returns the address of the peer (asyncio: `get_extra_info('peername')`). `None` if the peer
    /// was gone before the connection was made.
    #[must_use]
    pub fn peer_addr(&self) -> Option<&Address> {
        self.duplex.peer()
    }

    /// Returns the process ID of the peer of a Unix socket (`SO_PEERCRED`, `unix(7)`). `None` for
    /// TCP, and for a process that this process cannot see.
    #[must_use]
    pub fn peer_pid(&self) -> Option<u32> {
        sys::peer_pid(self.duplex.socket())
    }

    /// Returns the address of this end (asyncio: `get_extra_info('sockname')`).
    ///
    /// # Errors
    /// See `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.duplex.socket().local_addr()
    }

    /// Returns the address of this connection in the reactor.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// Returns the handle of this connection, whose protocol is a `P`. Inside a protocol, use
    /// `transport.handle::<Self>()`.
    #[must_use]
    pub fn handle<P: Protocol>(&self) -> Handle<Connection<P>> {
        Handle::new(self.id)
    }

    /// Returns the reactor, for everything else. This connection is running, so it is out of its
    /// slot.
    pub fn reactor(&mut self) -> &mut Reactor {
        self.reactor
    }
}

crate::opaque_debug!(Transport<'_>);
