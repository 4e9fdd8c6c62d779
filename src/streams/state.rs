//! The state of a stream: its connection, the bytes that were read ahead, and whether its source
//! has to be called.
//!
//! ```text
//!            ┌─────────────────────── read ───────────▶ the caller's buffer
//!   kernel ──┴──▶ read buffer ── read_line, … ────────▶ a `Vec` for the caller
//!   kernel ◀───── write buffer ◀── write_all (small) ── the caller's bytes
//!   kernel ◀────────────────────── write_all (large) ──
//! ```
//!
//! Invariant: only this file changes the state. Nothing here runs a future, a waker or a destructor
//! of another module, so each method may borrow the state until it returns.
//!
//! Read next: `reader.rs` and `writer.rs`, which use it.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::task::Poll;
use std::time::Instant;

use crate::reactor::observe::{ConnectionState, IoStats};
use crate::reactor::{Id, LoopHandle, Next, Reactor, Ready, SCRATCH_SIZE};
use crate::transport::{CloseReason, Duplex, Flow, Received, SMALLEST_CHARGE, WriteBuffer};

/// How many bytes of memory an empty buffer retains, so that an exchange of small messages
/// allocates nothing.
const RETAINED_CAPACITY: usize = 1024;

/// How many bytes one read may read ahead.
const READ_AHEAD: usize = 64 * 1024;

thread_local! {
    /// How many reads of this thread have stopped at their budget although there was more to read.
    /// `LoopHandle::timeout` watches it.
    pub(super) static STOPPED_READS: Cell<u64> = const { Cell::new(0) };
}

pub(super) struct State {
    connection: Connection,
    /// Bytes that were read and that the reader has not taken yet.
    read_buffer: WriteBuffer,
    /// How many bytes may still be read before the source is called again.
    read_budget: usize,
    /// Whether the end of file was returned.
    at_eof: bool,
    call: Call,
}

enum Connection {
    Open(Duplex),
    Closed { reason: CloseReason, stats: IoStats },
}

/// The next call of the source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// No call is scheduled: the next event causes one.
    None,
    /// A call is needed soon, and no event will cause it.
    Wanted,
    Scheduled,
    /// The source is being called.
    Running,
}

impl Call {
    /// Records that a half has done something that the source must act on.
    fn want(&mut self) {
        if *self == Call::None {
            *self = Call::Wanted;
        }
    }
}

/// What a half waits for. Every wait ends with the connection. A wait of the writer also ends when
/// no write can succeed any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Bytes, or the end of file.
    Input,
    /// No more than the low-water mark is buffered.
    Room,
    /// Nothing is buffered.
    Flushed,
    /// No write will succeed any more.
    Broken,
}

impl State {
    pub fn new(duplex: Duplex) -> Self {
        State {
            connection: Connection::Open(duplex),
            read_buffer: WriteBuffer::default(),
            read_budget: SCRATCH_SIZE,
            at_eof: false,
            call: Call::None,
        }
    }

    pub fn stats(&self) -> IoStats {
        match &self.connection {
            Connection::Open(duplex) => duplex.stats(),
            Connection::Closed { stats, .. } => *stats,
        }
    }

    pub fn connection_state(&self) -> Option<ConnectionState> {
        match &self.connection {
            Connection::Open(duplex) => Some(duplex.state()),
            Connection::Closed { .. } => None,
        }
    }

    /// Whether a half that waits for `wait` can go on.
    pub fn is_over(&self, wait: Wait) -> bool {
        let Connection::Open(duplex) = &self.connection else { return true };
        match wait {
            Wait::Input => duplex.may_deliver(),
            Wait::Room => duplex.buffered() <= duplex.write_marks().1 || duplex.flow() == Flow::Closed,
            Wait::Flushed => duplex.buffered() == 0,
            Wait::Broken => duplex.flow() == Flow::Closed,
        }
    }
}

