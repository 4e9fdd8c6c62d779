//! Exercise 4: read from an edge-triggered socket.
//!
//! A connection has a `stream`, the bytes that it has `received`, and the flags `readable` and
//! `at_eof`. For each event the loop sets `readable` and calls `receive`, once. More may have
//! arrived than the buffer holds, and no second event comes for the rest. Append what you read to
//! `received`. Set `at_eof` at the end of file. Clear `readable` when nothing is left; after the end of
//! file the flag does not matter. Return an error only if it breaks the connection. (Linux does not
//! interrupt a read that does not block, but other systems may, and `std::io::Read` asks for a retry.)
//! The types that you need are in `checks/ex04_edge.rs`. You may read it.
//!
//!     cargo test --test exercises ex04_edge -- --ignored

use std::io::{self, ErrorKind, Read};

use crate::checks::ex04_edge::Connection;

pub fn receive(connection: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 16];
    todo!("`connection.stream.read` has five outcomes: bytes, 0, `WouldBlock`, `Interrupted`, other errors")
}
