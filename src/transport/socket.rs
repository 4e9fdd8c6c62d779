//! A connected stream socket, TCP or Unix, behind one face.
//!
//! Invariant: it is non-blocking, and it is the only owner of its descriptor.
//!
//! Read next: `connection.rs`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::{TcpStream, UnixStream};

use super::Address;
use crate::sys;

/// A connected, or connecting, stream socket. It is non-blocking.
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
    /// Begins to connect: `connect(2)`. The socket turns writable when it is decided.
    pub(super) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address)?;
                stream.set_nodelay(true)?;
                sys::set_urgent_inline(&stream)?;
                Ok(Socket::Tcp(stream))
            }
            Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path)?)),
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(buffer),
            Socket::Unix(stream) => (&*stream).read(buffer),
        }
    }

    /// One write, and another only if a signal came before the first took a byte.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self {
                Socket::Tcp(stream) => (&*stream).write(bytes),
                Socket::Unix(stream) => (&*stream).write(bytes),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    /// Ends our side: `shutdown(2)`, a FIN after the bytes under way.
    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// `SO_ERROR`. Reading it clears it: the first to ask is the last to know,
    /// so only the connector asks.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Socket::Tcp(stream) => stream.take_error(),
            Socket::Unix(stream) => stream.take_error(),
        }
    }

    /// The other end. An error while the socket is not connected (yet, or any more).
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map(Address::from),
            Socket::Unix(stream) => stream.peer_addr().map(|address| Address::of_unix(&address)),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().map(Address::from),
            Socket::Unix(stream) => stream.local_addr().map(|address| Address::of_unix(&address)),
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
