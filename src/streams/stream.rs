//! A connection whose state its reader, its writer and its source share.
//!
//! ```text
//!            ┌─────────────────────── read ───────────▶ the caller's buffer
//!   kernel ──┴──▶ read buffer ── read_line, … ────────▶ a `Vec` for the caller
//!   kernel ◀───── write buffer ◀── write_all (small) ── the caller's bytes
//!   kernel ◀────────────────────── write_all (large) ──
//! ```
//!
//! The source does three things, each time that it is called:
//!
//! 1. *Before*: it notes what is ready, sends what is buffered, and looks whether a half that waits can
//!    go on.
//! 2. *Poll*: it polls the tasks that wait for these halves. They read from the kernel themselves.
//! 3. *After*: it sends what they wrote, and takes the steps that follow, such as the FIN.
//!
//! Invariants: the state is borrowed briefly, and never while a future, a waker or a destructor of
//! another module runs. If a half does something outside a call of the source that the source must act
//! on, it schedules such a call. The source stays until the socket is closed and both halves are dropped.
//!
//! Read next: `reader.rs` and `writer.rs`, the two halves; `task.rs`, who polls a future.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::task::Waiter;
use super::{Reader, Writer};
use crate::net::{Address, Listener};
use crate::reactor::observe::IoStats;
use crate::reactor::{Handle, Id, LoopHandle, Next, Reactor, Ready, SCRATCH_SIZE, Source};
use crate::transport::{CloseReason, Duplex, Flow, HIGH_WATER, LOW_WATER, Received, WriteBuffer};

/// How much memory an empty buffer retains, in bytes, so that a conversation in small messages allocates
/// nothing.
const RETAINED_CAPACITY: usize = 1024;

/// How many bytes are read ahead at once.
const READ_AHEAD: usize = 64 * 1024;

/// The smallest read still takes this many bytes from the budget, because it is a system call.
const SMALLEST_CHARGE: usize = 1024;

pub(super) struct Stream {
    pub handle: LoopHandle,
    pub peer: Option<Address>,
    /// The source.
    id: Id,
    state: RefCell<State>,
    /// The reader, if it waits for bytes.
    reader: Cell<Option<Waiter>>,
    /// The writer, if it waits, and for what.
    writer: Cell<Option<(WriteWait, Waiter)>>,
}

struct State {
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

#[derive(Clone, Copy)]
pub(super) enum WriteWait {
    /// No more than the low-water mark is buffered.
    Room,
    /// Nothing is buffered.
    Empty,
    /// No write will succeed any more. (The others do not wait longer than that, either.)
    End,
}

impl WriteWait {
    fn is_over(self, duplex: &Duplex) -> bool {
        let has_room = match self {
            WriteWait::Room => duplex.buffered() <= LOW_WATER,
            WriteWait::Empty => duplex.buffered() == 0,
            WriteWait::End => false,
        };
        has_room || duplex.flow() == Flow::Closed
    }
}

/// The next call of the source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Only an event causes one.
    None,
    Scheduled,
    /// It is under way.
    Running,
}

/// The source of a stream.
pub(super) struct StreamSource {
    stream: Rc<Stream>,
    type_name: &'static str,
    /// The listener that accepted it, which waits for its place.
    listener: Option<Handle<Listener>>,
}

impl StreamSource {
    /// A socket whose source will have the place `id`. `type_name` is that of its handler, for observers.
    pub fn new(
        handle: &LoopHandle,
        id: Id,
        duplex: Duplex,
        listener: Option<Handle<Listener>>,
        type_name: &'static str,
    ) -> (Self, Reader, Writer) {
        let peer = duplex.peer().cloned();
        let state = RefCell::new(State {
            connection: Connection::Open(duplex),
            read_buffer: WriteBuffer::default(),
            read_budget: SCRATCH_SIZE,
            at_eof: false,
            call: Call::None,
        });
        let (reader, writer) = (Cell::default(), Cell::default());
        let stream = Rc::new(Stream { handle: handle.clone(), peer, id, state, reader, writer });
        let (reader, writer) = (Reader::new(stream.clone()), Writer::new(stream.clone()));
        (StreamSource { stream, type_name, listener }, reader, writer)
    }
}

