//! Mistake: the loop ends at `WouldBlock` only.
//! Verdict: `read` was called 1,000 times after the end of file

use std::io::{self, ErrorKind, Read};

use crate::checks::ex04_edge::Connection;

pub fn receive(connection: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 16];
    loop {
        match connection.stream.read(&mut buffer) {
            Ok(count) => {
                connection.at_eof = count == 0;
                connection.received.extend(&buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    connection.readable = false;
    Ok(())
}
