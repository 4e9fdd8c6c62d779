//! What comes: the inbound half-machine.
//!
//! Invariant: the end of file is told once, and after `close` nothing is told at all.
//!
//! Read next: `outbound.rs`.

use std::io::{self, ErrorKind};

use super::{Channel, Outbound};
use crate::reactor::Ready;
use crate::transport::Reason;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inbound {
    Open,
    Paused,
    /// Closed by us: what comes is thrown away.
    Discarding,
    /// The peer has ended its side.
    Ended,
}

/// What one read brought.
pub(crate) enum Received {
    Bytes(usize),
    /// Bytes after `close`: nobody is to hear of them.
    Discarded(usize),
    /// The end of file, if it is news: not after `close`, nor if it is only what a broken connection
    /// leaves behind.
    End,
    Nothing,
}

impl Channel {
    /// Whether a read is wanted and may bring something.
    pub fn may_read(&self) -> bool {
        self.ready.is(Ready::READABLE) && matches!(self.inbound, Inbound::Open | Inbound::Discarding)
    }

    /// Whether a read may bring something that is not to be thrown away.
    pub fn may_deliver(&self) -> bool {
        self.ready.is(Ready::READABLE) && self.inbound == Inbound::Open
    }

    /// One read: one system call.
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let is_open = self.inbound == Inbound::Open;
        match self.socket.read(buffer) {
            Ok(0) => {
                let news = is_open && !matches!(self.outbound, Outbound::Broken(_));
                self.inbound = Inbound::Ended;
                if news { Received::End } else { Received::Nothing }
            }
            Ok(count) => {
                if count < buffer.len() && !self.ready.is(Ready::READ_CLOSED | Ready::PRIORITY) {
                    self.ready.clear(Ready::READABLE);
                }
                self.bytes_in += count as u64;
                if is_open { Received::Bytes(count) } else { Received::Discarded(count) }
            }
            Err(error) => {
                self.receive_failed(error);
                Received::Nothing
            }
        }
    }

    #[cold]
    fn receive_failed(&mut self, error: io::Error) {
        match error.kind() {
            ErrorKind::Interrupted => {}
            ErrorKind::WouldBlock => self.ready.clear(Ready::READABLE | Ready::PRIORITY),
            _ => self.end(Reason::Failed(error)),
        }
    }

    /// Whether there will be nothing more to read.
    pub fn input_has_ended(&self) -> bool {
        self.inbound == Inbound::Ended
    }

    /// Whether the protocol is to hear of what is received.
    pub fn delivers(&self) -> bool {
        !self.is_closing()
    }

    pub fn pause_reading(&mut self) {
        if self.inbound == Inbound::Open {
            self.inbound = Inbound::Paused;
        }
    }

    pub fn resume_reading(&mut self) {
        if self.inbound == Inbound::Paused {
            self.inbound = Inbound::Open;
        }
    }
}
