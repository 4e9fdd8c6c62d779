//! What happens to a pipe before and after its future is polled.
//!
//! Invariant: whatever gives the future something to go on with is news, and is told once: bytes read
//! ahead, room to write, an answer, the end. Who waits with a waker of its own is woken for it.
//!
//! Read next: `reader.rs` and `writer.rs`, the future's side.

use std::cell::RefMut;
use std::io;
use std::task::Waker;

use super::pipe::{Demand, HIGH_WATER, Line, Pipe, SMALL, SharedPipe};
use crate::reactor::{Activity, Id, Reactor, Ready, SCRATCH};
use crate::transport::{INTEREST, Reason, Received};

/// Who waits to write goes on when no more than this is owed.
const LOW_WATER: usize = 16 * 1024;

/// What comes after a poll.
pub(super) enum Step {
    /// Another: there is news for the future.
    Poll,
    /// Nothing: it waits, and so do we.
    Wait,
    /// A turn of the others: the ration ended before the kernel's bytes did.
    Again,
    /// The end: the connection is gone, and the future has had the time to find out.
    End,
}

impl SharedPipe {
    /// Registers the socket.
    pub fn attach(&self, id: Id, reactor: &Reactor) -> io::Result<()> {
        self.borrow().channel().map_or(Ok(()), |channel| reactor.attach(id, channel.socket(), INTEREST))
    }

    /// A turn begins, and with it a new ration. The future is polled next.
    pub fn begin(&self, id: Id, ready: Ready, reactor: &mut Reactor) {
        let mut pipe = self.borrow();
        pipe.received = 0;
        pipe.polled = true;
        let Line::Up(channel) = &mut pipe.line else { return };
        channel.note(ready);
        if ready.is(Ready::DUE) {
            channel.check_deadline(id, reactor);
        }
        let mut news = ready != Ready::NONE;
        if channel.buffered() > 0 || !matches!(pipe.demand, Demand::Buffer) {
            news |= pipe.exchange(id, reactor);
        }
        if news && !pipe.waiting.is_empty() {
            wake_all(pipe);
        }
    }

    /// The future was polled: sends what it wrote, and if there is more to do, does it.
    pub fn conclude(&self, id: Id, reactor: &mut Reactor) -> Step {
        if self.borrow().send(reactor) { Step::Wait } else { self.conclude_slowly(id, reactor) }
    }

    #[cold]
    fn conclude_slowly(&self, id: Id, reactor: &mut Reactor) -> Step {
        let mut news = self.borrow().exchange(id, reactor);
        news |= self.answer_requests(id, reactor);
        let mut pipe = self.borrow();
        pipe.polled = news;
        let step = match &pipe.line {
            _ if news => Step::Poll,
            Line::Down { .. } => Step::End,
            Line::Up(channel) if channel.may_read() && pipe.received >= SCRATCH => Step::Again,
            Line::Up(_) => return Step::Wait,
        };
        wake_all(pipe);
        step
    }

    /// Asks the reactor what the future wants to know. `true`: something was answered.
    pub fn answer_requests(&self, id: Id, reactor: &mut Reactor) -> bool {
        let requests = std::mem::take(&mut self.borrow().requests);
        let mut answered = false;
        for request in requests {
            answered |= request(reactor, id);
        }
        answered
    }
}

impl Pipe {
    /// Sends what is owed. `true`: nothing else is to be done.
    fn send(&mut self, reactor: &Reactor) -> bool {
        let Line::Up(channel) = &mut self.line else { return false };
        channel.flush(SMALL, reactor);
        self.polled = false;
        channel.is_settled() && !channel.may_read() && !self.writer_waits && self.requests.is_empty()
    }

    /// Sends what is owed, reads ahead, and takes the steps that follow. `true`: there is news.
    #[cold] // not rare, but out of the way of a small message that is read, answered and sent
    fn exchange(&mut self, id: Id, reactor: &mut Reactor) -> bool {
        let Line::Up(channel) = &mut self.line else { return false };
        channel.flush(SMALL, reactor);
        let has_room = channel.buffered() <= LOW_WATER;
        let mut news = self.writer_waits && has_room;
        self.writer_waits &= !has_room;
        let most = match self.demand {
            Demand::Bytes(count) => count.max(HIGH_WATER),
            Demand::Buffer => HIGH_WATER,
        };
        while channel.may_read() && self.received < SCRATCH && self.ahead.len() < most {
            reactor.with_scratch(|_, scratch| match channel.receive(scratch) {
                Received::Bytes(count) => {
                    self.received += count;
                    self.ahead.push(&scratch[..count]);
                    news = true;
                }
                Received::Discarded(count) => self.received += count,
                Received::End => news = true,
                Received::Nothing => {}
            });
        }
        if !channel.is_settled() {
            channel.advance(id, reactor);
        }
        if let Some(reason) = channel.take_end(reactor) {
            let activity = channel.activity();
            self.line = Line::Down { reason, activity }; // which closes the socket
            news = true;
        }
        news
    }

    pub fn activity(&self) -> Activity {
        match &self.line {
            Line::Up(channel) => Activity { held_up: self.writer_waits, ..channel.activity() },
            Line::Down { activity, .. } => *activity,
        }
    }

    /// Why the connection is gone, if it is.
    pub fn loss(&self) -> Option<&Reason> {
        match &self.line {
            Line::Up(_) => None,
            Line::Down { reason, .. } => Some(reason),
        }
    }
}

#[cold]
fn wake_all(mut pipe: RefMut<'_, Pipe>) {
    let waiting = std::mem::take(&mut pipe.waiting);
    drop(pipe);
    waiting.into_iter().for_each(Waker::wake);
}
