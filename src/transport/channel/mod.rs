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
//! Read next: `inbound.rs` and `outbound.rs`, the two halves; `../connection.rs`, which lends this to a protocol.

mod inbound;
mod outbound;

use std::io::ErrorKind;

use mio::Interest;

use inbound::Inbound;
pub(crate) use inbound::Received;
use outbound::Outbound;

use super::deadline::Deadline;
use super::{Buffer, Reason, Socket};
use crate::reactor::{Activity, Id, Reactor, Ready};
use crate::sys;

const HIGH_WATER: usize = 64 * 1024;
const LOW_WATER: usize = 16 * 1024;

/// What a connection is registered for: once, for all that will ever be of interest.
pub(crate) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

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
    pub(in crate::transport) deadline: Deadline,
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

    pub fn note(&mut self, ready: Ready) {
        self.ready |= ready;
    }

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
    #[cold]
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

    /// The reason, if the connection is over.
    pub fn reason(&self) -> Option<&Reason> {
        self.ended.as_ref()
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
