//! Uses a descriptor that other processes share, without blocking and without changing its flags.
//!
//! | what it is | how it is read and written |
//! | --- | --- |
//! | pipe, FIFO, terminal | reopened, through `/proc/self/fd` or as `/dev/tty`: a non-blocking open file description of our own. macOS and the BSDs reopen only terminals, by their name |
//! | socket | a flag in each call: `MSG_DONTWAIT` |
//! | anything that epoll or kqueue refuses: `/dev/null`, a regular file | as it is, because it never blocks |
//! | anything else: a pipe that cannot be reopened, the master of a pseudo-terminal, a pseudo-file, an event counter | a flag in each call, `RWF_NOWAIT`; where that is not supported (never on macOS and the BSDs), `poll(2)`, then one small call. A write to a terminal is one byte |
//!
//! A closed descriptor needs no row: before `main`, Rust's runtime opens `/dev/null` in the place
//! of each of 0, 1 and 2 that is closed.
//!
//! Invariant: see `mod.rs`. Known gap: a read may block on a terminal that belongs to another user,
//! is not our controlling terminal, and is read by another process between our `poll` and our
//! `read`. On macOS and the BSDs the same holds for a pipe that another process reads, too. A write
//! may block on such a terminal if it has room for one byte only, and expands ours, for example a
//! newline.
//!
//! Read next: `input.rs`.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

use crate::reactor::Ready;
use crate::sys;

/// The size of a write that a writable pipe takes without blocking, see `pipe(7)`: 4096 bytes on
/// Linux, 512 on macOS and the BSDs.
const PIPE_BUF: usize = libc::PIPE_BUF;

/// The direction in which a descriptor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `read(2)`.
    Read,
    /// `write(2)`.
    Write,
}

/// A duplicate of a descriptor, which is read or written without blocking. The flags of the
/// descriptor stay as they are, because other processes may share them.
#[derive(Debug)]
pub struct Descriptor(Kind);

#[derive(Debug)]
enum Kind {
    /// Reopened: an open file description of our own.
    Reopened(File),
    /// Shared with other processes. A flag makes each call non-blocking.
    Shared(File),
    /// A socket of any family, shared with other processes. A flag makes each call non-blocking.
    Socket(TcpStream),
    /// Never blocks, and cannot be polled.
    AlwaysReady(File),
}

impl Descriptor {
    /// Duplicates a descriptor for use in one direction.
    ///
    /// # Errors
    /// `EBADF` if the descriptor is not open in that direction. `Unsupported` for a terminal that
    /// cannot be polled, such as `/dev/tty` on macOS. See also `fcntl(2)`, `F_DUPFD_CLOEXEC`.
    pub fn open(descriptor: &impl AsFd, direction: Direction) -> io::Result<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        let metadata = file.metadata()?;
        if metadata.file_type().is_socket() {
            return Ok(Descriptor(Kind::Socket(OwnedFd::from(file).into())));
        }
        let other = if direction == Direction::Read { libc::O_WRONLY } else { libc::O_RDONLY };
        let mode = sys::access_mode(&file)?;
        if mode == other {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let may_block = sys::REGULAR_FILES_MAY_BLOCK || !metadata.is_file();
        if !may_block || !is_pollable(&file, direction)? {
            if file.is_terminal() {
                let text = "this terminal cannot be polled; use its own name, see tty(1)";
                return Err(io::Error::new(ErrorKind::Unsupported, text));
            }
            return Ok(Descriptor(Kind::AlwaysReady(file)));
        }
        // On macOS, `reopen` may have opened `/dev/tty`, which cannot be polled there.
        if (metadata.file_type().is_fifo() || file.is_terminal())
            && let Ok(reopened) = reopen(&file, mode)
            && is_pollable(&reopened, direction)?
        {
            return Ok(Descriptor(Kind::Reopened(reopened)));
        }
        Ok(Descriptor(Kind::Shared(file)))
    }

    /// Returns whether the descriptor can be polled. If not, it is always ready.
    #[must_use]
    pub fn is_pollable(&self) -> bool {
        !matches!(self.0, Kind::AlwaysReady(_))
    }

