//! Mistake: one read for each event, as in a level-triggered loop.
//! Verdict: `receive` returned before `WouldBlock`

use std::io::{self, ErrorKind, Read};

use crate::checks::ex04_edge::Connection;

pub fn receive(connection: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 16];
    match connection.stream.read(&mut buffer) {
        Ok(0) => connection.at_eof = true,
        Ok(count) => connection.received.extend(&buffer[..count]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => connection.readable = false,
        Err(error) => return Err(error),
    }
    Ok(())
}
