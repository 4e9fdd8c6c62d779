//! The write path: bytes go to the socket, or first to the write buffer.
//!
//! Invariant: bytes are sent in the order of the writes. While something is buffered, new bytes are
//! buffered, too.
//!
//! Read next: `close.rs`.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::{Duplex, WriteBuffer};
use crate::net::ErrorText;
use crate::reactor::Ready;
use crate::transport::Flow;

pub(super) enum WriteState {
    Open,
    /// No more may be written, but the write buffer is still to be sent.
    Draining,
    /// The FIN is sent.
    Shutdown,
    /// Writing has failed with `error`. Data that has arrived can still be read, but at most `rest`
    /// bytes, because the peer may go on sending.
    Broken {
        error: io::Error,
        rest: usize,
    },
}

/// A notification for the protocol about the write buffer.
pub(crate) enum Notification {
    PauseWriting,
    ResumeWriting,
}

impl Duplex {
    /// Sends what the socket takes of `bytes`, and buffers the rest.
    pub fn write(&mut self, bytes: &[u8], now: impl FnOnce() -> Instant) -> Flow {
        if !matches!(self.write, WriteState::Open) {
            return Flow::Closed;
        }
        let may_send =
            self.write_buffer.is_empty() && self.ready.intersects(Ready::WRITABLE) && self.send_budget > 0;
        let sent = if may_send && !bytes.is_empty() {
            let length = bytes.len().min(self.send_budget);
            let result = self.socket.write(&bytes[..length]);
            self.after_send(result, length, now)
        } else {
            0
        };
        if sent < bytes.len() {
            self.buffer(&bytes[sent..]);
        }
        self.flow()
    }

    /// Buffers `bytes` for the next [`flush`](Self::flush), unless our side has ended.
    pub fn buffer(&mut self, bytes: &[u8]) {
        if matches!(self.write, WriteState::Open) {
            self.write_buffer.push(bytes);
        }
    }

    /// Sends what the socket takes of the write buffer, unless the budget is used up. An empty
    /// buffer keeps at most `retain` bytes of memory.
    pub fn flush(&mut self, retain: usize, now: impl FnOnce() -> Instant) {
        if self.may_flush() && self.send_budget > 0 {
            let length = self.write_buffer.len().min(self.send_budget);
            let result = self.socket.write(&self.write_buffer.as_slice()[..length]);
            let sent = self.after_send(result, length, now);
            self.write_buffer.consume(sent, retain);
        }
    }

    /// Records the result of a write of `length` bytes. Returns how many of them are sent.
    fn after_send(
        &mut self,
        result: io::Result<usize>,
        length: usize,
        now: impl FnOnce() -> Instant,
    ) -> usize {
        match result {
            Ok(count) => {
                if count < length {
                    self.ready.remove(Ready::WRITABLE);
                }
                self.bytes_out += count as u64;
                self.send_budget = self.send_budget.saturating_sub(count);
                self.touch(now);
                count
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.remove(Ready::WRITABLE);
                0
            }
            Err(error) => {
                self.break_write(error);
                0
            }
        }
    }

    /// Records that nothing can be sent any more. Data that has arrived is still read. Paused
    /// reading resumes, because nothing else would resume it. After that, `close.rs` ends the
    /// connection.
    pub(super) fn break_write(&mut self, error: io::Error) {
        self.write = WriteState::Broken { error, rest: self.arrived() };
        self.write_buffer = WriteBuffer::default();
        self.ready |= Ready::READABLE;
        self.resume_reading();
    }

    /// Returns whether a flush has to go on in the next turn.
    pub fn may_flush(&self) -> bool {
        !self.write_buffer.is_empty() && self.ready.intersects(Ready::WRITABLE)
    }

    pub fn flow(&self) -> Flow {
        if !matches!(self.write, WriteState::Open) {
            Flow::Closed
        } else if self.write_buffer.len() > self.high {
            Flow::Full
        } else {
            Flow::Open
        }
    }

    /// Returns the error that broke the write side or ended the connection, if there is one.
    pub fn failure(&self) -> Option<io::Error> {
        match &self.write {
            WriteState::Broken { error, .. } => {
                Some(io::Error::new(error.kind(), ErrorText(error).to_string()))
            }
            _ => self.ended.as_ref()?.to_error(),
        }
    }

    /// Returns the high- and the low-water mark, in bytes.
    pub fn write_marks(&self) -> (usize, usize) {
        (self.high, self.low)
    }

    pub fn set_write_marks(&mut self, high: usize, low: usize) {
        self.high = high;
        self.low = low.min(high);
    }

    /// Returns the notification that is due, if any, and marks it as delivered.
    pub fn take_notification(&mut self) -> Option<Notification> {
        let mark = if self.writing_paused { self.low } else { self.high };
        let pause = self.write_buffer.len() > mark;
        if pause == self.writing_paused || self.is_closing() {
            return None;
        }
        self.writing_paused = pause;
        Some(if pause { Notification::PauseWriting } else { Notification::ResumeWriting })
    }
}
