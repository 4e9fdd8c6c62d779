//! One listening socket, TCP or Unix, and what an `accept` that fails means.
//!
//! Read next: `listener.rs`.

use std::io::{self, ErrorKind};
use std::net::TcpListener as StdTcpListener;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::{TcpListener, UnixListener};

use super::unix_path::{self, UnixPath};
use super::{Address, Socket};
use crate::sys::{self, Listening};

/// One listening socket.
pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener, #[allow(dead_code, reason = "removes the file when dropped")] UnixPath),
}

impl Accepting {
    pub fn listen(address: &Address, how: Listening) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = StdTcpListener::from(sys::listen_tcp(*address, how)?);
                Ok(Accepting::Tcp(TcpListener::from_std(socket)))
            }
            Address::Unix(path) => {
                let (socket, file) = unix_path::bind(path)?;
                sys::listen(&socket, how.backlog)?;
                Ok(Accepting::Unix(socket, file))
            }
        }
    }

    pub fn accept(&self) -> io::Result<Socket> {
        match self {
            Accepting::Tcp(socket) => socket.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Accepting::Unix(socket, _) => socket.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }

    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            // Not canonical: `[::]` is what was asked for.
            Accepting::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Accepting::Unix(socket, _) => socket.local_addr().map(|address| Address::of_unix(&address)),
        }
    }
}

impl AsFd for Accepting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Accepting::Tcp(socket) => socket.as_fd(),
            Accepting::Unix(socket, _) => socket.as_fd(),
        }
    }
}

/// What is to be done about an `accept` that failed: `accept(2)`.
pub(super) enum Failure {
    /// Nobody is waiting.
    Drained,
    /// That peer is gone, or its network; the next may be fine.
    GoOn,
    /// There is nothing to accept with.
    BackOff,
    /// The socket itself is no good.
    Fatal,
}

impl Failure {
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock => return Failure::Drained,
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted => return Failure::GoOn,
            _ => {}
        }
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Failure::BackOff,
            Some(
                libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::ETIMEDOUT,
            ) => Failure::GoOn,
            _ => Failure::Fatal,
        }
    }
}