/// The methods for the source, which it calls before and after it polls the waiting tasks.
impl State {
    /// Records what is ready, and does the work that needs no task.
    pub fn before(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) {
        self.call = Call::Running;
        self.read_budget = SCRATCH_SIZE;
        if let Connection::Open(duplex) = &mut self.connection {
            duplex.note(ready);
            self.read_budget = duplex.read_budget(ready);
            if !duplex.has_nothing_pending() || duplex.may_discard() {
                duplex.flush(RETAINED_CAPACITY, || reactor.actual_time());
                self.read_budget = duplex.discard(self.read_budget, reactor);
                duplex.advance(id, reactor);
                if ready.intersects(Ready::TIMEOUT) {
                    duplex.on_timeout(id, reactor);
                }
            }
        }
    }

    /// Sends what was written, and closes the connection if it has ended.
    pub fn after(&mut self, id: Id, halves_are_dropped: bool, reactor: &mut Reactor) -> Next {
        self.call = Call::None;
        if let Connection::Open(duplex) = &mut self.connection {
            if halves_are_dropped {
                duplex.close();
            }
            duplex.check_hang_up(); // it depends on the end of file, which may have come in this call
            duplex.flush(RETAINED_CAPACITY, || reactor.actual_time());
            if duplex.has_nothing_pending() && !duplex.may_discard() {
                return Next::Wait;
            }
            duplex.advance(id, reactor);
            if !duplex.has_ended() {
                return if duplex.may_discard() || duplex.may_flush() { Next::Again } else { Next::Wait };
            }
            self.close(reactor);
        }
        if halves_are_dropped { Next::Done } else { Next::Wait }
    }

    /// Closes the socket, unless it is closed already. A connection that has not ended is aborted.
    pub fn close(&mut self, reactor: &mut Reactor) {
        if let Connection::Open(duplex) = &mut self.connection {
            duplex.cancel_timeout(reactor);
            self.abandon();
        }
    }

    /// Does the same without a reactor, because it is gone.
    pub fn abandon(&mut self) {
        if let Connection::Open(duplex) = &mut self.connection {
            self.connection = Connection::Closed { reason: duplex.take_end(), stats: duplex.stats() };
        }
    }
}

