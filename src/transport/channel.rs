//! A connection without its protocol: a socket, and a half-machine for each direction.
//!
//! ```text
//!  Inbound                                        Outbound
//!     Open ◀──pause/resume──▶ Paused                 Open ──an error──▶ Broken
//!      │ └──────close───┐        │                    │
//!      │ end of file    ▼        │ close          write_eof, close
//!      │            Discarding ◀─┘                    ▼
//!      ▼                │ end of file             Draining ──an error──▶ Broken
//!    Ended ◀────────────┘                             │ all sent: FIN
//!                                                     ▼
//!                                                    Shut
//! ```
//!
//! Invariant: readiness is remembered, not asked for again. An event sets a bit in `ready`;
//! `WouldBlock` clears it, and so does a read or write that did less than it was asked to, because
//! on a stream socket that proves that there is no more (`epoll(7)`). It proves nothing for a read
//! once the peer has ended its side (the end of file would never be seen) or where urgent data
//! stopped the read, so with those bits set the socket is read until `WouldBlock`.
//!
//! Read next: `connection.rs`, which lends this to a protocol.

use std::io::{self, ErrorKind};

use mio::Interest;

use super::deadline::Deadline;
use super::{Buffer, Flow, Reason, Socket};
use crate::reactor::{Activity, Id, Reactor, Ready};
use crate::sys;

const HIGH_WATER: usize = 64 * 1024;
const LOW_WATER: usize = 16 * 1024;

/// What a connection is registered for: once, for all that will ever be of interest.
pub(super) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inbound {
    Open,
    Paused,
    /// Closed by us: what comes is thrown away.
    Discarding,
    /// The peer has ended its side.
    Ended,
}

enum Outbound {
    Open,
    /// No more may be written; what is owed is still on its way.
    Draining,
    /// FIN is sent.
    Shut,
    /// The socket takes nothing any more, for this reason. There may still be something to read.
    Broken(io::Error),
}

/// What one read brought.
pub(super) enum Received {
    Bytes(usize),
    /// Bytes after `close`: nobody is to hear of them.
    Discarded(usize),
    /// The end of file, if it is news: not after `close`, nor if it is only what a broken connection
    /// leaves behind.
    End,
    Nothing,
}

pub(crate) struct Channel {
    socket: Socket,
    /// Readiness as far as it is known.
    ready: Ready,
    inbound: Inbound,
    outbound: Outbound,
    owed: Buffer,
    high: usize,
    low: usize,
    /// What the protocol was told last: `true` after `pause_writing`.
    writing_paused: bool,
    /// Set when the connection is over. Both halves are at their end then, and nothing changes any more.
    ended: Option<Reason>,
    pub deadline: Deadline,
    bytes_in: u64,
    bytes_out: u64,
}

impl Channel {
    /// A connected socket. A new one takes bytes, so `ready` holds [`Ready::WRITABLE`] at least.
    pub fn new(socket: Socket, ready: Ready) -> Self {
        Channel {
            socket,
            ready: ready | Ready::WRITABLE,
            inbound: Inbound::Open,
            outbound: Outbound::Open,
            owed: Buffer::default(),
            high: HIGH_WATER,
            low: LOW_WATER,
            writing_paused: false,
            ended: None,
            deadline: Deadline::default(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    // ---- inbound

    pub fn note(&mut self, ready: Ready) {
        self.ready |= ready;
    }

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

    // ---- outbound

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

    // ---- both

    pub fn close(&mut self) {
        self.write_eof();
        if self.inbound != Inbound::Ended {
            self.inbound = Inbound::Discarding;
        }
    }

    /// Whether nothing is left to be done but the end itself.
    fn is_closing(&self) -> bool {
        matches!(self.inbound, Inbound::Discarding | Inbound::Ended)
            && !matches!(self.outbound, Outbound::Open)
    }

    /// Takes the steps that follow from what the callback did: the FIN when all is sent, the end
    /// when both directions have theirs.
    pub fn advance(&mut self, id: Id, reactor: &mut Reactor) {
        if matches!(self.outbound, Outbound::Open) || self.ended.is_some() {
            return;
        }
        if matches!(self.outbound, Outbound::Draining) && self.owed.is_empty() {
            // With both directions at their end, closing the socket sends the FIN.
            if self.inbound != Inbound::Ended
                && let Err(error) = self.socket.shutdown_write()
            {
                self.outbound = Outbound::Broken(error);
            } else {
                self.outbound = Outbound::Shut;
            }
        }
        match (self.inbound, &mut self.outbound) {
            (Inbound::Ended | Inbound::Discarding, Outbound::Broken(error)) => {
                let error = std::mem::replace(error, ErrorKind::NotConnected.into());
                self.end(Reason::Failed(error));
            }
            (Inbound::Ended, Outbound::Shut) => self.end(Reason::Closed),
            (Inbound::Discarding, Outbound::Shut) => self.deadline.linger(id, reactor),
            _ => {}
        }
    }

    /// The timer came.
    pub fn check_deadline(&mut self, id: Id, reactor: &mut Reactor) {
        if let Some(reason) = self.deadline.check(&self.socket, id, reactor) {
            self.end(reason);
        }
    }

    /// It is over, in both directions.
    pub fn end(&mut self, reason: Reason) {
        if self.ended.is_none() {
            self.ended = Some(reason);
            self.inbound = Inbound::Ended;
            self.outbound = Outbound::Shut;
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The reason, if the connection is over: told once. What has to be done before the socket is
    /// dropped is done here.
    pub fn take_end(&mut self, reactor: &mut Reactor) -> Option<Reason> {
        let reason = self.ended.take()?;
        self.deadline.cancel(reactor);
        let reset = match reason {
            Reason::Aborted => true,
            // The kernel need not go on for a peer that has stalled.
            Reason::Idle => !self.owed.is_empty(),
            _ => false,
        };
        if reset && let Err(error) = sys::reset_on_close(&self.socket) {
            log::debug!("cannot reset a connection: {error}");
        }
        Some(reason)
    }

    // ---- figures

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn buffered(&self) -> usize {
        self.owed.len()
    }

    pub fn activity(&self) -> Activity {
        Activity {
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            buffered: self.owed.len(),
            held_up: self.writing_paused,
        }
    }

    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    pub fn bytes_out(&self) -> u64 {
        self.bytes_out
    }
}
