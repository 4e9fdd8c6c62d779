//! The parts of `sys` that are specific to macOS and the BSDs. `linux.rs` defines the same names.
//!
//! Each item names the manual page or the source code that it follows. XNU is the kernel of macOS.
//! We have not seen this code run yet: see the table of platforms in the README.
//!
//! Read next: `../sys.rs`.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;

use libc::c_int;
use mio::Interest;

#[cfg(any(target_os = "netbsd", target_os = "openbsd"))]
pub(super) use libc::__errno as errno_location;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
pub(super) use libc::__error as errno_location;

// ---- kqueue

/// The interest of every socket: a filter for each direction. `mio` uses no kqueue filter for
/// urgent data.
pub const SOCKET_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// kqueue has no interest in errors only. On the write end of a pipe, the filter for reading
/// reports that the reader has closed (`pipeclose` in XNU; asyncio's `_UnixWritePipeTransport` uses
/// the same). The filter for writing would report each write again when the reader has taken the
/// bytes, so a program that logs its events to that pipe would never sleep.
pub const ERRORS_ONLY: Interest = Interest::READABLE;

/// Whether events report urgent data. A read ends at the urgent byte (`so_oobmark` in `soreceive`,
/// even with `SO_OOBINLINE`), so a short read never proves that nothing is left.
pub const REPORTS_URGENT_DATA: bool = false;

/// How many events one poll may report for one descriptor. Each filter reports its own event.
pub const EVENTS_PER_DESCRIPTOR: usize = 2;

/// Whether a regular file may block. It does not, although kqueue accepts it. (At the end of the
/// file, kqueue's filter would wait for more data.)
pub const REGULAR_FILES_MAY_BLOCK: bool = false;

/// Returns whether an error of the registration means that the descriptor cannot be polled. macOS
/// refuses `/dev/null` and `/dev/tty` with `EINVAL` (`filt_specattach` in XNU; libuv expects the
/// same), and FreeBSD refuses a device without a filter with `ENODEV` (`no_kqfilter`).
pub fn is_not_pollable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV | libc::EOPNOTSUPP | libc::EPERM))
}

// ---- sockets

/// macOS has no such flags, so `tcp_socket` calls `fcntl(2)`.
#[cfg(target_vendor = "apple")]
pub(super) const SOCKET_FLAGS: c_int = 0;
#[cfg(not(target_vendor = "apple"))]
pub(super) const SOCKET_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// Only FreeBSD shares connections among the sockets of a port. With `SO_REUSEPORT`, several
/// sockets can bind to the port, but one of them gets all connections. (libuv refuses it for that
/// reason, see `UV_TCP_REUSEPORT`.)
#[cfg(target_os = "freebsd")]
pub(super) const REUSE_PORT: Option<c_int> = Some(libc::SO_REUSEPORT_LB);
#[cfg(not(target_os = "freebsd"))]
pub(super) const REUSE_PORT: Option<c_int> = None;

/// The option that returns the peer's process, and its index in the integers that it returns:
/// `unix(4)`.
#[cfg(target_vendor = "apple")]
pub(super) const PEER_PID: (c_int, c_int, usize) = (libc::SOL_LOCAL, libc::LOCAL_PEERPID, 0);
#[cfg(target_os = "freebsd")]
pub(super) const PEER_PID: (c_int, c_int, usize) = {
    let offset = std::mem::offset_of!(libc::xucred, cr_pid__c_anonymous_union);
    (libc::SOL_LOCAL, libc::LOCAL_PEERCRED, offset / size_of::<c_int>())
};
#[cfg(target_os = "netbsd")]
pub(super) const PEER_PID: (c_int, c_int, usize) = (0, libc::LOCAL_PEEREID, 0);
#[cfg(target_os = "openbsd")]
pub(super) const PEER_PID: (c_int, c_int, usize) = (libc::SOL_SOCKET, libc::SO_PEERCRED, 2);

#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
pub(super) use libc::FIONWRITE as OUTPUT_QUEUE;
/// `TIOCOUTQ` of `<sys/ttycom.h>`, which the `libc` crate lacks. If a kernel refuses it for
/// sockets, a timeout only counts our own writes.
#[cfg(target_os = "openbsd")]
pub(super) const OUTPUT_QUEUE: libc::c_ulong = 0x4004_7473;

/// Fails. Only Linux has the socket activation of systemd (`sd_listen_fds(3)`), and macOS cannot
/// check that a socket listens, because `SO_ACCEPTCONN` cannot be read there.
pub fn duplicate_listening(_: RawFd, _: RawFd) -> io::Result<(OwnedFd, c_int)> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "socket activation works only on Linux"))
}

/// Returns whether a write should be repeated at once. While a connection is being shut down, macOS
/// may return `EPROTOTYPE`, and then the repeated write returns `EPIPE` (libuv,
/// `RETRY_ON_WRITE_ERROR`).
pub fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
        || cfg!(target_vendor = "apple") && error.raw_os_error() == Some(libc::EPROTOTYPE)
}

/// Whether Unix sockets can have an abstract name. Only Linux has them.
pub const HAS_ABSTRACT_NAMES: bool = false;

/// Fails, because there are no abstract names.
pub fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract Unix sockets"))
}

/// Returns `None`, because there are no abstract names.
pub fn abstract_name(_: &SocketAddr) -> Option<&[u8]> {
    None
}

// ---- descriptors and signals

/// Fails with `EOPNOTSUPP`, because `RWF_NOWAIT` does not exist here. So the caller polls first.
pub fn read_now(_: &impl AsFd, _: &mut [u8]) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// See [`read_now`].
pub fn write_now(_: &impl AsFd, _: &[u8]) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// The signal by which a user asks a program for its statistics. A terminal sends it for Ctrl-T:
/// `termios(4)`.
#[cfg(feature = "cli")]
pub const SIGINFO: Option<c_int> = Some(libc::SIGINFO);
