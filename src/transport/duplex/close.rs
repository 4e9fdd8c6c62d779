//! The close path: how a connection ends, gracefully or at once.
//!
//! Invariant: a connection ends when both directions have ended, or when they can no longer end
//! gracefully. It ends for exactly one reason.
//!
//! Read next: `timeout.rs`; `../connection.rs`.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::Instant;

use super::{Duplex, ReadState, WriteBuffer, WriteState};
use crate::reactor::{Id, Reactor, Ready};
use crate::sys;
use crate::transport::CloseReason;

impl Duplex {
    /// Ends our side when everything that is buffered has been sent.
    pub fn write_eof(&mut self) {
        if matches!(self.write, WriteState::Open) {
            self.write = WriteState::Draining;
        }
    }

    /// Ends the connection gracefully: ends our side, and discards input until the peer ends its
    /// side.
    pub fn close(&mut self) {
        self.write_eof();
        self.discard_input();
    }

    /// Ends the connection at once. Bytes that are still buffered are dropped.
    pub fn end(&mut self, reason: CloseReason) {
        if self.ended.is_some() {
            return;
        }
        let reset = match reason {
            CloseReason::Aborted => true,
            // The peer has stalled, so the kernel need not try to deliver the rest.
            CloseReason::IdleTimeout | CloseReason::LingerTimeout => !self.write_buffer.is_empty(),
            _ => false,
        };
        if reset && let Err(error) = sys::reset_on_close(&self.socket) {
            log::debug!("cannot reset a connection: {error}");
        }
        self.ended = Some(reason);
        self.read = ReadState::Eof;
        self.write = WriteState::Shutdown;
        self.write_buffer = WriteBuffer::default();
    }

    /// Breaks the write side if the peer is gone while we do not read: our side was kept open after
    /// the end of file, or reading is paused. Nothing else would detect that. Returns whether the
    /// peer is gone.
    pub fn check_hang_up(&mut self) -> bool {
        let is_gone = self.ready.intersects(Ready::WRITE_CLOSED)
            && matches!(self.write, WriteState::Open)
            && (self.read == ReadState::Eof || self.socket.hang_up_means_reset());
        if is_gone {
            let error = self.socket.take_error().ok().flatten();
            self.break_write(error.unwrap_or_else(|| ErrorKind::BrokenPipe.into()));
        }
        is_gone
    }

    /// Returns whether the connection only has to send what is buffered and to end gracefully.
    pub fn is_closing(&self) -> bool {
        matches!(self.read, ReadState::Discarding | ReadState::Eof) && !matches!(self.write, WriteState::Open)
    }

    /// Returns whether the last callback left nothing to do. This is the fast path.
    pub fn has_nothing_pending(&self) -> bool {
        self.write_buffer.is_empty() && !self.writing_paused && matches!(self.write, WriteState::Open)
    }

    /// Takes the steps that follow from a callback, a read or a write: sends the FIN when
    /// everything is sent, and ends the connection when both directions have ended.
    pub fn advance(&mut self, id: Id, reactor: &mut Reactor) {
        if self.ended.is_some() {
            return;
        }
        if matches!(self.write, WriteState::Draining) && self.write_buffer.is_empty() {
            self.write = WriteState::Shutdown;
            self.touch(|| reactor.actual_time()); // the linger timeout counts from here
            // If both directions have ended, closing the socket sends the FIN.
            if self.read != ReadState::Eof
                && let Err(mut error) = self.socket.shutdown_write()
                // On a BSD, this fails with `ENOTCONN` if the peer of a Unix socket has closed
                // gracefully.
                && (error.kind() != ErrorKind::NotConnected || self.socket.hang_up_means_reset())
            {
                if error.kind() == ErrorKind::NotConnected {
                    error = io::Error::from_raw_os_error(libc::ECONNRESET); // it was connected before
                }
                self.break_write(error);
            }
        }
        let may_have_input = self.ready.intersects(Ready::READABLE);
        match (self.read, &mut self.write) {
            (ReadState::Eof, WriteState::Shutdown) => self.end(CloseReason::Closed),
            (ReadState::Discarding | ReadState::Eof, WriteState::Draining)
            | (ReadState::Discarding, WriteState::Shutdown) => self.start_linger(id, reactor),
            // A connection whose writes fail ends when everything that has arrived is delivered.
            (ReadState::Open, WriteState::Broken { rest: 1.., .. }) if may_have_input => {}
            (_, WriteState::Broken { error, .. }) => {
                let error = mem::replace(error, ErrorKind::NotConnected.into());
                self.end(CloseReason::Failed(error));
            }
            _ => {}
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns why the connection ended, before its socket is dropped. A connection that has not
    /// ended yet is aborted. But if it is closing and everything is sent, it is not reset, so that
    /// the kernel still delivers the data.
    pub fn take_end(&mut self) -> CloseReason {
        if self.is_closing() {
            self.send_budget = usize::MAX; // there is no further call
            self.flush(0, Instant::now);
            if self.write_buffer.is_empty() && self.ended.is_none() {
                return CloseReason::Aborted;
            }
        }
        self.end(CloseReason::Aborted); // if it has not ended yet
        self.ended.take().unwrap_or(CloseReason::Aborted)
    }
}

/// Resets a connection that is dropped before it has ended, for example while its thread unwinds.
/// Otherwise the peer could mistake half an answer for a whole one. (A Unix socket has no reset.)
impl Drop for Duplex {
    fn drop(&mut self) {
        self.take_end();
    }
}
