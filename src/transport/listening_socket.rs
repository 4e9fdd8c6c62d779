//! One listening socket, TCP or Unix, and what an `accept` that fails means.
//!
//! Invariant: it is non-blocking, and what is accepted from it needs no further system call to be set up.
//!
//! Read next: `inherited.rs` (those that others have opened), `listener.rs`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::net::{TcpListener, UnixListener};

use super::unix_path::{self, UnixPath};
use super::{Address, Plain, Serve, Socket};
use crate::sys::{self, Listening};

/// A socket that listens, for [`create_server_on`](super::create_server_on).
#[derive(Debug)]
pub struct ListeningSocket {
    kind: Kind,
    /// The file of a Unix socket, which goes with it; not where somebody else has made the socket.
    _file: Option<UnixPath>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    /// Listens on all of `addresses`, or, if one fails, on none. The IPv6 wildcard `[::]` takes IPv4
    /// connections too, unless `0.0.0.0` is among the others.
    ///
    /// # Errors
    /// Names the address and the reason: `cannot listen on 127.0.0.1:80: Permission denied`.
    pub fn bind_all(addresses: &[Address], how: &Serve) -> io::Result<Vec<Self>> {
        let v6_only = addresses
            .iter()
            .any(|address| matches!(address, Address::Tcp(SocketAddr::V4(v4)) if v4.ip().is_unspecified()));
        let how = Listening { reuse_port: how.reuse_port, v6_only, backlog: how.backlog.into() };
        let bind = |address: &Address| {
            Self::bind(address, how).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {}", Plain(&error)))
            })
        };
        addresses.iter().map(bind).collect()
    }

    fn bind(address: &Address, how: Listening) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Ok(Self::tcp(sys::listen_tcp(*address, how)?)),
            Address::Unix(path) => {
                let (socket, file) = unix_path::bind(path)?;
                sys::listen(&socket, how.backlog)?;
                Ok(ListeningSocket { kind: Kind::Unix(socket), _file: Some(file) })
            }
        }
    }

    pub(super) fn tcp(socket: OwnedFd) -> Self {
        ListeningSocket { kind: Kind::Tcp(TcpListener::from_std(socket.into())), _file: None }
    }

    pub(super) fn unix(socket: OwnedFd) -> Self {
        ListeningSocket { kind: Kind::Unix(UnixListener::from_std(socket.into())), _file: None }
    }

    pub(super) fn accept(&self) -> io::Result<Socket> {
        match &self.kind {
            Kind::Tcp(socket) => socket.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Kind::Unix(socket) => socket.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }

    /// The address listened on, with the port that the kernel chose.
    ///
    /// # Errors
    /// See `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.kind {
            // Not canonical: `[::]` is what was asked for.
            Kind::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Kind::Unix(socket) => socket.local_addr().map(|address| Address::of_unix(&address)),
        }
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(socket) => socket.as_fd(),
            Kind::Unix(socket) => socket.as_fd(),
        }
    }
}

/// What is to be done about a connection that could not be accepted, `accept(2)`, or not be registered,
/// `epoll_ctl(2)`.
pub(super) enum Failure {
    /// Nobody is waiting.
    Drained,
    /// That peer is gone, or its network; the next may be fine.
    GoOn,
    /// There is nothing to accept or to register it with.
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
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC) => {
                Failure::BackOff
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_can_cause_ends_no_listener() {
        let of = |number| Failure::of(&io::Error::from_raw_os_error(number));
        for number in
            [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM, libc::ENETDOWN, libc::ETIMEDOUT]
        {
            assert!(matches!(of(number), Failure::GoOn), "{number}");
        }
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ENOSPC] {
            assert!(matches!(of(number), Failure::BackOff), "{number}");
        }
        assert!(matches!(of(libc::EAGAIN), Failure::Drained));
        assert!(matches!(of(libc::EBADF), Failure::Fatal));
    }
}
