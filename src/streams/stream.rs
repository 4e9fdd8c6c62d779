//! A connection whose reader, writer and source share its state.
//!
//! The source does three things, each time that it is called:
//!
//! 1. *Before*: it notes what is ready, and sends what is buffered.
//! 2. *Poll*: it polls the tasks whose waits are over. They read from the kernel themselves.
//! 3. *After*: it sends what they wrote, and then ends our side (FIN) or closes the socket, if that
//!    is due.
//!
//! Invariants: the state is borrowed briefly, and never while a future, a waker or a destructor of
//! another module runs. (They could borrow it again, and a `RefCell` then panics.) If the source
//! must act on what a half has done, and is not running, a call of the source is scheduled. The
//! source stays until the socket is closed and both halves are dropped.
//!
//! Read next: `state.rs`, what the source does before and after a poll; `reader.rs` and
//! `writer.rs`, the two halves; `task.rs`, which polls a future.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::state::{State, Wait};
use super::task::Waiter;
use super::{Reader, Writer};
use crate::net::{Address, Listener};
use crate::reactor::observe::{ConnectionState, IoStats};
use crate::reactor::{Handle, Id, LoopHandle, Next, Reactor, Ready, Source};
use crate::transport::{CloseReason, Duplex};

pub(super) struct Stream {
    pub handle: LoopHandle,
    pub peer: Option<Address>,
    /// The id of the source.
    id: Id,
    state: RefCell<State>,
    pub reader: Half,
    pub writer: Half,
}

/// A half of a stream: what it waits for, and what to poll when the wait is over. It has both, or
/// neither.
#[derive(Default)]
pub(super) struct Half {
    wait: Cell<Option<Wait>>,
    waiter: Cell<Option<Waiter>>,
}

impl Half {
    /// Calls `poll` now, and each time that the wait is over, until it returns `Ready`. Dropping
    /// the future ends the wait.
    pub fn until<T>(&self, wait: Wait, mut poll: impl FnMut() -> Poll<T>) -> impl Future<Output = T> {
        let waiting = Waiting(self);
        poll_fn(move |context| {
            let polled = poll();
            if polled.is_pending() {
                waiting.begin(wait, context);
            }
            polled
        })
    }

    /// Ends the wait, if there is one. Returns what to poll.
    fn end_wait(&self) -> Option<Waiter> {
        self.wait.take().and_then(|_| self.waiter.take())
    }

    fn can_go_on(&self, state: &RefCell<State>) -> bool {
        self.wait.get().is_some_and(|wait| state.borrow().is_over(wait))
    }
}

/// A wait of a half. Dropping it ends the wait.
struct Waiting<'a>(&'a Half);

impl Waiting<'_> {
    fn begin(&self, wait: Wait, context: &Context<'_>) {
        self.0.waiter.set(Some(Waiter::new(context)));
        self.0.wait.set(Some(wait));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.end_wait();
    }
}

/// The source of a stream.
pub(super) struct StreamSource {
    stream: Rc<Stream>,
    type_name: &'static str,
    /// The listener that accepted the connection, and counts it as open.
    listener: Option<Handle<Listener>>,
}

impl StreamSource {
    /// Creates the source and the two halves of a connection. The source will have the slot `id`.
    /// `type_name` is that of the handler, for observers.
    pub fn new(
        handle: &LoopHandle,
        id: Id,
        duplex: Duplex,
        listener: Option<Handle<Listener>>,
        type_name: &'static str,
    ) -> (Self, Reader, Writer) {
        let (handle, peer, state) =
            (handle.clone(), duplex.peer().cloned(), RefCell::new(State::new(duplex)));
        let (reader, writer) = (Half::default(), Half::default());
        let stream = Rc::new(Stream { handle, peer, id, state, reader, writer });
        let (reader, writer) = (Reader::new(stream.clone()), Writer::new(stream.clone()));
        (StreamSource { stream, type_name, listener }, reader, writer)
    }
}

/// Gives the place of a closed connection at its listener back.
fn release(listener: &mut Option<Handle<Listener>>, state: &RefCell<State>, reactor: &mut Reactor) {
    if let Some(listener) = listener.take() {
        let IoStats { bytes_in, bytes_out, .. } = state.borrow().stats();
        listener.release(reactor, bytes_in, bytes_out);
    }
}

impl Source for StreamSource {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        let Stream { state, reader, writer, .. } = &*self.stream;
        state.borrow_mut().before(id, ready, reactor);
        for half in [reader, writer] {
            if half.can_go_on(state)
                && let Some(waiter) = half.end_wait()
            {
                waiter.poll();
            }
        }
        let halves_are_dropped = Rc::strong_count(&self.stream) == 1;
        let next = state.borrow_mut().after(id, halves_are_dropped, reactor);
        if state.borrow().is_closed() {
            release(&mut self.listener, state, reactor);
        }
        // A half can go on: its read stopped at the budget, sending has made room, or the
        // connection has ended.
        if next == Next::Wait && (reader.can_go_on(state) || writer.can_go_on(state)) {
            return Next::Again;
        }
        next
    }

    fn removed(&mut self, _: Id, reactor: &mut Reactor) {
        self.stream.state.borrow_mut().close(reactor);
        self.stream.wake_halves();
        release(&mut self.listener, &self.stream.state, reactor);
    }

    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn stats(&self) -> Option<IoStats> {
        let backpressured = self.stream.writer.wait.get() == Some(Wait::Room);
        Some(IoStats { backpressured, ..self.stream.state.borrow().stats() })
    }

    fn connection_state(&self) -> Option<ConnectionState> {
        self.stream.state.borrow().connection_state()
    }
}

impl Drop for StreamSource {
    fn drop(&mut self) {
        self.stream.state.borrow_mut().abandon();
        self.stream.wake_halves();
    }
}

impl Stream {
    /// Calls `f` with the state, for a half. Schedules a call of the source if the source must act
    /// on what `f` has done.
    pub fn with_state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.borrow_mut();
        let result = f(&mut state);
        if state.take_wanted_call() {
            let _ = self.handle.dispatch_soon(self.id); // fails only if the reactor is gone
        }
        result
    }

    fn wake_halves(&self) {
        [&self.reader, &self.writer].into_iter().filter_map(Half::end_wait).for_each(Waiter::wake);
    }

    /// Writes all of `bytes`. If the write buffer is full, writes nothing and returns `WouldBlock`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.with_state(|state| state.write(bytes)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits until the writer can go on. Returns the error of the next write, if no write will
    /// succeed any more.
    pub fn writable(&self, wait: Wait) -> impl Future<Output = io::Result<()>> {
        self.writer.until(wait, move || self.with_state(|state| state.poll_writable(wait)))
    }

    /// Calls `f` with the connection, if it is still open.
    pub fn with_duplex<R>(&self, f: impl FnOnce(&mut Duplex) -> R) -> Option<R> {
        self.with_state(|state| state.with_duplex(f))
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(&self) {
        self.with_duplex(|duplex| duplex.end(CloseReason::Aborted));
    }
}
