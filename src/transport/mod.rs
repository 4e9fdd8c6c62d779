//! Transport and protocol: the kernel's side of a connection and yours.
//!
//! ```text
//!   kernel ─▶ turn ─▶ Connection ─┬─ data_received(&mut transport, data) ─▶ Protocol (yours)
//!                                 │                                            │
//!   kernel ◀───────── Channel ◀───┴──────────── transport.write(bytes) ◀───────┘
//! ```
//!
//! Invariant: a [`Protocol`] hears of its connection in this order, and of nothing after its end:
//!
//! ```text
//!   connection_made?  ( data_received | pause_writing resume_writing | woken )*
//!   eof_received?     connection_lost
//! ```
//!
//! (Between `eof_received` and `connection_lost`, a protocol that keeps its own side open still
//! hears `woken`, `pause_writing` and `resume_writing`.) A [`Transport`] is lent for the time of
//! one call: it cannot be stored, so it cannot dangle.
//!
//! Read next: `channel/` (the two half-machines), `connection.rs` (who calls whom),
//! `listener.rs` and `connector.rs` (where connections come from).

mod address;
mod batch;
mod buffer;
mod channel;
mod connection;
mod connector;
mod deadline;
mod inherited;
mod listener;
mod listening_socket;
mod socket;
mod unix_path;

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

pub use address::Address;
pub use connection::Connection;
pub use connector::{Connect, create_connection};
pub use listener::{Listener, Serve, Totals, create_server, create_server_on};
pub use listening_socket::ListeningSocket;
pub use socket::Socket;

pub(crate) use buffer::Buffer;
pub(crate) use channel::{Channel, INTEREST, Received};
pub(crate) use connector::connect;
pub(crate) use listener::listen;

use crate::reactor::{Id, Reactor};

/// What one does with a connection: callbacks (asyncio: `asyncio.Protocol`).
///
/// Every default does what an orderly peer would expect. An echo server that bounds the memory of
/// peers that send and never read:
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
///     fn pause_writing(&mut self, transport: &mut Transport) {
///         transport.pause_reading();
///     }
///     fn resume_writing(&mut self, transport: &mut Transport) {
///         transport.resume_reading();
///     }
/// }
/// ```
#[allow(unused_variables)] // the defaults have no use for what they are lent
pub trait Protocol: Sized + 'static {
    /// The connection stands.
    fn connection_made(&mut self, transport: &mut Transport) {}

    /// Bytes came: as many as one read gave, which says nothing of how they were sent.
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]);

    /// The peer has ended its side. The default flushes what is owed and closes; override it to go on
    /// writing, and call [`Transport::close`] or [`Transport::write_eof`] when done.
    fn eof_received(&mut self, transport: &mut Transport) {
        transport.close();
    }

    /// More is owed than the high-water mark: the peer reads more slowly than you write.
    fn pause_writing(&mut self, transport: &mut Transport) {}

    /// No more is owed than the low-water mark.
    fn resume_writing(&mut self, transport: &mut Transport) {}

    /// Somebody called [`Reactor::wake`] with this connection's [`Id`]: a mailbox, a timer of yours.
    fn woken(&mut self, transport: &mut Transport) {}

    /// The end, told exactly once. It comes without a `connection_made` when there was no connection.
    fn connection_lost(&mut self, reactor: &mut Reactor, reason: Reason) {}
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// In order: both sides ended theirs, and what was owed is sent.
    Closed,
    /// [`Transport::abort`].
    Aborted,
    /// No byte moved, either way, for as long as [`Transport::set_idle_timeout`] allows.
    Idle,
    /// It was closed and flushed, but the peer did not end its side in time.
    Lingered,
    /// There was no connection: every address that was tried, and why it failed.
    Unreachable(Vec<(Address, io::Error)>),
    /// Something broke it, a reset most often.
    Failed(io::Error),
}

impl Reason {
    /// What a read or a write makes of it; `None` for an end in order.
    pub(crate) fn error(&self) -> Option<io::Error> {
        let kind = match self {
            Reason::Closed => return None,
            Reason::Failed(error) => error.kind(),
            Reason::Unreachable(_) => ErrorKind::NotConnected,
            Reason::Aborted | Reason::Idle | Reason::Lingered => ErrorKind::ConnectionAborted,
        };
        Some(io::Error::new(kind, self.to_string()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Closed => f.write_str("closed"),
            Reason::Aborted => f.write_str("aborted"),
            Reason::Idle => f.write_str("idle for too long"),
            Reason::Lingered => f.write_str("the peer did not end its side in time"),
            Reason::Unreachable(failures) => {
                for (index, (address, error)) in failures.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{address}: {}", Plain(error))?;
                }
                Ok(())
            }
            Reason::Failed(error) => write!(f, "{}", Plain(error)),
        }
    }
}