    /// Returns why nothing will ever read what is written, if an event reports that: the error that
    /// ended a socket's connection, or else `EPIPE`. kqueue uses its read filter to report that a
    /// pipe has lost its reader. For a socket, the read filter reports only that the peer has ended
    /// its own side. The peer may still read, and only a write shows whether it does.
    pub(crate) fn hang_up(&self, ready: Ready) -> Option<io::Error> {
        let socket = if let Kind::Socket(socket) = &self.0 { Some(socket) } else { None };
        let by_read_filter = sys::ERRORS_ONLY.is_readable() && socket.is_none();
        let is_hung_up =
            ready.intersects(Ready::WRITE_CLOSED) || by_read_filter && ready.intersects(Ready::READ_CLOSED);
        is_hung_up.then(|| {
            let pending = socket.and_then(|socket| socket.take_error().ok().flatten());
            pending.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EPIPE))
        })
    }

    /// Reads once: `read(2)`.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to read yet; otherwise see `read(2)`.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Reopened(file) | Kind::AlwaysReady(file) => (&*file).read(buffer),
            Kind::Socket(socket) => sys::receive_now(socket, buffer),
            Kind::Shared(file) => {
                let tried = sys::read_now(file, buffer);
                with_poll_fallback(tried, file, libc::POLLIN, || (&*file).read(buffer))
            }
        }
    }

    /// Writes once: `write(2)`. It may write only a part of `bytes`.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; otherwise see `write(2)`.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Reopened(file) | Kind::AlwaysReady(file) => (&*file).write(bytes),
            Kind::Socket(socket) => sys::send_now(socket, bytes),
            Kind::Shared(file) => write_shared(file, bytes),
        }
    }
}

/// Writes once to a descriptor that is shared with other processes, without blocking.
pub(crate) fn write_shared(descriptor: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // `poll` reports a pipe as writable if it has room for `PIPE_BUF` bytes, but a terminal if it has
    // any room.
    let limit = if descriptor.as_fd().is_terminal() { 1 } else { PIPE_BUF };
    let start = &bytes[..bytes.len().min(limit)];
    let tried = sys::write_now(descriptor, bytes);
    with_poll_fallback(tried, descriptor, libc::POLLOUT, || sys::write(descriptor, start))
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Reopened(file) | Kind::Shared(file) | Kind::AlwaysReady(file) => file.as_fd(),
            Kind::Socket(socket) => socket.as_fd(),
        }
    }
}

/// If this kind of descriptor has no non-blocking call (`EOPNOTSUPP`), checks with `poll(2)` first.
fn with_poll_fallback(
    tried: io::Result<usize>,
    descriptor: &impl AsFd,
    events: libc::c_short,
    blocking: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    match tried {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        known => return known,
    }
    if sys::is_ready_now(descriptor, events)? { blocking() } else { Err(ErrorKind::WouldBlock.into()) }
}

/// Whether the kernel can poll a file. The kernel refuses files that cannot block. The type of the
/// file does not show this, because some pseudo-files of Linux can block.
fn is_pollable(file: &File, direction: Direction) -> io::Result<bool> {
    let interest = match direction {
        Direction::Read => Interest::READABLE,
        Direction::Write => Interest::WRITABLE,
    };
    match Poll::new()?.registry().register(&mut SourceFd(&file.as_raw_fd()), Token(0), interest) {
        Err(error) if sys::is_not_pollable(&error) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Opens the same file again, non-blocking. The kernel may refuse this: after `su`, the terminal
/// belongs to another user. `/dev/tty` opens the controlling terminal even then. The access mode
/// stays the same: a FIFO that was opened for reading and writing has no end of file.
fn reopen(file: &File, mode: libc::c_int) -> io::Result<File> {
    let path = sys::reopenable_path(file)?;
    let mut options = OpenOptions::new();
    options
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path).or_else(|refused| {
        if sys::is_controlling_terminal(file) { options.open("/dev/tty") } else { Err(refused) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: RWF_NOWAIT")]
    fn shared_pipe_never_blocks_either_reader() {
        let (reader, mut writer) = io::pipe().unwrap();
        let tries: Vec<_> = (0..2)
            .map(|_| {
                let duplicate = File::from(OwnedFd::from(reader.try_clone().unwrap()));
                let descriptor = Descriptor(Kind::Shared(duplicate)); // as if reopening had failed
                let tries = Arc::new(AtomicUsize::new(0));
                let counted = tries.clone();
                std::thread::spawn(move || {
                    while !matches!(descriptor.read(&mut [0]), Ok(0)) {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
                tries
            })
            .collect();
        // Each byte wakes both readers, and one of them reads it. The other reader must not block.
        for _ in 0..100 {
            let deadline = Instant::now() + Duration::from_secs(20);
            writer.write_all(b"x").unwrap();
            while rustix::io::ioctl_fionread(&reader).unwrap() > 0 {
                std::thread::yield_now();
            }
            for tries in &tries {
                let before = tries.load(Ordering::Relaxed);
                while tries.load(Ordering::Relaxed) < before + 2 {
                    assert!(Instant::now() < deadline, "a reader is blocked");
                    std::thread::yield_now();
                }
            }
        }
    }
}