/// The methods for the two halves.
impl State {
    /// Reads at most as much as fits into `buffer`. Returns 0 at the end of file.
    pub fn read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.read_buffer.is_empty() && !buffer.is_empty() {
            return self.receive(buffer);
        }
        let count = self.read_buffer.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.read_buffer.as_slice()[..count]);
        self.read_buffer.consume(count, RETAINED_CAPACITY);
        Poll::Ready(Ok(count))
    }

    /// Takes the first bytes of the read buffer. `find` returns how many, or `None` if more are
    /// needed. At the end of file, `at_end` gets the number of bytes that are left, and returns how
    /// many of them to take. The result is `None` if no bytes are left.
    pub fn take(
        &mut self,
        handle: &LoopHandle,
        mut find: impl FnMut(&[u8]) -> io::Result<Option<usize>>,
        at_end: impl FnOnce(usize) -> io::Result<usize>,
    ) -> Poll<io::Result<Option<Vec<u8>>>> {
        let count = loop {
            if let Some(count) = find(self.read_buffer.as_slice())? {
                break count;
            }
            let received = handle.with_scratch(|scratch| {
                let received = self.receive(&mut scratch[..READ_AHEAD]);
                if let Poll::Ready(Ok(count)) = received {
                    self.read_buffer.push(&scratch[..count]);
                }
                received
            });
            match received {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if !self.read_buffer.is_empty() => break at_end(self.read_buffer.len())?,
                other => return other.map_ok(|_| None),
            }
        };
        let taken = self.read_buffer.as_slice()[..count].to_vec();
        self.read_buffer.consume(count, RETAINED_CAPACITY);
        Poll::Ready(Ok(Some(taken)))
    }

    /// Reads once from the kernel. `Pending` means that nothing has arrived, or that the budget is
    /// used up.
    fn receive(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.at_eof {
            return Poll::Ready(Ok(0));
        }
        let end = match &mut self.connection {
            Connection::Open(duplex) => {
                if self.read_budget > 0
                    && duplex.may_deliver()
                    && let Received::Bytes(count) = duplex.receive(buffer)
                {
                    self.read_budget = self.read_budget.saturating_sub(count.max(SMALLEST_CHARGE));
                    return Poll::Ready(Ok(count));
                }
                if duplex.may_deliver() {
                    STOPPED_READS.set(STOPPED_READS.get() + 1);
                }
                // No event will report the bytes that the budget left unread, a hang-up that came
                // before the end of file, or the end of the connection.
                if self.call == Call::None
                    && (duplex.may_deliver() || duplex.is_at_eof() || !duplex.has_nothing_pending())
                {
                    self.call = Call::Wanted;
                }
                duplex.read_end()
            }
            Connection::Closed { reason, .. } => Some(reason.to_error().map_or(Ok(0), Err)),
        };
        self.at_eof = matches!(end, Some(Ok(_)));
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// Writes all of `bytes`. If the write buffer is full, writes nothing and returns `Pending`. A
    /// small write stays in the buffer, so that later writes are sent with it.
    pub fn write(&mut self, bytes: &[u8]) -> Poll<io::Result<()>> {
        self.call.want();
        if let Connection::Open(duplex) = &mut self.connection {
            let (high, low) = duplex.write_marks();
            let is_small = bytes.len() <= low;
            if !is_small || duplex.buffered() + bytes.len() > high {
                duplex.flush(RETAINED_CAPACITY, Instant::now);
            }
            match duplex.flow() {
                Flow::Open if is_small => duplex.buffer(bytes),
                Flow::Open => _ = duplex.write(bytes, Instant::now),
                Flow::Full => return Poll::Pending,
                Flow::Closed => {}
            }
        }
        Poll::Ready(self.write_error().map_or(Ok(()), Err))
    }

    /// Whether a write would have to wait.
    pub fn is_full(&self) -> bool {
        matches!(&self.connection, Connection::Open(duplex) if duplex.flow() == Flow::Full)
    }

    /// Returns `Ready` if a wait of the writer is over, with an error if no write will succeed any
    /// more. After `write_eof`, a flush can still succeed.
    pub fn poll_writable(&self, wait: Wait) -> Poll<io::Result<()>> {
        match if wait == Wait::Flushed { self.failure() } else { self.write_error() } {
            Some(error) => Poll::Ready(Err(error)),
            None if self.is_over(wait) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    /// The error of the next write, if no write will succeed any more.
    fn write_error(&self) -> Option<io::Error> {
        self.is_over(Wait::Broken).then(|| self.failure().unwrap_or_else(|| ErrorKind::BrokenPipe.into()))
    }

    /// The error that broke the connection, if there is one.
    fn failure(&self) -> Option<io::Error> {
        match &self.connection {
            Connection::Open(duplex) => duplex.failure(),
            Connection::Closed { reason, .. } => reason.to_error(),
        }
    }

    #[cfg(test)]
    pub fn read_ahead(&self) -> usize {
        self.read_buffer.len()
    }

    /// Returns whether the socket is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.connection, Connection::Closed { .. })
    }

    /// Discards what was read ahead, and all further input.
    pub fn discard_input(&mut self) {
        self.read_buffer = WriteBuffer::default();
        self.with_duplex(Duplex::discard_input);
    }

    /// Calls `f` with the connection, if it is still open.
    pub fn with_duplex<R>(&mut self, f: impl FnOnce(&mut Duplex) -> R) -> Option<R> {
        self.call.want();
        match &mut self.connection {
            Connection::Open(duplex) => Some(f(duplex)),
            Connection::Closed { .. } => None,
        }
    }

    /// Returns whether a call of the source is wanted, and counts it as scheduled. The caller must
    /// schedule it.
    pub fn take_wanted_call(&mut self) -> bool {
        let is_wanted = self.call == Call::Wanted;
        if is_wanted {
            self.call = Call::Scheduled;
        }
        is_wanted
    }
}
