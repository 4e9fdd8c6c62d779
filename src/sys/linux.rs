//! The parts of `sys` that are specific to Linux. `bsd.rs` defines the same names.
//!
//! Read next: `../sys.rs`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;

use libc::c_int;
use mio::Interest;

pub(super) use libc::__errno_location as errno_location;

// ---- epoll

/// The interest of every socket. It is registered once and never changed.
pub const SOCKET_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// epoll always reports hang-ups and errors. For a descriptor that we write to, this interest adds
/// nothing to them.
pub const ERRORS_ONLY: Interest = Interest::PRIORITY;

/// Whether events report urgent data.
pub const REPORTS_URGENT_DATA: bool = true;

/// How many events one poll may report for one descriptor.
pub const EVENTS_PER_DESCRIPTOR: usize = 1;

/// Whether a regular file may block. Some pseudo-files do (`trace_pipe`), and epoll accepts those.
/// It refuses the others.
pub const REGULAR_FILES_MAY_BLOCK: bool = true;

/// Returns whether an error of the registration means that the descriptor cannot be polled:
/// `epoll_ctl(2)`.
pub fn is_not_pollable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

// ---- sockets

pub(super) const SOCKET_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

pub(super) const REUSE_PORT: Option<c_int> = Some(libc::SO_REUSEPORT);

/// The option that returns the peer's process, and its index in the integers that it returns:
/// `unix(7)`.
pub(super) const PEER_PID: (c_int, c_int, usize) = (libc::SOL_SOCKET, libc::SO_PEERCRED, 0);

pub(super) use libc::TIOCOUTQ as OUTPUT_QUEUE;

/// Returns whether a write should be repeated at once: a signal came first.
pub fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Whether Unix sockets can have an abstract name: `unix(7)`.
pub const HAS_ABSTRACT_NAMES: bool = true;

/// Returns the socket address of an abstract name.
pub fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name)
}

/// Returns the abstract name of a socket address.
pub fn abstract_name(address: &SocketAddr) -> Option<&[u8]> {
    address.as_abstract_name()
}

// ---- descriptors and signals

/// Returns a path that opens a pipe, FIFO or terminal again: `proc_pid_fd(5)`. The master of a
/// pseudo-terminal has none: reopening `/dev/ptmx` (major 5, minor 2) would create another
/// terminal.
pub fn reopenable_path(file: &File) -> io::Result<PathBuf> {
    if file.metadata()?.rdev() == libc::makedev(5, 2) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(format!("/proc/self/fd/{}", file.as_raw_fd()).into())
}

/// The signal by which a user asks a program for its statistics. Linux has no such signal.
#[cfg(feature = "cli")]
pub const SIGINFO: Option<c_int> = None;
