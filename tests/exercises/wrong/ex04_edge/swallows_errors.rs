//! Mistake: every error is taken for `WouldBlock`, except the one that is easy to see.
//! Verdict: `read` failed with ConnectionReset, and `receive` returned Ok(())

use std::io::{self, ErrorKind, Read};

use crate::checks::ex04_edge::Connection;

pub fn receive(connection: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 16];
    while connection.readable && !connection.at_eof {
        match connection.stream.read(&mut buffer) {
            Ok(0) => connection.at_eof = true,
            Ok(count) => connection.received.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => connection.readable = false,
        }
    }
    Ok(())
}
