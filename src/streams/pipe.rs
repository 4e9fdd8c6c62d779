//! What a connection and its future share: bytes on their way in and out, and questions to the reactor.
//!
//! Invariant: it is borrowed for a moment, by one side or the other, and never while the future or the
//! reactor runs. (The future outlives no call of its connection, and both are on one thread; that is
//! why this one `Rc<RefCell>` is enough, and why no other is needed.)
//!
//! Read next: `reader.rs`, `writer.rs`.

use std::cell::{RefCell, RefMut};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::reactor::{Id, Reactor};
use crate::transport::{Address, Buffer, Flow, Reason, Transport};

/// Bytes that wait for the reader, or for the writer's poll to end, before their source is held up.
pub(super) const HIGH_WATER: usize = 64 * 1024;

/// What an empty buffer keeps, so that a conversation in small messages allocates nothing.
pub(super) const SMALL: usize = 1024;

/// A question to the reactor. `true`: it is answered, so the future gets on when it is polled.
pub(super) type Request = Box<dyn FnOnce(&mut Reactor, Id) -> bool>;

/// What the writer has asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    Eof,
    Closed,
}

/// Whether there will be more to read.
pub(super) enum Supply {
    Open,
    /// The peer has ended its side.
    Ended,
    /// The connection broke, or never was.
    Broken(ErrorKind, String),
}

/// What a future gets on with after a poll.
pub(super) struct Outcome {
    /// It has questions, or something to be done.
    pub asks: bool,
    /// It waits to write, and there is room.
    pub has_room: bool,
}

pub(super) struct Pipe {
    /// What wakes the connection.
    own: Waker,
    pub peer: Option<Address>,
    pub incoming: Buffer,
    pub supply: Supply,
    /// How many bytes the reader waits for.
    pub wanted: usize,
    pub outgoing: Vec<u8>,
    pub ending: Ending,
    /// What the transport said last.
    full: bool,
    /// The writer waits for room.
    pub writer_waits: bool,
    requests: Vec<Request>,
    /// Wakers of others than the connection: of a part of the future that polls for itself.
    waiting: Vec<Waker>,
}

impl Pipe {
    /// Notes who waits. The connection polls its own future in any case.
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

    pub fn has_room(&self) -> bool {
        !self.full && self.outgoing.len() < HIGH_WATER
    }

    /// Why nothing can be written, if so.
    pub fn refusal(&self) -> Option<io::Error> {
        match &self.supply {
            Supply::Broken(kind, text) => Some(io::Error::new(*kind, text.clone())),
            _ if self.ending != Ending::Open => Some(io::Error::from(ErrorKind::BrokenPipe)),
            _ => None,
        }
    }

    /// After a poll: sends what was written, does what was asked for, and holds the peer up if the reader
    /// has enough.
    pub fn flush(&mut self, transport: &mut Transport) -> Outcome {
        if !self.outgoing.is_empty() {
            self.full = transport.write(&self.outgoing) == Flow::Full;
            self.outgoing.clear();
            if self.outgoing.capacity() > SMALL {
                self.outgoing = Vec::new();
            }
        }
        match self.ending {
            Ending::Open => {}
            Ending::Eof => transport.write_eof(),
            Ending::Closed => transport.close(),
        }
        if self.incoming.len() < HIGH_WATER.max(self.wanted) {
            transport.resume_reading();
        } else {
            transport.pause_reading();
        }
        Outcome { asks: !self.requests.is_empty(), has_room: self.writer_waits && self.has_room() }
    }
}

/// The connection's, and its future's, hold on their pipe.
#[derive(Clone)]
pub(super) struct SharedPipe(Rc<RefCell<Pipe>>);

impl SharedPipe {
    pub fn new(own: Waker) -> Self {
        SharedPipe(Rc::new(RefCell::new(Pipe {
            own,
            peer: None,
            incoming: Buffer::default(),
            supply: Supply::Open,
            wanted: 1,
            outgoing: Vec::new(),
            ending: Ending::Open,
            full: false,
            writer_waits: false,
            requests: Vec::new(),
            waiting: Vec::new(),
        })))
    }

    pub fn borrow(&self) -> RefMut<'_, Pipe> {
        self.0.borrow_mut()
    }

    // ---- for the connection

    pub fn receive(&self, data: &[u8]) {
        let mut pipe = self.borrow();
        pipe.incoming.push(data);
        if !pipe.waiting.is_empty() {
            drop(pipe);
            self.wake_waiting();
        }
    }

    pub fn receive_eof(&self) {
        self.borrow().supply = Supply::Ended;
        self.wake_waiting();
    }

    pub fn lose(&self, reason: &Reason) {
        let mut pipe = self.borrow();
        pipe.supply = match reason {
            Reason::Closed => Supply::Ended,
            Reason::Failed(error) => Supply::Broken(error.kind(), reason.to_string()),
            Reason::Unreachable(_) => Supply::Broken(ErrorKind::NotConnected, reason.to_string()),
            other => Supply::Broken(ErrorKind::ConnectionAborted, other.to_string()),
        };
        if pipe.ending == Ending::Open {
            pipe.ending = Ending::Closed;
        }
        drop(pipe);
        self.wake_waiting();
    }

    pub fn resume(&self) {
        self.borrow().full = false;
        self.wake_waiting();
    }

    /// Asks the reactor what the future wants to know. `true`: something was answered.
    pub fn answer_requests(&self, reactor: &mut Reactor, id: Id) -> bool {
        let requests = std::mem::take(&mut self.borrow().requests);
        let mut answered = false;
        for request in requests {
            answered |= request(reactor, id);
        }
        if answered {
            self.wake_waiting();
        }
        answered
    }

    #[cold]
    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut self.borrow().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}
