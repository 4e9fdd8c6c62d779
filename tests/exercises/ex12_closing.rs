//! Exercise 12: close in order.
//!
//! The program has written its last bytes, and closes the connection. Send what is unsent. Then shut
//! down for writing, and read and throw away until the peer has ended its side. `turn` is called for
//! each event, which is edge-triggered, and in the turn after it has returned `Again`. It makes at
//! most `BUDGET` reads and writes. After `Done` the loop closes the socket, so nothing may be unread
//! by then. It is different when `is_late` is true: the connection has had its time, and ends.
//! The types that you need are in `checks/ex12_closing.rs`. You may read it.
//!
//!     cargo test --test exercises ex12_closing -- --ignored

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use crate::checks::ex12_closing::{BUDGET, Connection, Next};

/// The connection has these fields:
///
/// - `stream`: it has `read`, `write` and `shutdown(Shutdown::Write)`, which always succeeds
/// - `unsent`: a `Vec<u8>`
/// - `is_shut_down`: a flag for your own use, which is false at first
/// - `is_late`: whether the time limit has passed
pub fn turn(connection: &mut Connection) -> io::Result<Next> {
    todo!("which of the three comes next: to write, to shut down, or to read? Do it `BUDGET` times")
}