impl Source for StreamSource {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        let stream = &self.stream;
        stream.state.borrow_mut().before(id, ready, reactor);
        if let Some(reader) = stream.take_reader() {
            reader.poll();
        }
        if let Some(writer) = stream.take_writer() {
            writer.poll();
        }
        let halves_are_dropped = Rc::strong_count(stream) == 1;
        stream.after(id, halves_are_dropped, reactor)
    }

    fn removed(&mut self, _: Id, reactor: &mut Reactor) {
        if let Connection::Open(duplex) = &mut self.stream.state.borrow_mut().connection {
            duplex.cancel_timeout(reactor);
        }
        self.stream.close();
        if let Some(listener) = self.listener.take() {
            let IoStats { bytes_in, bytes_out, .. } = self.stream.state.borrow().stats();
            listener.release(reactor, bytes_in, bytes_out);
        }
    }

    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn stats(&self) -> Option<IoStats> {
        let writer = self.stream.writer.take();
        let backpressured = matches!(writer, Some((WriteWait::Room, _)));
        self.stream.writer.set(writer);
        Some(IoStats { backpressured, ..self.stream.state.borrow().stats() })
    }
}

impl Drop for StreamSource {
    fn drop(&mut self) {
        self.stream.close();
    }
}

/// The side of the source.
impl Stream {
    /// Sends what was written, and takes the steps that follow.
    fn after(&self, id: Id, halves_are_dropped: bool, reactor: &mut Reactor) -> Next {
        let mut state = self.state.borrow_mut();
        state.call = Call::None;
        let when_closed = if halves_are_dropped { Next::Done } else { Next::Wait };
        let Connection::Open(duplex) = &mut state.connection else { return when_closed };
        if halves_are_dropped {
            duplex.close();
        }
        duplex.flush(RETAINED_CAPACITY, || reactor.now());
        if !duplex.has_nothing_pending() {
            duplex.advance(id, reactor);
            if duplex.has_ended() {
                duplex.cancel_timeout(reactor);
                drop(state);
                self.close();
                return when_closed;
            }
        }
        if duplex.may_discard() || (state.can_read() && self.reader_waits()) || self.writer_can_go_on(&state)
        {
            state.call = Call::Scheduled;
            return Next::Again;
        }
        Next::Wait
    }

    /// Closes the socket, in order if the connection has ended, and wakes the halves. It may be closed
    /// already.
    fn close(&self) {
        let mut state = self.state.borrow_mut();
        if let Connection::Open(duplex) = &mut state.connection {
            state.connection = Connection::Closed { reason: duplex.take_end(), stats: duplex.stats() };
        }
        drop(state);
        let writer = self.writer.take().map(|(_, waiter)| waiter);
        self.reader.take().into_iter().chain(writer).for_each(Waiter::wake);
    }

    /// The reader, if it waits and can go on.
    fn take_reader(&self) -> Option<Waiter> {
        if self.state.borrow().can_read() { self.reader.take() } else { None }
    }

    fn reader_waits(&self) -> bool {
        let reader = self.reader.take();
        let waits = reader.is_some();
        self.reader.set(reader);
        waits
    }

    /// The writer, if it waits and can go on.
    fn take_writer(&self) -> Option<Waiter> {
        if self.writer_can_go_on(&self.state.borrow()) {
            return self.writer.take().map(|(_, waiter)| waiter);
        }
        None
    }

    fn writer_can_go_on(&self, state: &State) -> bool {
        let Some((wait, waiter)) = self.writer.take() else { return false };
        self.writer.set(Some((wait, waiter)));
        state.duplex().is_none_or(|duplex| wait.is_over(duplex))
    }
}

