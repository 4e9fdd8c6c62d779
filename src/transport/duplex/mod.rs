//! A connection without its protocol: a socket, and a state machine for each direction.
//!
//! ```text
//!  ReadState    Open ──────────────── pause ────────────▶ Paused
//!               Paused ──────────── resume, error ──────▶ Open
//!               Open, Paused ───────── close ───────────▶ Discarding
//!               Open, Discarding ─── end of file ───────▶ Eof
//!
//!  WriteState   Open ───────────── write_eof, close ────▶ Draining
//!               Draining ───────────── all sent ────────▶ Shutdown   (the FIN is sent)
//!               Open, Draining ──────── error ──────────▶ Broken     (a write has failed)
//! ```
//!
//! When writing breaks, `Paused` becomes `Open`, so that data that has arrived is read. The diagram
//! is checked by `tests/connection_model/`.
//!
//! Invariant: readiness is remembered, not asked for again. An event sets a bit in `ready`, and
//! `WouldBlock` clears it. A short write clears it, too, and so does a short read if it proves that
//! nothing is left to read ([`Socket::short_read_means_empty`]).
//!
//! Read next: `read.rs`, `write.rs` and `close.rs`, one path in each; `../connection.rs`, which
//! calls the protocol.

mod close;
mod read;
mod timeout;
mod write;
mod write_buffer;

use super::CloseReason;
use crate::net::{Address, Socket};
use crate::reactor::observe::{ConnectionState, IoStats};
use crate::reactor::{Ready, SCRATCH_SIZE};

use read::ReadState;
use timeout::Timeout;
use write::WriteState;

pub(crate) use read::Received;
pub(crate) use write::Notification;
pub(crate) use write_buffer::WriteBuffer;

/// As much as the kernel buffers for a socket, in bytes, if its buffer has not grown far. This much
/// and everything that has arrived is read before a linger timeout is decided, and before a
/// connection whose writes fail ends.
pub(crate) const KERNEL_BUFFER: usize = 8 << 20;

/// Even the smallest read takes this many bytes from a read budget, because it is a system call.
pub(crate) const SMALLEST_CHARGE: usize = 1024;

pub(crate) const HIGH_WATER: usize = 64 * 1024;
pub(crate) const LOW_WATER: usize = 16 * 1024;

pub(crate) struct Duplex {
    socket: Socket,
    peer: Option<Address>,
    /// The readiness that was reported and not cleared since.
    ready: Ready,
    read: ReadState,
    write: WriteState,
    write_buffer: WriteBuffer,
    high: usize,
    low: usize,
    /// Whether the last notification was `pause_writing`.
    writing_paused: bool,
    /// Set when the connection has ended. Nothing changes after that.
    ended: Option<CloseReason>,
    /// Boxed, because most connections have none.
    timeout: Option<Box<Timeout>>,
    bytes_in: u64,
    bytes_out: u64,
    /// How many bytes may still be sent in this call. The rest is buffered until the next turn.
    send_budget: usize,
}

impl Duplex {
    /// Creates the state of a connected socket. A new socket is writable.
    pub fn new(socket: Socket, peer: Option<Address>) -> Self {
        Duplex {
            socket,
            peer,
            ready: Ready::WRITABLE,
            read: ReadState::Open,
            write: WriteState::Open,
            write_buffer: WriteBuffer::default(),
            high: HIGH_WATER,
            low: LOW_WATER,
            writing_paused: false,
            ended: None,
            timeout: None,
            bytes_in: 0,
            bytes_out: 0,
            send_budget: SCRATCH_SIZE,
        }
    }

    /// Remembers the bits that the kernel has reported, and starts a new send budget.
    pub fn note(&mut self, ready: Ready) {
        self.ready |= ready.kernel_bits();
        self.send_budget = SCRATCH_SIZE;
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    pub fn buffered(&self) -> usize {
        self.write_buffer.len()
    }

    pub fn state(&self) -> ConnectionState {
        ConnectionState {
            peer: self.peer.clone(),
            ready: self.ready,
            read: match self.read {
                ReadState::Open => "open",
                ReadState::Paused => "paused",
                ReadState::Discarding => "discarding",
                ReadState::Eof => "eof",
            },
            write: match self.write {
                WriteState::Open => "open",
                WriteState::Draining => "draining",
                WriteState::Shutdown => "shutdown",
                WriteState::Broken { .. } => "broken",
            },
            stats: self.stats(),
            high: self.high,
            low: self.low,
        }
    }

    pub fn stats(&self) -> IoStats {
        IoStats {
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            buffered: self.write_buffer.len(),
            backpressured: self.writing_paused,
        }
    }
}
