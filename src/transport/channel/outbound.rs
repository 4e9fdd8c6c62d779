//! What goes: the outbound half-machine, and what is owed.
//!
//! Invariant: bytes leave in the order in which they were written; while something is owed, nothing else is
//! sent before it.
//!
//! Read next: `../connection.rs`.

use std::io::{self, ErrorKind};

use super::Channel;
use crate::reactor::{Reactor, Ready};
use crate::transport::{Flow, Plain, Reason};

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
        let sent = if self.owed.is_empty() && self.ready.is(Ready::WRITABLE) && !bytes.is_empty() {
            let written = self.socket.write(bytes);
            self.sent(written, bytes.len(), reactor)
        } else {
            0
        };
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

    /// Owes `bytes`: they leave with the next [`flush`](Self::flush). `false`: our side is ended, or `most`
    /// bytes are owed already.
    pub fn owe(&mut self, bytes: &[u8], most: usize) -> bool {
        let takes = matches!(self.outbound, Outbound::Open) && self.owed.len() < most;
        if takes {
            self.owed.push(bytes);
        }
        takes
    }

    /// Why nothing can be written any more, if so.
    pub fn refusal(&self) -> Option<io::Error> {
        match &self.outbound {
            Outbound::Open => None,
            Outbound::Broken(error) => Some(io::Error::new(error.kind(), Plain(error).to_string())),
            Outbound::Draining | Outbound::Shut => {
                let error = self.ended.as_ref().and_then(Reason::error);
                Some(error.unwrap_or_else(|| ErrorKind::BrokenPipe.into()))
            }
        }
    }

    /// Sends what is owed, as far as the socket takes it. The empty buffer keeps at most `keep` bytes.
    #[allow(
        clippy::inline_always,
        reason = "after each poll of a future, where it is most often all there is to do"
    )]
    #[inline(always)]
    pub fn flush(&mut self, keep: usize, reactor: &Reactor) {
        if !self.owed.is_empty() && self.ready.is(Ready::WRITABLE) {
            let written = self.socket.write(self.owed.as_slice());
            let sent = self.sent(written, self.owed.len(), reactor);
            self.owed.consume_and_keep(sent, keep);
        }
    }

    /// What a write of `length` bytes came to: how many of them need no other.
    #[allow(clippy::inline_always, reason = "into `write`, where it is most often all there is to do")]
    #[inline(always)]
    fn sent(&mut self, written: io::Result<usize>, length: usize, reactor: &Reactor) -> usize {
        match written {
            Ok(count) => {
                if count < length {
                    self.ready.clear(Ready::WRITABLE);
                }
                self.bytes_out += count as u64;
                self.deadline.put_off(reactor);
                count
            }
            Err(error) => self.send_failed(error, length),
        }
    }

    /// What a broken socket does not take is lost in any case, so it counts as sent.
    #[cold]
    fn send_failed(&mut self, error: io::Error, length: usize) -> usize {
        if error.kind() == ErrorKind::WouldBlock {
            self.ready.clear(Ready::WRITABLE);
            0
        } else {
            self.outbound = Outbound::Broken(error);
            length
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
