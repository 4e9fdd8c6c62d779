//! What goes: the outbound half-machine, and what is owed.
//!
//! Invariant: bytes leave in the order in which they were written; while something is owed, nothing else is
//! sent before it.
//!
//! Read next: `../connection.rs`.

use std::io::{self, ErrorKind};

use super::Channel;
use crate::reactor::{Reactor, Ready};
use crate::transport::Flow;

pub(super) enum Outbound {
    Open,
    /// No more may be written; what is owed is still on its way.
    Draining,
    /// FIN is sent.
    Shut,
    /// The socket takes nothing any more, for this reason. There may still be something to read.
    Broken(io::Error),
}

impl Channel {
    pub fn write(&mut self, bytes: &[u8], reactor: &Reactor) -> Flow {
        if !matches!(self.outbound, Outbound::Open) {
            return Flow::Closed;
        }
        let sent = if self.owed.is_empty() { self.send(bytes, reactor) } else { 0 };
        if sent < bytes.len() {
            self.owed.push(&bytes[sent..]);
        }
        self.flow()
    }

    pub fn flow(&self) -> Flow {
        if !matches!(self.outbound, Outbound::Open) {
            Flow::Closed
        } else if self.owed.len() > self.high {
            Flow::Full
        } else {
            Flow::Open
        }
    }

    /// Sends what is owed, as far as the socket takes it.
    pub fn flush(&mut self, reactor: &Reactor) {
        if !self.owed.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            let sent = self.send(owed.as_slice(), reactor);
            self.owed = owed;
            self.owed.consume(sent);
        }
    }

    /// One write, if the socket may take something: one system call.
    #[allow(clippy::inline_always, reason = "into `write`, where it is most often all there is to do")]
    #[inline(always)]
    fn send(&mut self, bytes: &[u8], reactor: &Reactor) -> usize {
        if !self.ready.is(Ready::WRITABLE) || bytes.is_empty() {
            return 0;
        }
        match self.socket.write(bytes) {
            Ok(count) => {
                if count < bytes.len() {
                    self.ready.clear(Ready::WRITABLE);
                }
                self.bytes_out += count as u64;
                self.deadline.put_off(reactor);
                count
            }
            Err(error) => self.send_failed(error, bytes, reactor),
        }
    }

    /// What a broken socket does not take is lost in any case, so it counts as sent.
    #[cold]
    fn send_failed(&mut self, error: io::Error, bytes: &[u8], reactor: &Reactor) -> usize {
        match error.kind() {
            ErrorKind::Interrupted => self.send(bytes, reactor),
            ErrorKind::WouldBlock => {
                self.ready.clear(Ready::WRITABLE);
                0
            }
            _ => {
                self.outbound = Outbound::Broken(error);
                bytes.len()
            }
        }
    }

    pub fn write_eof(&mut self) {
        if matches!(self.outbound, Outbound::Open) {
            self.outbound = Outbound::Draining;
        }
    }

    pub fn set_marks(&mut self, high: usize, low: usize) {
        self.high = high;
        self.low = low.min(high);
    }

    /// Whether nothing follows from what a callback did: the ordinary case, decided at a glance.
    pub fn is_settled(&self) -> bool {
        self.owed.is_empty() && !self.writing_paused && matches!(self.outbound, Outbound::Open)
    }

    /// A notice that is due: `Some(true)` for `pause_writing`, `Some(false)` for `resume_writing`.
    /// It counts as given.
    pub fn take_notice(&mut self) -> Option<bool> {
        let paused =
            if self.writing_paused { self.owed.len() > self.low } else { self.owed.len() > self.high };
        if paused == self.writing_paused || !self.delivers() {
            return None;
        }
        self.writing_paused = paused;
        Some(paused)
    }
}
