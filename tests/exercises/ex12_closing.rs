//! Exercise 12: close in order.
//!
//! The program has written its last bytes, and closes the connection. Send what is unsent. Then shut
//! down for writing, and read and throw away until the peer has ended its side. Only then return
//! `Done`, and the loop closes the socket. The loop calls `turn` for each event, which is
//! edge-triggered, in the turn after it has returned `Again`, and when the time limit has passed
//! (`is_late`). A call makes at most `BUDGET` reads and writes. When it is late, return `Done` at once.
//! The types that you need are in `checks/ex12_closing.rs`. You may read it.
//!
//!     cargo test --test exercises ex12_closing -- --ignored

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use crate::checks::ex12_closing::{BUDGET, Connection, Next};

/// The connection has these fields:
///
/// - `stream`: it has `read`, `write` and `shutdown(Shutdown::Write)`. Here `shutdown` always
///   succeeds. After a reset, that of a real socket fails (`ENOTCONN`).
/// - `unsent`: a `Vec<u8>`
/// - `is_shut_down`: a flag for your own use, which is false at first
/// - `is_late`: whether the time limit has passed
pub fn turn(connection: &mut Connection) -> io::Result<Next> {
    todo!("which of the three comes next: to write, to shut down, or to read? Do it `BUDGET` times")
}
