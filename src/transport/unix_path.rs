//! The file that a listening Unix socket leaves in the file system.
//!
//! Invariant: only what is ours is removed. A file that nobody listens on is replaced; a live socket,
//! or a file that is no socket, is left as it is. At the end the file goes, unless somebody else has
//! put theirs there since.
//!
//! Read next: `listener.rs`.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};

/// The file of a listening socket: removed when this is dropped.
#[derive(Debug)]
pub(super) struct UnixPath {
    path: PathBuf,
    file: FileId,
}

/// What tells one file from another of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            // Inode numbers are used again at once on some file systems.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && FileId::of(&metadata) == self.file
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Binds and listens, in place of a stale socket if there is one.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, UnixPath)> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_if_stale(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    let file = FileId::of(&fs::symlink_metadata(path)?);
    Ok((listener, UnixPath { path: path.to_owned(), file }))
}

fn remove_if_stale(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "the file exists and is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // Connected, or its queue is full, or it is of another kind: somebody has it.
        _ => return Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
    // Another server may have been as fast as we are.
    if FileId::of(&fs::symlink_metadata(path)?) != FileId::of(&metadata) {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    log::debug!("replacing the stale socket {}", path.display());
    fs::remove_file(path)
}
