//! A connected stream socket, TCP or Unix, behind one interface.
//!
//! Invariant: the socket is non-blocking, and it is the only owner of its descriptor.
//!
//! Read next: `../transport/duplex/`, which reads and writes it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::Interest;
use mio::net::{TcpStream, UnixStream};

use super::{Address, ErrorText};
use crate::reactor::Ready;
use crate::sys;

/// A stream socket that is connected or connecting. It is non-blocking.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Socket::Tcp(stream)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Socket::Unix(stream)
    }
}

impl Socket {
    /// The interest of every socket. It is registered once and never changed.
    pub(crate) const INTEREST: Interest = sys::SOCKET_INTEREST;

    /// Begins to connect: `connect(2)`. The socket becomes writable when the attempt has ended. A
    /// TCP socket connects from the local address `source`, if given.
    pub(super) fn connect(address: &Address, source: Option<SocketAddr>) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = sys::tcp_socket(*address)?;
                if let Some(source) = source {
                    sys::bind(&socket, source).map_err(|error| cannot_use(source, &error))?;
                }
                sys::connect(&socket, *address)?;
                Ok(Socket::Tcp(TcpStream::from_std(socket.into())))
            }
            Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path)?)),
            Address::Abstract(name) => {
                let address = sys::abstract_address(name)?;
                Ok(Socket::Unix(UnixStream::connect_addr(&address)?))
            }
        }
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(buffer),
            Socket::Unix(stream) => (&*stream).read(buffer),
        }
    }

    /// Returns whether a short read, one that filled only part of its buffer, proves that nothing
    /// is left to read. Then the read that would return `WouldBlock` is not needed. `ready` has the
    /// bits that the kernel has reported.
    ///
    /// This holds only if a read ends early for no other reason. The kernel ends a read of a
    /// **Unix** socket before a message that carries descriptors or other credentials (`unix(7)`),
    /// so this never holds for a Unix socket. The kernel ends a read of a **TCP** socket at the
    /// mark of urgent data and at the peer's FIN. epoll reports both, and kqueue only the FIN. This
    /// would not hold for a layer that decrypts records (TLS): a read returns one record, and the
    /// next one may be buffered already.
    pub(crate) fn short_read_means_empty(&self, ready: Ready) -> bool {
        match self {
            Socket::Tcp(_) => {
                sys::REPORTS_URGENT_DATA && !ready.intersects(Ready::READ_CLOSED | Ready::PRIORITY)
            }
            Socket::Unix(_) => false,
        }
    }

    /// Returns whether a hang-up that is reported while our side is open means that the connection
    /// was reset. A Unix socket also reports a hang-up when the peer has closed gracefully, and the
    /// data that the peer sent before can still be read.
    pub(crate) fn hang_up_means_reset(&self) -> bool {
        matches!(self, Socket::Tcp(_))
    }

    /// Writes once. If a signal interrupts it before the first byte is taken, writes again.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        retry_interrupted(|| match self {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) => (&*stream).write(bytes),
        })
    }

    /// Ends our side: `shutdown(2)`, which sends a FIN after the bytes that were written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Returns the pending error (`SO_ERROR`) and clears it. So this is only called when the
    /// connection ends after a hang-up.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Socket::Tcp(stream) => stream.take_error(),
            Socket::Unix(stream) => stream.take_error(),
        }
    }

    /// Returns the address of the other end, or an error while the socket is not connected.
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map(Address::from),
            Socket::Unix(stream) => stream.peer_addr().map(Address::from),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().map(Address::from),
            Socket::Unix(stream) => stream.local_addr().map(Address::from),
        }
    }
}

fn cannot_use(source: SocketAddr, error: &io::Error) -> io::Error {
    // Without a port, the kernel chooses one.
    let source = if source.port() == 0 { source.ip().to_string() } else { source.to_string() };
    let text = format!("source address {source}: {}", ErrorText(error));
    io::Error::new(error.kind(), text)
}

/// Calls `f`, and again each time that a signal interrupts it.
pub(super) fn retry_interrupted<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(error) if sys::is_interrupted(&error) => {}
            result => return result,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}