impl State {
    /// Notes what is ready, and does what needs no half.
    fn before(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) {
        self.call = Call::Running;
        self.read_budget = SCRATCH_SIZE;
        if let Connection::Open(duplex) = &mut self.connection {
            duplex.note(ready);
            duplex.check_hang_up();
            if !duplex.has_nothing_pending() || duplex.may_discard() {
                duplex.flush(RETAINED_CAPACITY, || reactor.now());
                self.read_budget = duplex.discard(self.read_budget, reactor);
                duplex.advance(id, reactor);
                if ready.intersects(Ready::TIMEOUT) {
                    duplex.on_timeout(id, reactor);
                }
            }
        }
    }

    fn stats(&self) -> IoStats {
        match &self.connection {
            Connection::Open(duplex) => duplex.stats(),
            Connection::Closed { stats, .. } => *stats,
        }
    }

    fn duplex(&self) -> Option<&Duplex> {
        match &self.connection {
            Connection::Open(duplex) => Some(duplex),
            Connection::Closed { .. } => None,
        }
    }

    fn can_read(&self) -> bool {
        self.duplex().is_none_or(|duplex| duplex.may_deliver() || duplex.is_at_eof())
    }

    /// Why no write will succeed any more, if that is so.
    fn write_error(&self) -> Option<io::Error> {
        match &self.connection {
            Connection::Open(duplex) if duplex.flow() == Flow::Closed => Some(duplex.write_error()),
            Connection::Open(_) => None,
            Connection::Closed { reason, .. } => {
                Some(reason.to_error().unwrap_or_else(|| ErrorKind::BrokenPipe.into()))
            }
        }
    }

    /// Reads once from the kernel. `None`: nothing is there, or the budget is used up.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let end = match &mut self.connection {
            _ if self.at_eof => Some(Ok(0)),
            Connection::Open(duplex) => {
                if self.read_budget > 0
                    && duplex.may_deliver()
                    && let Received::Bytes(count) = duplex.receive(buffer)
                {
                    self.read_budget = self.read_budget.saturating_sub(count.max(SMALLEST_CHARGE));
                    return Some(Ok(count));
                }
                duplex.read_end()
            }
            Connection::Closed { reason, .. } => Some(reason.to_error().map_or(Ok(0), Err)),
        };
        self.at_eof = matches!(end, Some(Ok(_)));
        end
    }

    /// Whether the source has to be called, although no event will cause it: a read has found the end, or
    /// more than the budget allows, or a broken connection that has delivered everything.
    fn needs_call(&self) -> bool {
        self.can_read() || self.duplex().is_some_and(|duplex| !duplex.has_nothing_pending())
    }
}

/// The side of the two halves.
impl Stream {
    /// Reads what there is, as far as `buffer` goes. 0 is the end of file.
    pub fn poll_read(&self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if !state.read_buffer.is_empty() || buffer.is_empty() {
            let count = state.read_buffer.len().min(buffer.len());
            buffer[..count].copy_from_slice(&state.read_buffer.as_slice()[..count]);
            state.read_buffer.consume(count, RETAINED_CAPACITY);
            return Poll::Ready(Ok(count));
        }
        let received = state.receive(buffer);
        self.finish_read(state, received, context)
    }

