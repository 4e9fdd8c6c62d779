//! The read path.
//!
//! Invariant: the end of file is reported once, and after `close` nothing is reported at all.
//!
//! Read next: `write.rs`.

use std::io::{self, ErrorKind};

use super::{Duplex, KERNEL_BUFFER, SMALLEST_CHARGE, WriteState};
use crate::reactor::{Reactor, Ready, SCRATCH_SIZE};
use crate::sys;
use crate::transport::CloseReason;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadState {
    Open,
    Paused,
    /// We have closed, or the reader was dropped. Input is discarded.
    Discarding,
    /// The peer has ended its side.
    Eof,
}

/// The result of one read.
pub(crate) enum Received {
    Bytes(usize),
    /// Bytes that were discarded.
    Discarded(usize),
    /// The end of file. After `close`, and if the connection was reset, the result is `Nothing`
    /// instead.
    Eof,
    Nothing,
}

impl Duplex {
    /// Returns whether a read is wanted and may return something.
    pub fn may_read(&self) -> bool {
        self.ready.intersects(Ready::READABLE) && matches!(self.read, ReadState::Open | ReadState::Discarding)
    }

    /// Returns whether a read may return data to deliver.
    pub fn may_deliver(&self) -> bool {
        self.ready.intersects(Ready::READABLE) && self.read == ReadState::Open
    }

    /// Returns how many bytes one call of the source may read. A linger timeout is decided only
    /// after everything that has arrived was read, because the end of file may be behind it. (One
    /// byte is enough to refute an idle timeout.)
    pub fn read_budget(&self, ready: Ready) -> usize {
        let decides = ready.intersects(Ready::TIMEOUT) && self.is_lingering();
        if decides { self.arrived() } else { SCRATCH_SIZE }
    }

    /// Returns more than the number of bytes that have arrived and are unread.
    pub(super) fn arrived(&self) -> usize {
        KERNEL_BUFFER + sys::unread_bytes(&self.socket).unwrap_or(0)
    }

    /// Reads once: one system call.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let is_open = self.read == ReadState::Open;
        match self.socket.read(buffer) {
            Ok(0) => {
                self.read = ReadState::Eof;
                if is_open && !self.was_reset() { Received::Eof } else { Received::Nothing }
            }
            Ok(count) => {
                if count < buffer.len() && self.socket.short_read_means_empty(self.ready) {
                    self.ready.remove(Ready::READABLE);
                }
                if is_open {
                    self.bytes_in += count as u64;
                }
                if let WriteState::Broken { rest, .. } = &mut self.write {
                    *rest = rest.saturating_sub(count);
                }
                if is_open { Received::Bytes(count) } else { Received::Discarded(count) }
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => self.ready.remove(Ready::READABLE | Ready::PRIORITY),
                    _ => self.end(CloseReason::Failed(error)),
                }
                Received::Nothing
            }
        }
    }

    /// Discards input from now on.
    pub fn discard_input(&mut self) {
        if self.read != ReadState::Eof {
            self.read = ReadState::Discarding;
        }
    }

    /// Returns whether a read may return data to discard.
    pub fn may_discard(&self) -> bool {
        self.ready.intersects(Ready::READABLE) && self.read == ReadState::Discarding
    }

    /// Reads and discards, up to the budget in bytes. Returns the rest of the budget.
    pub fn discard(&mut self, mut budget: usize, reactor: &mut Reactor) -> usize {
        while self.may_discard() && budget > 0 {
            reactor.with_scratch(|_, scratch| {
                if let Received::Discarded(count) = self.receive(scratch) {
                    budget = budget.saturating_sub(count.max(SMALLEST_CHARGE));
                }
            });
        }
        budget
    }

    /// Returns the result of a read at the end: 0, or the error that broke the connection. `None`
    /// while more may come.
    pub fn read_end(&self) -> Option<io::Result<usize>> {
        if self.read != ReadState::Eof {
            return None;
        }
        let is_error = self.ended.is_some() || self.was_reset();
        Some(self.failure().filter(|_| is_error).map_or(Ok(0), Err))
    }

    /// Returns whether an end of file means that the connection was reset. After a broken pipe it
    /// does not: the peer had ended its side gracefully before our write failed.
    fn was_reset(&self) -> bool {
        matches!(&self.write, WriteState::Broken { error, .. } if error.kind() != ErrorKind::BrokenPipe)
    }

    /// Returns whether nothing more will be read.
    pub fn is_at_eof(&self) -> bool {
        self.read == ReadState::Eof
    }

    pub fn pause_reading(&mut self) {
        if self.read == ReadState::Open && !matches!(self.write, WriteState::Broken { .. }) {
            self.read = ReadState::Paused;
        }
    }

    pub fn resume_reading(&mut self) {
        if self.read == ReadState::Paused {
            self.read = ReadState::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mailbox;
    use std::io::Write;

    #[test]
    fn only_a_linger_timeout_reads_more_than_one_budget() {
        let mut reactor = Reactor::new().unwrap();
        let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
        let mut duplex = Duplex::new(ours.into(), None);
        assert_eq!(duplex.read_budget(Ready::TIMEOUT), SCRATCH_SIZE);
        let id = Mailbox::<u8>::new(&mut reactor, 1).id();
        duplex.start_linger(id, &mut reactor);
        assert_eq!(duplex.read_budget(Ready::TIMEOUT), KERNEL_BUFFER);
        assert_eq!(peer.write(&[0; 100]).unwrap(), 100);
        assert_eq!(duplex.read_budget(Ready::TIMEOUT), KERNEL_BUFFER + 100);
        assert_eq!(duplex.read_budget(Ready::READABLE), SCRATCH_SIZE);
        duplex.break_write(ErrorKind::BrokenPipe.into());
        let WriteState::Broken { rest, .. } = duplex.write else { panic!("it is broken") };
        assert_eq!(rest, KERNEL_BUFFER + 100);
    }
}
