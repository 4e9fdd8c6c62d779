//! What comes: the inbound half-machine.
//!
//! Invariant: the end of file is told once, and after `close` nothing is told at all.
//!
//! Read next: `outbound.rs`.

use std::io::{self, ErrorKind};

use super::{Channel, Outbound};
use crate::reactor::{Reactor, Ready};
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
pub(in crate::transport) enum Received {
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

    /// One read: one system call.
    pub fn receive(&mut self, scratch: &mut [u8], reactor: &Reactor) -> Received {
        match self.socket.read(scratch) {
            Ok(0) => {
                let news = self.inbound == Inbound::Open && !matches!(self.outbound, Outbound::Broken(_));
                self.inbound = Inbound::Ended;
                if news { Received::End } else { Received::Nothing }
            }
            Ok(count) => {
                if count < scratch.len() && !self.ready.is(Ready::READ_CLOSED | Ready::PRIORITY) {
                    self.ready.clear(Ready::READABLE);
                }
                self.bytes_in += count as u64;
                self.deadline.put_off(reactor);
                if self.inbound == Inbound::Open {
                    Received::Bytes(count)
                } else {
                    Received::Discarded(count)
                }
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
