//! What a task and its future share: the connection, what was read ahead of the reader, and questions to
//! the reactor.
//!
//! ```text
//!            ┌─────────────────────── read ──────────▶ the future's own buffer
//!   kernel ──┴──▶ ahead ── read_line, read_exactly ──▶ a `Vec` for it
//!   kernel ◀───── owed ◀── write_all ─────────────────  its bytes
//! ```
//!
//! Invariant: it is borrowed for a moment, by one side or the other, and never while code of others runs.
//! (The future outlives no call of its task, and both are on one thread; that is why this one
//! `Rc<RefCell>` is enough, and why no other is needed.) Here is what the future does with it.
//!
//! Read next: `exchange.rs`, what the task does with it.

use std::cell::{RefCell, RefMut};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::net::Address;
use crate::reactor::observe::IoStats;
use crate::reactor::{Id, Reactor, SCRATCH_SIZE};
use crate::transport::{CloseReason, Duplex, HIGH_WATER, Received, WriteBuffer};

/// What an empty buffer keeps, so that a conversation in small messages allocates nothing.
pub(super) const SMALL: usize = 1024;

/// A question to the reactor. `true`: it is answered, so the future gets on when it is polled.
pub(super) type Request = Box<dyn FnOnce(&mut Reactor, Id) -> bool>;

/// The connection, or what is left of it.
pub(super) enum Line {
    Up(Duplex),
    Down { reason: CloseReason, stats: IoStats },
}

/// What the reader waits for.
pub(super) enum Demand {
    /// So many bytes, to be read ahead.
    Bytes(usize),
    /// Any bytes: it has a buffer of its own, and reads into that itself when it is polled.
    Buffer,
}

pub(super) struct Pipe {
    /// What wakes the task.
    own: Waker,
    /// Its future is being polled: it looks here afterwards.
    pub polled: bool,
    pub line: Line,
    pub peer: Option<Address>,
    /// Bytes that came before the reader asked for them.
    pub ahead: WriteBuffer,
    pub demand: Demand,
    /// Bytes read in this turn. At a scratch buffer's worth the others have theirs.
    pub received: usize,
    pub writer_waits: bool,
    pub requests: Vec<Request>,
    /// Wakers of others than the task: of a part of the future that polls for itself.
    pub waiting: Vec<Waker>,
}

impl Pipe {
    pub fn duplex(&mut self) -> Option<&mut Duplex> {
        match &mut self.line {
            Line::Up(duplex) => Some(duplex),
            Line::Down { .. } => None,
        }
    }

    /// Reads from the kernel, straight into the reader's buffer. 0 is the end of file. `None`: nothing
    /// there, or nothing more in this turn.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let Line::Up(duplex) = &mut self.line else { return None };
        if self.received >= SCRATCH_SIZE || !duplex.may_deliver() {
            return None;
        }
        match duplex.receive(buffer) {
            Received::Bytes(count) => {
                self.received += count;
                Some(count)
            }
            Received::Eof => Some(0),
            Received::Discarded(_) | Received::Nothing => None,
        }
    }

    /// Takes `count` bytes of those that were read ahead.
    pub fn take<T>(&mut self, count: usize, take: impl FnOnce(&[u8]) -> T) -> T {
        self.demand = Demand::Bytes(1);
        let taken = take(&self.ahead.as_slice()[..count]);
        self.ahead.consume(count, SMALL);
        taken
    }

    /// What it means that nothing more comes; `None` while something may.
    pub fn end_of_input(&self) -> Option<io::Result<()>> {
        let reason = match &self.line {
            Line::Up(duplex) if !duplex.is_at_eof() => return None,
            Line::Up(duplex) => duplex.close_reason(),
            Line::Down { reason, .. } => Some(reason),
        };
        Some(reason.and_then(CloseReason::to_error).map_or(Ok(()), Err))
    }

    /// Owes `bytes` to the peer: they leave when the future waits. `false`: not now, or not at all.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        if !self.polled {
            self.wake_task();
        }
        self.duplex().is_some_and(|duplex| duplex.buffer(bytes, HIGH_WATER))
    }

    /// Ends our side, or the connection, after what is owed.
    pub fn end(&mut self, how: fn(&mut Duplex)) {
        if !self.polled {
            self.wake_task();
        }
        self.duplex().map(how);
    }

    /// Somebody else has the writer: the task, which would look for itself after a poll, has to be told.
    fn wake_task(&self) {
        self.own.wake_by_ref();
    }

    /// Why nothing can be written any more, if so.
    pub fn refusal(&self) -> Option<io::Error> {
        match &self.line {
            Line::Up(duplex) => duplex.write_error(),
            Line::Down { reason, .. } => {
                Some(reason.to_error().unwrap_or_else(|| ErrorKind::BrokenPipe.into()))
            }
        }
    }

    /// Notes who waits. The task polls its own future in any case.
    pub fn wait(&mut self, context: &Context<'_>) {
        if !self.own.will_wake(context.waker())
            && !self.waiting.iter().any(|waker| waker.will_wake(context.waker()))
        {
            self.waiting.push(context.waker().clone());
        }
    }

    pub fn request(&mut self, request: Request) {
        self.requests.push(request);
    }
}

/// The task's, and its future's, hold on their pipe.
#[derive(Clone)]
pub(super) struct SharedPipe(Rc<RefCell<Pipe>>);

impl SharedPipe {
    pub fn new(line: Line, own: Waker) -> Self {
        let peer = match &line {
            Line::Up(duplex) => duplex.peer().cloned(),
            Line::Down { .. } => None,
        };
        SharedPipe(Rc::new(RefCell::new(Pipe {
            own,
            polled: false,
            line,
            peer,
            ahead: WriteBuffer::default(),
            demand: Demand::Bytes(1),
            received: 0,
            writer_waits: false,
            requests: Vec::new(),
            waiting: Vec::new(),
        })))
    }

    pub fn borrow(&self) -> RefMut<'_, Pipe> {
        self.0.borrow_mut()
    }
}
