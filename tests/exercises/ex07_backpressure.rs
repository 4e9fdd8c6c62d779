//! Exercise 7: a write buffer with two marks.
//!
//! The connection sends back what it reads. Pause reading when `HIGH_WATER` bytes or more are
//! unsent, and resume when no more than `LOW_WATER` are. Events are edge-triggered, and each has
//! one direction, as with kqueue. The peer does not end its side here. Write `ready`. The methods
//! `receive` and `send` are complete.
//! The types that you need are in `checks/ex07_backpressure.rs`. You may read it.
//!
//!     cargo test --test exercises ex07_backpressure -- --ignored

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use crate::checks::ex07_backpressure::{Echo, HIGH_WATER, LOW_WATER, Stream};

pub struct Connection {
    stream: Stream,
    /// The bytes that were read and are not written yet.
    unsent: VecDeque<u8>,
    readable: bool,
    writable: bool,
    is_paused: bool,
}

impl Echo for Connection {
    /// Handles an event: the connection has become readable, or writable.
    fn ready(&mut self, readable: bool, writable: bool) -> io::Result<()> {
        todo!("go on while it can read or write, and look at both marks after each call")
    }
}

impl Connection {
    pub fn new(stream: Stream) -> Self {
        let unsent = VecDeque::new();
        Connection { stream, unsent, readable: false, writable: false, is_paused: false }
    }

    /// Reads once.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(count) => self.unsent.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes once.
    fn send(&mut self) -> io::Result<()> {
        match self.stream.write(self.unsent.as_slices().0) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