    /// Takes the first bytes of the read buffer: as many as `find` says, which is asked each time that
    /// there are more. At the end of file, `at_end` says it for the rest. `None`: there is no rest.
    pub fn poll_take(
        &self,
        context: &Context<'_>,
        mut find: impl FnMut(&[u8]) -> io::Result<Option<usize>>,
        at_end: impl FnOnce(usize) -> io::Result<usize>,
    ) -> Poll<io::Result<Option<Vec<u8>>>> {
        let mut state = self.state.borrow_mut();
        let count = loop {
            if let Some(count) = find(state.read_buffer.as_slice())? {
                break count;
            }
            let received = self.handle.with_scratch(|scratch| {
                let received = state.receive(&mut scratch[..READ_AHEAD]);
                if let Some(Ok(count)) = received {
                    state.read_buffer.push(&scratch[..count]);
                }
                received
            });
            match received {
                Some(Ok(1..)) => {}
                Some(Ok(0)) if !state.read_buffer.is_empty() => break at_end(state.read_buffer.len())?,
                other => return self.finish_read(state, other, context).map_ok(|_| None),
            }
        };
        let taken = state.read_buffer.as_slice()[..count].to_vec();
        state.read_buffer.consume(count, RETAINED_CAPACITY);
        Poll::Ready(Ok(Some(taken)))
    }

    /// Turns the result of a read into that of a poll, and waits if there is none.
    fn finish_read(
        &self,
        mut state: RefMut<'_, State>,
        received: Option<io::Result<usize>>,
        context: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !matches!(received, Some(Ok(1..))) && state.needs_call() {
            self.schedule(&mut state);
        }
        drop(state);
        let Some(result) = received else {
            self.reader.set(Some(Waiter::new(context)));
            return Poll::Pending;
        };
        Poll::Ready(result)
    }

    /// Writes `bytes`, or nothing if the write buffer is full: `WouldBlock`. A small write waits in the buffer
    /// for others.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        self.schedule(&mut state);
        if let Connection::Open(duplex) = &mut state.connection {
            let is_small = bytes.len() <= LOW_WATER;
            if !is_small || duplex.buffered() + bytes.len() > HIGH_WATER {
                duplex.flush(RETAINED_CAPACITY, Instant::now);
            }
            match duplex.flow() {
                Flow::Open if is_small => duplex.buffer(bytes),
                Flow::Open => _ = duplex.write(bytes, Instant::now),
                Flow::Full => return Err(ErrorKind::WouldBlock.into()),
                Flow::Closed => {}
            }
        }
        state.write_error().map_or(Ok(()), Err)
    }

    /// The same, but waits until there is room.
    pub fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        match self.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writer.set(Some((WriteWait::Room, Waiter::new(context))));
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }

    /// Whether a write would have to wait.
    pub fn is_full(&self) -> bool {
        self.state.borrow().duplex().is_some_and(|duplex| duplex.flow() == Flow::Full)
    }

    /// Waits until `wait` is over. Returns the error of the next write, if no write will succeed any more.
    pub fn poll_writable(&self, wait: WriteWait, context: &Context<'_>) -> Poll<io::Result<()>> {
        let state = self.state.borrow();
        if let Some(error) = state.write_error() {
            return Poll::Ready(Err(error));
        }
        if state.duplex().is_none_or(|duplex| wait.is_over(duplex)) {
            return Poll::Ready(Ok(()));
        }
        drop(state);
        self.writer.set(Some((wait, Waiter::new(context))));
        Poll::Pending
    }

    /// Ends the connection at once.
    pub fn abort(&self) {
        self.end(|duplex| duplex.end(CloseReason::Aborted));
    }

    /// Ends something of the connection, as `end` says.
    pub fn end(&self, end: impl FnOnce(&mut Duplex)) {
        let mut state = self.state.borrow_mut();
        if let Connection::Open(duplex) = &mut state.connection {
            end(duplex);
        }
        self.schedule(&mut state);
    }

    /// Causes a call of the source, which acts on what a half has done.
    fn schedule(&self, state: &mut State) {
        if state.call == Call::None && self.handle.dispatch_soon(self.id).is_ok() {
            state.call = Call::Scheduled;
        }
    }
}

/// A read that may be waiting. Nobody waits any more when it is dropped.
pub(super) struct Reading<'a>(pub &'a Stream);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reader.set(None);
    }
}

/// The same for a write.
pub(super) struct Writing<'a>(pub &'a Stream);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writer.set(None);
    }
}
