//! The file that a listening Unix socket leaves in the file system.
//!
//! Invariant: only our own file is removed. A file on which nobody listens is replaced; a live socket,
//! or a file that is not a socket, is left alone. On drop our file is removed, unless another process
//! has replaced it.
//!
//! Read next: `listening_socket.rs`.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};

/// The file of a listening socket. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    file: FileId,
}

/// What distinguishes a file from another one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            // Some file systems reuse inode numbers at once.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && FileId::from(&metadata) == self.file
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Binds and listens. Replaces a stale socket, if there is one.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_if_stale(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    let file = FileId::from(&fs::symlink_metadata(path)?);
    Ok((listener, SocketFile { path: path.to_owned(), file }))
}

fn remove_if_stale(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // Connected, or its backlog is full, or it is of another kind: it is in use.
        _ => return Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
    // Another server may have replaced it meanwhile.
    if FileId::from(&fs::symlink_metadata(path)?) != FileId::from(&metadata) {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    log::debug!("replacing the stale socket {}", path.display());
    fs::remove_file(path)
}
