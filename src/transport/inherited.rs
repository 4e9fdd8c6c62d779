//! Listening sockets that whoever started the program has opened for it: socket activation, as systemd
//! does it, see `sd_listen_fds(3)`. So a server can be restarted without refusing anybody, and listen on a
//! port that it may not open itself.
//!
//! Invariant: what is not a listening stream socket is not touched.
//!
//! Read next: `listener.rs`.

use std::env;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ListeningSocket, Plain};
use crate::sys;

/// The first one, by convention: the next ones follow without a gap.
const FIRST: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl ListeningSocket {
    /// Takes over the sockets that `LISTEN_FDS` counts, if `LISTEN_PID` says that they are meant for
    /// this process: none without the two variables, and none the second time. To be called before
    /// anything else opens a descriptor, as a number is all that tells which ones are meant.
    ///
    /// # Errors
    /// Names the descriptor that is no listening stream socket, or the variable that is no number.
    pub fn inherited() -> io::Result<Vec<Self>> {
        let own = process::id().to_string();
        if env::var_os("LISTEN_PID").is_none_or(|pid| pid != *own) || TAKEN.swap(true, Ordering::AcqRel) {
            return Ok(Vec::new());
        }
        let count = env::var_os("LISTEN_FDS").unwrap_or_default();
        let number = count.to_str().and_then(|count| count.parse::<u16>().ok());
        let number = number.ok_or_else(|| no_count(&count))?;
        (FIRST..FIRST + RawFd::from(number)).map(Self::take_over).collect()
    }

    fn take_over(fd: RawFd) -> io::Result<Self> {
        let describe = |error: io::Error| {
            let text = format!("cannot take over descriptor {fd} (LISTEN_FDS): {}", Plain(&error));
            io::Error::new(error.kind(), text)
        };
        let (socket, family) = sys::take_listening(fd).map_err(describe)?;
        match family {
            libc::AF_UNIX => Ok(Self::unix(socket)),
            libc::AF_INET | libc::AF_INET6 => Ok(Self::tcp(socket)),
            _ => Err(describe(io::Error::new(ErrorKind::Unsupported, "it is neither TCP nor Unix"))),
        }
    }
}

fn no_count(text: &OsStr) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("LISTEN_FDS is no number: '{}'", text.display()))
}
