//! What happens to a pipe before and after its future is polled.
//!
//! Invariant: whatever gives the future something to go on with is news, and is told once: bytes read
//! ahead, room to write, an answer, the end. Who waits with a waker of its own is woken for it.
//!
//! Read next: `reader.rs` and `writer.rs`, the future's side.

use std::cell::RefMut;
use std::io;
use std::task::Waker;

use super::pipe::{Demand, Line, Pipe, SMALL, SharedPipe};
use crate::net::Socket;
use crate::reactor::observe::IoStats;
use crate::reactor::{Id, Reactor, Ready, SCRATCH_SIZE};
use crate::transport::{CloseReason, HIGH_WATER, LOW_WATER, Received};

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
        self.borrow()
            .duplex()
            .map_or(Ok(()), |duplex| reactor.register(id, duplex.socket(), Socket::INTEREST))
    }

    /// A turn begins, and with it a new ration. The future is polled next.
    pub fn begin(&self, id: Id, ready: Ready, reactor: &mut Reactor) {
        let mut pipe = self.borrow();
        pipe.received = 0;
        pipe.polled = true;
        let Line::Up(duplex) = &mut pipe.line else { return };
        duplex.note(ready);
        let timed_out = ready.intersects(Ready::TIMEOUT);
        let mut news = ready != Ready::NONE;
        if timed_out || duplex.buffered() > 0 || !matches!(pipe.demand, Demand::Buffer) {
            news |= pipe.exchange(id, reactor);
        }
        // The I/O that was there is done. Only now the time decides.
        if timed_out && let Line::Up(duplex) = &mut pipe.line {
            duplex.on_timeout(id, reactor);
            pipe.exchange(id, reactor);
        }
        if news && !pipe.waiting.is_empty() {
            wake_all(pipe);
        }
    }

    /// The future was polled: sends what it wrote, and if there is more to do, does it.
    pub fn conclude(&self, id: Id, reactor: &mut Reactor) -> Step {
        if self.borrow().send(reactor) { Step::Wait } else { self.conclude_slowly(id, reactor) }
    }

    fn conclude_slowly(&self, id: Id, reactor: &mut Reactor) -> Step {
        let mut news = self.borrow().exchange(id, reactor);
        news |= self.answer_requests(id, reactor);
        let mut pipe = self.borrow();
        pipe.polled = news;
        let step = match &pipe.line {
            _ if news => Step::Poll,
            Line::Down { .. } => Step::End,
            Line::Up(duplex) if duplex.may_read() && pipe.received >= SCRATCH_SIZE => Step::Again,
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
        let Line::Up(duplex) = &mut self.line else { return false };
        duplex.flush(SMALL, reactor);
        self.polled = false;
        duplex.has_nothing_pending() && !duplex.may_read() && !self.writer_waits && self.requests.is_empty()
    }

    /// Sends what is owed, reads ahead, and takes the steps that follow. `true`: there is news.
    fn exchange(&mut self, id: Id, reactor: &mut Reactor) -> bool {
        let Line::Up(duplex) = &mut self.line else { return false };
        duplex.flush(SMALL, reactor);
        let has_room = duplex.buffered() <= LOW_WATER;
        let mut news = self.writer_waits && has_room;
        self.writer_waits &= !has_room;
        let most = match self.demand {
            Demand::Bytes(count) => count.max(HIGH_WATER),
            Demand::Buffer => HIGH_WATER,
        };
        while duplex.may_read() && self.received < SCRATCH_SIZE && self.ahead.len() < most {
            reactor.with_scratch(|_, scratch| match duplex.receive(scratch) {
                Received::Bytes(count) => {
                    self.received += count;
                    self.ahead.push(&scratch[..count]);
                    news = true;
                }
                Received::Discarded(count) => self.received += count,
                Received::Eof => news = true,
                Received::Nothing => {}
            });
        }
        if !duplex.has_nothing_pending() {
            duplex.advance(id, reactor);
        }
        if duplex.has_ended() {
            self.take_down(reactor);
            news = true;
        }
        news
    }

    /// Closes the socket: in order if the connection has ended, otherwise it is aborted.
    pub fn take_down(&mut self, reactor: &mut Reactor) {
        if let Line::Up(duplex) = &mut self.line {
            let (reason, stats) = (duplex.take_end(reactor), duplex.stats());
            self.line = Line::Down { reason, stats };
        }
    }

    pub fn stats(&self) -> IoStats {
        match &self.line {
            Line::Up(duplex) => IoStats { backpressured: self.writer_waits, ..duplex.stats() },
            Line::Down { stats, .. } => *stats,
        }
    }

    /// Why the connection is gone, if it is.
    pub fn loss(&self) -> Option<&CloseReason> {
        match &self.line {
            Line::Up(_) => None,
            Line::Down { reason, .. } => Some(reason),
        }
    }
}

fn wake_all(mut pipe: RefMut<'_, Pipe>) {
    let waiting = std::mem::take(&mut pipe.waiting);
    drop(pipe);
    waiting.into_iter().for_each(Waker::wake);
}
