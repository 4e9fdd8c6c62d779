//! Mistake: reading resumes when nothing is unsent, and not at the low-water mark.
//! Verdict: resumed too late

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
    fn ready(&mut self, readable: bool, writable: bool) -> io::Result<()> {
        self.readable |= readable;
        self.writable |= writable;
        loop {
            if self.unsent.len() >= HIGH_WATER {
                self.is_paused = true;
            }
            if self.unsent.is_empty() {
                self.is_paused = false;
            }
            let can_read = self.readable && !self.is_paused;
            let can_write = self.writable && !self.unsent.is_empty();
            if !can_read && !can_write {
                return Ok(());
            }
            if can_read {
                self.receive()?;
            }
            if can_write {
                self.send()?;
            }
        }
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
