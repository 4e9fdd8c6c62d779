//! Where connections come from: addresses, sockets, the listener and the connector.
//!
//! ```text
//!   peers ─▶ ListeningSocket ─▶ Listener ──┐
//!                                          ├─▶ Socket ─▶ a Connection (`../transport/`)
//!   Address ─▶ Connector ──────────────────┘             or a Task (`../streams/`)
//! ```
//!
//! Invariant: nothing here knows what a connection does. The listener and the connector pass each
//! connected socket to a closure.
//!
//! Read next: `listener.rs`, the accept path; `connector.rs`, which opens connections.

mod address;
mod connector;
mod listener;
mod listening_socket;
mod socket;
mod socket_file;

pub use address::{Address, ParseAddressError};
pub use connector::{ConnectError, ConnectOptions};
pub use listener::{Listener, ListenerStats};
pub use listening_socket::{ListenOptions, ListeningSocket};
pub use socket::Socket;

pub(crate) use connector::{Connector, NotConnected, connect};
pub(crate) use listener::listen;

use std::fmt;
use std::io;

/// Shows an error as `strerror(3)` does, without the number that `std` appends. Adds the remedy if
/// the user can remedy the error.
#[doc(hidden)] // for the two programs
#[derive(Debug)]
pub struct ErrorText<'a>(pub &'a io::Error);

impl fmt::Display for ErrorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.rsplit_once(" (os error ").map_or(text.as_str(), |(text, _)| text))?;
        let has_remedy = self.0.raw_os_error() == Some(libc::EMFILE);
        f.write_str(if has_remedy { ", see 'ulimit -n'" } else { "" })
    }
}

/// Shows untrusted bytes on one line. Control characters and invalid UTF-8 are escaped.
#[doc(hidden)] // for the two programs
#[derive(Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_debug())? } else { write!(f, "{c}")? }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}
