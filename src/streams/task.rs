//! A future as a source: polled when its connection is ready.
//!
//! Invariant: the future is polled until it waits for something that is not there yet; and it is gone no
//! later than its connection.
//!
//! Read next: `pipe.rs`, what it shares with its future, and `exchange.rs`, what happens between two polls.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::exchange::Step;
use super::pipe::{Line, SharedPipe};
use super::reader::Reader;
use super::waker::TaskWaker;
use super::writer::Writer;
use crate::net::{ErrorText, Listener};
use crate::reactor::observe::IoStats;
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Remote, Source};
use crate::transport::Duplex;

/// Polls in a row of a future that always gets on. Then the others have their turn.
const RATION: usize = 16;

/// A connection with a future for its state machine. Made by [`start_server`](super::start_server) and
/// [`open_connection`](super::open_connection).
pub struct Task<F> {
    /// `None` once it has returned.
    future: Option<Pin<Box<F>>>,
    pipe: SharedPipe,
    waker: TaskWaker,
    /// Who accepted it, and has to hear of its end.
    listener: Option<Handle<Listener>>,
}

impl<F: Future<Output = io::Result<()>> + 'static> Task<F> {
    fn new(line: Line, remote: Remote, handler: impl FnOnce(Reader, Writer) -> F) -> Self {
        let waker = TaskWaker::new(remote);
        let pipe = SharedPipe::new(line, waker.waker().clone());
        let future = handler(Reader::new(pipe.clone()), Writer::new(pipe.clone()));
        Task { future: Some(Box::pin(future)), pipe, waker, listener: None }
    }

    pub(super) fn accepted(
        reactor: &mut Reactor,
        duplex: Duplex,
        listener: Handle<Listener>,
        remote: Remote,
        handler: impl FnOnce(Reader, Writer) -> F,
    ) -> io::Result<()> {
        let task = Task::new(Line::Up(duplex), remote, handler);
        let (pipe, waker) = (task.pipe.clone(), task.waker.clone());
        let handle = reactor.insert(task);
        let id = handle.id();
        waker.point_at(id);
        if let Err(error) = pipe.attach(id, reactor) {
            reactor.remove(id);
            return Err(error);
        }
        if let Ok(task) = reactor.get_mut(handle) {
            task.listener = Some(listener); // from here on it has a place there
        }
        reactor.wake(id);
        Ok(())
    }

    /// `line` is what came of an attempt to connect, and `id` the place that was kept for it.
    pub(super) fn connected(
        reactor: &mut Reactor,
        id: Id,
        line: Line,
        remote: Remote,
        handler: impl FnOnce(Reader, Writer) -> F,
    ) {
        let task = Task::new(line, remote, handler);
        task.waker.point_at(id);
        reactor.replace(id, task);
        reactor.wake(id);
    }

    fn poll(&mut self) {
        if let Some(future) = &mut self.future
            && let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(self.waker.waker()))
        {
            self.returned(result);
        }
    }

    fn returned(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            log::warn!("a handler failed: {}", ErrorText(&error));
        }
        self.future = None;
        self.pipe.borrow().end(Duplex::close);
    }

    /// Drops the future, and releases what it holds elsewhere.
    fn end(&mut self, id: Id, reactor: &mut Reactor) {
        let was_waiting = self.future.take().is_some(); // dropped here, before the pipe is borrowed
        self.pipe.borrow().take_down(reactor);
        if was_waiting && let Some(reason) = self.pipe.borrow().loss() {
            log::debug!("a handler was still waiting when its connection ended: {reason}");
        }
        self.pipe.answer_requests(id, reactor); // what the future had to take back
        if let Some(listener) = self.listener.take() {
            let IoStats { bytes_in, bytes_out, .. } = self.pipe.borrow().stats();
            listener.release(reactor, bytes_in, bytes_out);
        }
    }
}

impl<F: Future<Output = io::Result<()>> + 'static> Source for Task<F> {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.pipe.begin(id, ready, reactor);
        for _ in 0..RATION {
            self.poll();
            match self.pipe.conclude(id, reactor) {
                Step::Poll => {}
                Step::Wait => return Next::Wait,
                Step::Again => return Next::Again,
                Step::End => break,
            }
        }
        if self.pipe.borrow().loss().is_none() { Next::Again } else { Next::Done }
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        self.end(id, reactor);
    }

    fn stats(&self) -> Option<IoStats> {
        Some(self.pipe.borrow().stats())
    }
}

crate::opaque_debug!(Task<F>, F);
