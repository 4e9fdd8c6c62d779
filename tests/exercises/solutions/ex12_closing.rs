//! One call at a time. What comes next follows from what is done.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use crate::checks::ex12_closing::{BUDGET, Connection, Next};

pub fn turn(connection: &mut Connection) -> io::Result<Next> {
    if connection.is_late {
        return Ok(Next::Done);
    }
    for _ in 0..BUDGET {
        if connection.unsent.is_empty() && !connection.is_shut_down {
            connection.stream.shutdown(Shutdown::Write)?;
            connection.is_shut_down = true;
        }
        let result = if connection.is_shut_down {
            connection.stream.read(&mut [0; 4096])
        } else {
            connection.stream.write(&connection.unsent)
        };
        match result {
            Ok(0) => return Ok(Next::Done),
            Ok(count) if !connection.is_shut_down => drop(connection.unsent.drain(..count)),
            Ok(_) => {} // thrown away
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Wait),
            Err(error) => return Err(error),
        }
    }
    Ok(Next::Again)
}
