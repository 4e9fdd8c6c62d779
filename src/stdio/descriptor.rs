//! A descriptor that somebody gave us, used without blocking and without changing it.
//!
//! | what it is | how it is read and written |
//! | --- | --- |
//! | pipe, FIFO, terminal | opened anew, through `/proc/self/fd` or as `/dev/tty`: a description of our own, non-blocking |
//! | pipe that cannot be opened anew | a flag in each call: `RWF_NOWAIT` |
//! | terminal that cannot be opened anew | `poll(2)`, then one call that is small enough not to block |
//! | socket | a flag in each call: `MSG_DONTWAIT` |
//! | regular file, `/dev/null` and the like | as it is: epoll refuses it, because it never blocks |
//!
//! A closed descriptor needs no row: before `main`, Rust's runtime opens `/dev/null` in the place of
//! each of 0, 1 and 2 that is closed.
//!
//! Invariant: see `mod.rs`. The one gap: a terminal that is another user's and not the one that we were
//! started from, and that another process reads at the same time, may block us between poll and read.
//!
//! Read next: `input.rs`.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

use crate::sys;

/// What a pipe takes in one write when `poll(2)` says that it takes anything: `PIPE_BUF`, `pipe(7)`.
const SMALL: usize = 4096;

/// What a descriptor is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `read(2)`
    Read,
    /// `write(2)`
    Write,
}

/// A duplicate of a descriptor, and the way to use it. See the module.
#[derive(Debug)]
pub enum Descriptor {
    /// A description of our own.
    Private(File),
    /// Shared, and asked each time whether it would block.
    Polled(File),
    /// Shared, with a flag in each call.
    Socket(OwnedFd),
    /// Never blocks, and epoll does not take it.
    Unpollable(File),
}

impl Descriptor {
    /// Duplicates a descriptor, to be used in one direction.
    ///
    /// # Errors
    /// See `fcntl(2)` under `F_DUPFD_CLOEXEC`, and `fstat(2)`.
    pub fn open(descriptor: &impl AsFd, direction: Direction) -> io::Result<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Ok(Descriptor::Socket(file.into()));
        }
        if !may_block(kind, &file, direction)? {
            return Ok(Descriptor::Unpollable(file));
        }
        if (kind.is_fifo() || file.is_terminal())
            && !is_terminal_master(&metadata)
            && let Ok(private) = open_anew(&file, direction)
        {
            return Ok(Descriptor::Private(private));
        }
        Ok(Descriptor::Polled(file))
    }

    /// Whether epoll takes it. Otherwise it is always ready.
    #[must_use]
    pub fn is_pollable(&self) -> bool {
        !matches!(self, Descriptor::Unpollable(_))
    }

    /// `read(2)`, once.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Descriptor::Private(file) | Descriptor::Unpollable(file) => (&*file).read(buffer),
            Descriptor::Socket(socket) => sys::receive_now(socket, buffer),
            Descriptor::Polled(file) => {
                or_poll(sys::read_now(file, buffer), file, libc::POLLIN, || (&*file).read(buffer))
            }
        }
    }

    /// `write(2)`, once: it may take less than all.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Descriptor::Private(file) | Descriptor::Unpollable(file) => (&*file).write(bytes),
            Descriptor::Socket(socket) => sys::send_now(socket, bytes),
            Descriptor::Polled(file) => or_poll(sys::write_now(file, bytes), file, libc::POLLOUT, || {
                (&*file).write(&bytes[..bytes.len().min(SMALL)])
            }),
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Descriptor::Private(file) | Descriptor::Polled(file) | Descriptor::Unpollable(file) => {
                file.as_fd()
            }
            Descriptor::Socket(socket) => socket.as_fd(),
        }
    }
}

/// Where the kernel does not know how not to wait on this kind of descriptor: asks first.
fn or_poll(
    tried: io::Result<usize>,
    file: &File,
    events: libc::c_short,
    blocking: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    match tried {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        known => return known,
    }
    if sys::is_ready_now(file, events)? { blocking() } else { Err(ErrorKind::WouldBlock.into()) }
}

/// Whether it is of a kind that can block. Of a device only epoll can tell: it refuses those that
/// cannot.
fn may_block(kind: FileType, file: &File, direction: Direction) -> io::Result<bool> {
    if !kind.is_char_device() {
        return Ok(kind.is_fifo());
    }
    let interest = match direction {
        Direction::Read => Interest::READABLE,
        Direction::Write => Interest::WRITABLE,
    };
    match Poll::new()?.registry().register(&mut SourceFd(&file.as_raw_fd()), Token(0), interest) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
        other => other.map(|()| true),
    }
}

/// `/dev/ptmx` opened anew is another terminal altogether: major 5, minor 2 in Linux's list of devices.
fn is_terminal_master(metadata: &Metadata) -> bool {
    metadata.rdev() == libc::makedev(5, 2)
}

/// It may be refused: a terminal is its user's, and after `su` we are another. Then `/dev/tty` is another
/// name for it, if it is the one that we were started from.
fn open_anew(file: &File, direction: Direction) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(direction == Direction::Read)
        .write(direction == Direction::Write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    how.open(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|refused| {
        if sys::is_controlling_terminal(file) { how.open("/dev/tty") } else { Err(refused) }
    })
}
