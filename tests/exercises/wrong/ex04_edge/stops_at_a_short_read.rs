//! Mistake: a short read is taken for the last one.
//! Verdict: `receive` returned before `WouldBlock`

use std::io::{self, ErrorKind, Read};

use crate::checks::ex04_edge::Connection;

pub fn receive(connection: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 16];
    loop {
        match connection.stream.read(&mut buffer) {
            Ok(0) => {
                connection.at_eof = true;
                return Ok(());
            }
            Ok(count) => {
                connection.received.extend(&buffer[..count]);
                if count < buffer.len() {
                    connection.readable = false;
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.readable = false;
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
