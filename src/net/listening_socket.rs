//! One listening socket, TCP or Unix: its options, where it comes from, and what a failed `accept`
//! means.
//!
//! Invariant: the socket is non-blocking, and the sockets that are accepted from it need no further
//! system call to set them up.
//!
//! Read next: `listener.rs`, the source that accepts; `socket_file.rs`.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::{env, process};

use mio::net::{TcpListener, UnixListener};

use super::socket::retry_interrupted;
use super::socket_file::{self, SocketFile};
use super::{Address, ErrorText, Escaped, Socket};
use crate::sys;

/// The first descriptor of socket activation, by convention. The others follow without a gap.
const FIRST_LISTEN_FD: RawFd = 3;

/// How to listen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The limit on open connections. At the limit the listener stops accepting, and later peers
    /// wait in the kernel's backlog. With `None`, the default, only the number of descriptors
    /// limits the connections. With 0, no connection is accepted. A connection counts until its
    /// socket is closed; a task that serves it may go on after that.
    pub max_connections: Option<usize>,
    /// The length of the kernel's queue of connections that are not accepted yet, see `listen(2)`.
    /// The default is 4096.
    pub backlog: u16,
    /// `SO_REUSEPORT`: several processes may listen on one port, see `socket(7)`. Off by default.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`: the IPv6 wildcard `[::]` accepts no IPv4 connections, see `ipv6(7)`. Off by
    /// default.
    pub ipv6_only: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions { max_connections: None, backlog: 4096, reuse_port: false, ipv6_only: false }
    }
}

/// A socket that listens, for
/// [`create_server_with_sockets`](crate::create_server_with_sockets).
#[derive(Debug)]
pub struct ListeningSocket {
    /// The file of a Unix socket that we bound ourselves. It is dropped before the socket, because
    /// only while the socket is open does the file's inode number identify it.
    _file: Option<SocketFile>,
    kind: Kind,
    /// The address that it listens on, with the port that the kernel chose.
    address: Address,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    /// Listens on all of `addresses`, or, if one fails, on none. The IPv6 wildcard `[::]` also
    /// accepts IPv4 connections, unless `0.0.0.0` is among `addresses`.
    ///
    /// For the path of a Unix socket, this locks the directory, because another server may start at
    /// the same time. If another process holds that lock, this blocks for up to two seconds, so
    /// listen before the loop runs.
    ///
    /// # Errors
    /// The error names the address and the reason:
    /// `cannot listen on 127.0.0.1:80: Permission denied`. If another one of `addresses` is in the
    /// way, the error names that one, too.
    pub fn bind_all(addresses: &[Address], options: &ListenOptions) -> io::Result<Vec<Self>> {
        let mut options = options.clone();
        options.ipv6_only |= addresses
            .iter()
            .any(|address| matches!(address, Address::Tcp(SocketAddr::V4(v4)) if v4.ip().is_unspecified()));
        let mut sockets: Vec<Self> = Vec::new();
        for address in addresses {
            let socket = Self::bind(address, &options).map_err(|error| {
                let is_in_use = error.kind() == ErrorKind::AddrInUse;
                let overlap = |own: &&Self| is_in_use && overlap(&own.address, address, options.ipv6_only);
                let by = sockets.iter().find(overlap).map_or_else(String::new, |own| {
                    format!(" by {}, another address of this server", own.address)
                });
                let text = format!("cannot listen on {address}: {}{by}", ErrorText(&error));
                io::Error::new(error.kind(), text)
            })?;
            sockets.push(socket);
        }
        Ok(sockets)
    }

