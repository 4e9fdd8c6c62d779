//! A connection as a source: who calls whom, and in which order.
//!
//! Invariant: notices are settled after a callback has returned, never in the middle of one. So a
//! protocol is never entered twice, and sees the consequences of what it did (`pause_writing`, the
//! end) only when it is done doing it.
//!
//! Rations: one call to [`Source::ready`] reads at most about one scratch buffer's worth of bytes,
//! then says `Again`; a peer that floods gets its share of each turn and no more.
//!
//! Read next: `listener.rs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::channel::{Channel, INTEREST, Received};
use super::{Listener, Protocol, Socket, Transport};
use crate::reactor::{Activity, Handle, Id, Next, Reactor, Ready, SCRATCH, Source};

/// A connected socket with its protocol. One is made by [`create_server`](super::create_server), by
/// [`create_connection`](super::create_connection), or from a connected socket by
/// [`Connection::adopt`].
pub struct Connection<P> {
    channel: Channel,
    protocol: P,
    /// Who accepted it, and has to hear of its end.
    listener: Option<Handle<Listener>>,
}

impl<P: Protocol> Connection<P> {
    pub(super) fn new(socket: Socket, ready: Ready, protocol: P) -> Self {
        Connection { channel: Channel::new(socket, ready), protocol, listener: None }
    }

    /// Makes a connection of a socket that is connected already (asyncio: `create_connection` with
    /// `sock`).
    ///
    /// # Errors
    /// As for [`Reactor::add`]. The protocol has heard nothing then.
    pub fn adopt(reactor: &mut Reactor, socket: impl Into<Socket>, protocol: P) -> io::Result<Handle<Self>> {
        Self::start(reactor, Connection::new(socket.into(), Ready::NONE, protocol))
    }

    pub(super) fn accepted(
        reactor: &mut Reactor,
        socket: Socket,
        protocol: P,
        listener: Handle<Listener>,
    ) -> io::Result<()> {
        let connection = Connection::new(socket, Ready::NONE, protocol);
        Self::start(reactor, Connection { listener: Some(listener), ..connection }).map(drop)
    }

    fn start(reactor: &mut Reactor, connection: Self) -> io::Result<Handle<Self>> {
        let handle = reactor.add(connection, INTEREST)?;
        Self::enter(reactor, handle, P::connection_made);
        Ok(handle)
    }

    /// Enters a connection from outside: a callback that comes not from its socket but from you.
    /// `None`: it is gone, not connected yet, or running already (it is the one that is calling).
    ///
    /// ```
    /// use echo_reactor::{Connection, Protocol, Reactor, Transport};
    ///
    /// fn tell_everybody<P: Protocol>(reactor: &mut Reactor, news: &[u8]) {
    ///     for handle in reactor.all::<Connection<P>>() {
    ///         Connection::enter(reactor, handle, |_, transport| transport.write(news));
    ///     }
    /// }
    /// ```
    pub fn enter<R>(
        reactor: &mut Reactor,
        handle: Handle<Self>,
        f: impl FnOnce(&mut P, &mut Transport) -> R,
    ) -> Option<R> {
        let id = handle.id();
        reactor.with(handle, |connection, reactor| {
            let result = connection.call(id, reactor, f);
            match connection.conclude(connection.channel.may_read(), reactor) {
                Next::Wait => {}
                Next::Again => reactor.call_again(id),
                Next::Done => reactor.remove(id),
            }
            result
        })
    }

    /// One callback, and what follows from it.
    fn call<R>(&mut self, id: Id, reactor: &mut Reactor, f: impl FnOnce(&mut P, &mut Transport) -> R) -> R {
        let result = f(&mut self.protocol, &mut Transport { id, channel: &mut self.channel, reactor });
        self.settle(id, reactor);
        result
    }

    fn settle(&mut self, id: Id, reactor: &mut Reactor) {
        if !self.channel.is_settled() {
            self.tell_and_advance(id, reactor);
        }
    }

    #[cold]
    fn tell_and_advance(&mut self, id: Id, reactor: &mut Reactor) {
        while let Some(pause) = self.channel.take_notice() {
            let transport = &mut Transport { id, channel: &mut self.channel, reactor };
            if pause {
                self.protocol.pause_writing(transport);
            } else {
                self.protocol.resume_writing(transport);
            }
        }
        self.channel.advance(id, reactor);
    }

    /// A timer came, or somebody else's call.
    #[cold]
    fn called(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) {
        if ready.is(Ready::DUE) {
            self.channel.check_deadline(id, reactor);
        }
        if ready.is(Ready::WOKEN) && self.channel.delivers() {
            self.call(id, reactor, P::woken);
        }
    }

    /// Reads a ration. Whether there may be more.
    fn read(&mut self, id: Id, reactor: &mut Reactor) -> bool {
        if !self.channel.may_read() {
            return false;
        }
        reactor.with_scratch(|reactor, scratch| {
            let mut ration = SCRATCH;
            loop {
                let received = self.channel.receive(scratch);
                if let Received::Bytes(count) | Received::Discarded(count) = received {
                    ration = ration.saturating_sub(count);
                    self.channel.deadline.put_off(reactor);
                }
                match received {
                    Received::Bytes(count) => self.call(id, reactor, |protocol, transport| {
                        protocol.data_received(transport, &scratch[..count]);
                    }),
                    Received::Discarded(_) => {}
                    Received::End => self.call(id, reactor, P::eof_received),
                    Received::Nothing => self.settle(id, reactor),
                }
                let more = self.channel.may_read();
                if !more || ration == 0 {
                    return more;
                }
            }
        })
    }

    /// What is to be next.
    fn conclude(&mut self, may_read: bool, reactor: &mut Reactor) -> Next {
        if self.channel.has_ended() {
            self.end(reactor);
            Next::Done
        } else if may_read {
            Next::Again
        } else {
            Next::Wait
        }
    }

    /// The last callback.
    #[cold]
    fn end(&mut self, reactor: &mut Reactor) {
        if let Some(reason) = self.channel.take_end(reactor) {
            self.protocol.connection_lost(reactor, reason);
            if let Some(listener) = self.listener.take() {
                Listener::released(reactor, listener, self.channel.bytes_in(), self.channel.bytes_out());
            }
        }
    }
}

impl<P: Protocol> Source for Connection<P> {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.channel.note(ready);
        if ready.is(Ready::DUE | Ready::WOKEN) {
            self.called(id, ready, reactor);
        }
        if self.channel.buffered() > 0 {
            self.channel.flush(0, reactor);
            self.settle(id, reactor);
        }
        let may_read = self.read(id, reactor);
        self.conclude(may_read, reactor)
    }

    fn activity(&self) -> Option<Activity> {
        Some(self.channel.activity())
    }
}

impl<P> AsFd for Connection<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }
}
