//! The file that a listening Unix socket leaves in the file system.
//!
//! Invariant: a live socket, or a file that is not a socket, is never removed. A socket file on
//! which no server listens is replaced. Our own file is removed on drop, unless another process has
//! replaced it.
//!
//! Servers that start on the same path at the same time take turns. Each holds a lock on the
//! directory from its first check of the file until it listens. A server that ends needs no lock:
//! the others do not touch its file while it listens, and it removes the file before it stops
//! listening. If a server is killed, the kernel releases its lock. Its file stays, and the next
//! server finds that no process listens on it.
//!
//! Known gap: macOS and the BSDs also refuse a connection if the backlog is full (`unp_connect` in
//! XNU). There, a live server whose backlog is full is mistaken for one that has ended.
//!
//! Read next: `listening_socket.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};

use super::{ErrorText, Escaped};
use crate::sys;

/// How long to wait for the lock. A server holds it for less than a millisecond, unless its process
/// is stopped. After this time, the others go on without the lock. So does a server that may not
/// read the directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// The file of a listening socket. It is removed on drop, before the socket is closed.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode. The open socket keeps the inode, so no other file can have its number.
    file: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let removed = match file_id(&self.path) {
            Ok(file) if file == self.file => fs::remove_file(&self.path),
            other => other.map(drop),
        };
        if let Err(error) = removed
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {}", shown(&self.path), ErrorText(&error));
        }
    }
}

/// Binds and listens. Replaces a stale socket, if there is one.
pub(super) fn listen(path: &Path, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let _lock = lock_directory(path);
    remove_if_stale(path)?;
    let bound = UnixListener::bind(path).and_then(|listener| {
        sys::listen(&listener, backlog)?;
        let file = SocketFile { path: path.to_owned(), file: file_id(path)? };
        Ok((listener, file))
    });
    // If a step after `bind(2)` fails, the file is there, but no server listens on it.
    bound.inspect_err(|error| {
        if error.kind() != ErrorKind::AddrInUse {
            let _ = remove_if_stale(path);
        }
    })
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn shown(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_bytes())
}

fn remove_if_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()), // there is no file, or `bind(2)` returns the same error
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "the file exists and is not a socket"));
        }
        Ok(_) => {}
    }
    let connected = UnixStream::connect(path).map(drop);
    match connected.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::ECONNREFUSED)) => {}
        Err(Some(libc::ENOENT)) => return Ok(()), // its server has just ended
        // A server answers, or its backlog is full, or the socket is not a stream socket.
        Ok(()) | Err(Some(libc::EAGAIN | libc::EPROTOTYPE)) => {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        Err(_) => return connected,
    }
    log::debug!("replacing the stale socket {}", shown(path));
    fs::remove_file(path)
}

/// Locks the directory of `path` until the result is dropped. Returns `None` if it cannot be
/// locked.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_DIRECTORY);
    let directory = options.open(parent.unwrap_or(Path::new("."))).ok()?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    while let Err(error) = sys::try_lock(&directory) {
        if error.kind() != ErrorKind::WouldBlock || Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOCK_RETRY);
    }
    Some(directory)
}