    fn bind(address: &Address, options: &ListenOptions) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Self::new(tcp(sys::listen_tcp(*address, options)?), None),
            Address::Unix(path) => {
                let (socket, file) = socket_file::listen(path, options.backlog.into())?;
                Self::new(Kind::Unix(socket), Some(file))
            }
            Address::Abstract(name) => {
                let socket = UnixListener::bind_addr(&sys::abstract_address(name)?)?;
                sys::listen(&socket, options.backlog.into())?;
                Self::new(Kind::Unix(socket), None)
            }
        }
    }

    /// Creates a listening socket. Fails if its address cannot be read (`getsockname(2)`).
    fn new(kind: Kind, file: Option<SocketFile>) -> io::Result<Self> {
        let address = match &kind {
            // Not `Address::from`, which would change an IPv4-mapped address.
            Kind::Tcp(socket) => Address::Tcp(socket.local_addr()?),
            Kind::Unix(socket) => socket.local_addr()?.into(),
        };
        Ok(ListeningSocket { _file: file, kind, address })
    }

    /// Duplicates the listening sockets that the process was started with: socket activation, as
    /// systemd does it (`sd_listen_fds(3)`). There are none unless `LISTEN_PID` is the number of
    /// this process and `LISTEN_FDS` is the number of sockets. With socket activation, a server can
    /// restart without refusing a connection, and it can listen on a port for which it has no
    /// permission.
    ///
    /// The sockets are identified by number only, so call this before anything else opens a
    /// descriptor. They are made non-blocking. The descriptors that the process was started with
    /// stay open; only their duplicates are closed with the server.
    ///
    /// # Errors
    /// The error names the descriptor that is not a listening stream socket, or the variable that
    /// is not a number. Only Linux has socket activation; elsewhere every descriptor is an error.
    pub fn from_listen_fds() -> io::Result<Vec<Self>> {
        let (pid, count) = (env::var_os("LISTEN_PID"), env::var_os("LISTEN_FDS"));
        let Some(count) = count.filter(|_| pid.is_some_and(|pid| pid == *process::id().to_string())) else {
            return Ok(Vec::new());
        };
        let number = count.to_str().and_then(|count| count.parse::<u16>().ok());
        let number = number.ok_or_else(|| not_a_number(&count))?;
        let end = FIRST_LISTEN_FD + RawFd::from(number);
        (FIRST_LISTEN_FD..end).map(|fd| Self::from_listen_fd(fd, end)).collect()
    }

    /// Duplicates one of the sockets. The duplicate gets a number of at least `end`, so that it is
    /// not mistaken for a socket that was passed.
    fn from_listen_fd(fd: RawFd, end: RawFd) -> io::Result<Self> {
        let describe = |error: io::Error| {
            let text = format!("cannot use descriptor {fd} (LISTEN_FDS): {}", ErrorText(&error));
            io::Error::new(error.kind(), text)
        };
        let (socket, family) = sys::duplicate_listening(fd, end).map_err(describe)?;
        match family {
            libc::AF_UNIX => Self::new(Kind::Unix(UnixListener::from_std(socket.into())), None),
            libc::AF_INET | libc::AF_INET6 => Self::new(tcp(socket), None),
            _ => Err(io::Error::new(ErrorKind::Unsupported, "neither a TCP nor a Unix socket")),
        }
        .map_err(describe)
    }

    /// Accepts one connection, with the address of its peer.
    pub(super) fn accept(&self) -> io::Result<(Socket, Address)> {
        let accepted = retry_interrupted(|| match &self.kind {
            Kind::Tcp(socket) => socket.accept().map(|(stream, peer)| (Socket::Tcp(stream), peer.into())),
            Kind::Unix(socket) => socket.accept().map(|(stream, peer)| (Socket::Unix(stream), peer.into())),
        });
        // After `shutdown(2)` by another owner of the socket, a Unix socket seems to have no pending
        // connection, and only its hang-up shows that it never will. (TCP returns `EINVAL`.)
        let would_block = accepted.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        if would_block && matches!(self.kind, Kind::Unix(_)) && sys::is_ready_now(self, 0)? {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        accepted
    }

    /// Returns the address that it listens on, with the port that the kernel chose.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        &self.address
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

/// Returns whether one of two addresses is a wildcard that includes the other.
fn overlap(one: &Address, other: &Address, ipv6_only: bool) -> bool {
    let (Address::Tcp(one), Address::Tcp(other)) = (one, other) else { return false };
    one.port() == other.port()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
        && (one.is_ipv4() == other.is_ipv4() || !ipv6_only)
}

fn tcp(socket: OwnedFd) -> Kind {
    Kind::Tcp(TcpListener::from_std(socket.into()))
}

fn not_a_number(text: &OsStr) -> io::Error {
    let text = format!("LISTEN_FDS is not a number: '{}'", Escaped(text.as_bytes()));
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// What an error of accepting a connection (`accept(2)`) or of registering it (`epoll_ctl(2)`)
/// means for the listener.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AcceptError {
    /// No connection is pending.
    WouldBlock,
    /// That peer is gone, or its network is down. The next `accept` may succeed.
    Transient,
    /// The process or the machine has no resources for another connection.
    Exhausted,
    /// The socket itself is unusable.
    Fatal,
}

impl AcceptError {
    pub fn classify(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => AcceptError::WouldBlock,
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK) => AcceptError::Fatal,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC) => {
                AcceptError::Exhausted
            }
            // A firewall may cause any error. The listener backs off if every `accept` fails.
            _ => AcceptError::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_a_peer_can_cause_do_not_end_a_listener() {
        let classify = |number| AcceptError::classify(&io::Error::from_raw_os_error(number));
        for number in [libc::ECONNABORTED, libc::EPROTO, libc::EPERM, libc::ENETDOWN, libc::ETIMEDOUT] {
            assert_eq!(classify(number), AcceptError::Transient, "{number}");
        }
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ENOSPC] {
            assert_eq!(classify(number), AcceptError::Exhausted, "{number}");
        }
        assert_eq!(classify(libc::EAGAIN), AcceptError::WouldBlock);
        assert_eq!(classify(libc::EBADF), AcceptError::Fatal);
        assert_eq!(classify(libc::EINVAL), AcceptError::Fatal);
        let no_address = ErrorKind::InvalidInput.into();
        assert_eq!(AcceptError::classify(&no_address), AcceptError::Transient);
    }
}