/// Shows an error as `strerror(3)` has it, without the number that `std` adds.
///
/// ```
/// let error = std::io::Error::from_raw_os_error(111);
/// assert_eq!(echo_reactor::Plain(&error).to_string(), "Connection refused");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a io::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let plain = text.rsplit_once(" (os error ").map_or(text.as_str(), |(plain, _)| plain);
        f.write_str(plain)
    }
}

/// What [`Transport::write`] has to say about the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Open,
    /// More is owed than the high-water mark. What was written is kept; stop until `resume_writing`.
    Full,
    /// Our side is ended: what was written is dropped.
    Closed,
}

/// The kernel's side of a connection, lent to its [`Protocol`] for one call (asyncio:
/// `asyncio.Transport`).
///
/// ```compile_fail
/// use echo_reactor::{Protocol, Transport};
/// struct Greedy<'a>(Option<&'a mut Transport<'a>>);
/// impl Protocol for Greedy<'static> {
///     fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
///         self.0 = Some(transport); // it is lent, not given
///     }
/// }
/// ```
pub struct Transport<'a> {
    id: Id,
    channel: &'a mut Channel,
    reactor: &'a mut Reactor,
}

impl Transport<'_> {
    /// Sends `bytes`: at once as far as the socket takes them, the rest as soon as it does. An error
    /// of the socket is told by `connection_lost`.
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        self.channel.write(bytes, self.reactor)
    }

    /// What [`write`](Self::write) would say now.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.channel.flow()
    }

    /// Ends our side after what is owed; the peer may go on sending (asyncio: `write_eof`).
    pub fn write_eof(&mut self) {
        self.channel.write_eof();
    }

    /// Ends the connection in order: sends what is owed, ends our side, and throws away what comes
    /// until the peer has ended its own, for at most half a minute, so that no reset destroys bytes on
    /// their way. No callback but `connection_lost` comes after this one.
    pub fn close(&mut self) {
        self.channel.close();
    }

    /// Ends the connection at once, with a reset; what is owed is dropped.
    pub fn abort(&mut self) {
        self.channel.end(Reason::Aborted);
    }

    /// Stops `data_received`. Bytes wait in the kernel, and in the end the peer does. It costs no
    /// system call.
    pub fn pause_reading(&mut self) {
        self.channel.pause_reading();
    }

    /// Goes on after [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&mut self) {
        self.channel.resume_reading();
    }

    /// Sets the high- and low-water marks in bytes: 64 KiB and 16 KiB unless set. `pause_writing`
    /// comes when more than `high` is owed, `resume_writing` when no more than `low` is. A `low`
    /// above `high` counts as `high`.
    pub fn set_write_marks(&mut self, high: usize, low: usize) {
        self.channel.set_marks(high, low);
    }

    /// Ends the connection when no byte has moved, either way, for `limit` (`None`: never).
    pub fn set_idle_timeout(&mut self, limit: Option<Duration>) {
        self.channel.deadline.set_idle_timeout(limit, self.id, self.reactor);
    }

    /// How long no byte has moved, either way. It is only noted where an idle timeout is set.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        self.channel.deadline.idle(self.reactor)
    }

    /// Bytes that are owed to the peer and still with us.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.channel.buffered()
    }

    /// Bytes received since the connection was made.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.channel.bytes_in()
    }

    /// Bytes that the kernel has taken since the connection was made.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.channel.bytes_out()
    }

    /// The address of the peer (asyncio: `get_extra_info('peername')`).
    ///
    /// # Errors
    /// When the peer is gone already: `getpeername(2)`.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.channel.socket().peer_addr()
    }

    /// The address of this end (asyncio: `get_extra_info('sockname')`).
    ///
    /// # Errors
    /// See `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.channel.socket().local_addr()
    }

    /// The address of this connection in the reactor.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// The reactor, for anything else. This connection is out of its slot meanwhile.
    pub fn reactor(&mut self) -> &mut Reactor {
        self.reactor
    }
}
