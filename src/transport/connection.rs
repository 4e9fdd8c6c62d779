//! A connection as a source: the order of its callbacks.
//!
//! Invariants:
//! - The consequences of a callback (`pause_writing`, the end of the connection) are handled after
//!   it has returned. So no callback of a protocol runs inside another one.
//! - Timers and timeouts are handled last, after the pending I/O.
//! - Budgets: a call of [`Source::ready`] stops reading after 256 KiB (`SCRATCH_SIZE`), and stops
//!   sending after as much. Then it returns `Again`. So a peer that sends without a pause does not
//!   starve the others. A read of a few bytes counts as one of 1 KiB, because each system call
//!   takes time.
//!
//! Read next: `duplex/`, which reads and writes the socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::duplex::{Duplex, Notification, Received, SMALLEST_CHARGE};
use super::{CloseReason, ConnectionLost, Protocol, Transport};
use crate::net::{
    Address, ConnectOptions, ListenOptions, Listener, ListeningSocket, NotConnected, Socket, connect, listen,
};
use crate::reactor::observe::{ConnectionState, IoStats};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Unavailable};
use crate::sys;

/// How many times `pause_writing` and `resume_writing` are called after another callback, at most.
/// A protocol that changes its marks in them could cause one after another forever.
const NOTIFICATIONS: usize = 2;

/// Listens on all of `addresses`, or, if one fails, on none (asyncio: `create_server`). Each
/// connection gets a protocol from `factory`.
///
/// ```
/// # use echo_reactor::{ListenOptions, Protocol, Reactor, Transport, create_server};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn data_received(&mut self, transport: &mut Transport, data: &[u8]) { transport.write(data); }
/// # }
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let addresses = ["127.0.0.1:0".parse()?];
/// let listener = create_server(&mut reactor, &addresses, &ListenOptions::default(), || Echo)?;
/// println!("{}", listener.addresses(&reactor)?[0]); // with the port that the kernel chose
/// # Ok(())
/// # }
/// ```
///
/// For a Unix path, this may block for some seconds: see [`ListeningSocket::bind_all`].
///
/// # Errors
/// As for [`ListeningSocket::bind_all`], and for [`Reactor::add`].
pub fn create_server<P: Protocol>(
    reactor: &mut Reactor,
    addresses: &[Address],
    options: &ListenOptions,
    factory: impl FnMut() -> P + 'static,
) -> io::Result<Handle<Listener>> {
    create_server_with_sockets(reactor, ListeningSocket::bind_all(addresses, options)?, options, factory)
}

/// Does the same as [`create_server`], on sockets that listen already (asyncio: `create_server`
/// with `sock`), such as those of [`ListeningSocket::from_listen_fds`].
///
/// # Errors
/// If `sockets` is empty, and as for [`Reactor::add`].
pub fn create_server_with_sockets<P: Protocol>(
    reactor: &mut Reactor,
    sockets: Vec<ListeningSocket>,
    options: &ListenOptions,
    mut factory: impl FnMut() -> P + 'static,
) -> io::Result<Handle<Listener>> {
    listen(reactor, sockets, options, move |reactor, socket, peer, listener| {
        let duplex = Duplex::new(socket, Some(peer));
        let protocol = catch_unwind(AssertUnwindSafe(&mut factory)).map_err(|panic| {
            reactor.call_soon(|_| resume_unwind(panic)); // from the queue, so that the listener stays
            io::Error::other("the factory of its protocol panicked")
        })?;
        Connection::new(duplex, protocol, Some(listener)).start(reactor).map(drop)
    })
}

/// Connects to the first of `addresses` that answers (asyncio: `create_connection`).
///
/// It returns at once. The protocol's `connection_made` is called when the connection is
/// established, or its `connection_lost` with [`CloseReason::Unreachable`] when every address has
/// failed. To give up before that, [`Reactor::remove`] the handle.
pub fn create_connection<P: Protocol>(
    reactor: &mut Reactor,
    addresses: &[Address],
    options: &ConnectOptions,
    mut protocol: P,
) -> Handle<Connection<P>> {
    connect(reactor, addresses, options, move |reactor, id, result| {
        let reason = match result {
            Ok((socket, peer)) => {
                reactor.install(id, Connection::new(Duplex::new(socket, Some(peer)), protocol, None));
                return;
            }
            Err(NotConnected::Failed(error)) => CloseReason::Unreachable(error),
            Err(NotConnected::Removed) => CloseReason::Aborted,
        };
        let lost = ConnectionLost { id, peer: None, bytes_in: 0, bytes_out: 0, reason };
        protocol.connection_lost(reactor, lost);
    })
}

/// A connected socket with its protocol. Created by [`create_server`], by [`create_connection`], or
/// from a connected socket by [`Connection::from_socket`].
///
/// Do not swap two connections inside [`Reactor::with`]: each of them would get the events of the
/// other.
pub struct Connection<P> {
    duplex: Duplex,
    protocol: P,
    /// Whether `connection_made` was called.
    is_made: bool,
    /// The listener that accepted it and counts it as open.
    listener: Option<Handle<Listener>>,
}

impl<P: Protocol> Connection<P> {
    fn new(duplex: Duplex, protocol: P, listener: Option<Handle<Listener>>) -> Self {
        Connection { duplex, protocol, is_made: false, listener }
    }

    /// Creates a connection from a connected socket (asyncio: `create_connection` with `sock`), and
    /// makes the socket non-blocking. The protocol's `connection_made` is called from the queue: in
    /// this turn, or in the next one if this turn's queue has begun to run. If
    /// [`enter`](Handle::enter) is called earlier, it calls `connection_made` first.
    ///
    /// # Errors
    /// As for [`Reactor::add`] and `fcntl(2)`. After an error, no callback is called.
    pub fn from_socket(
        reactor: &mut Reactor,
        socket: impl Into<Socket>,
        protocol: P,
    ) -> io::Result<Handle<Self>> {
        let socket = socket.into();
        sys::set_nonblocking(&socket)?;
        let peer = socket.peer_addr().ok();
        Connection::new(Duplex::new(socket, peer), protocol, None).start(reactor)
    }

    fn start(self, reactor: &mut Reactor) -> io::Result<Handle<Self>> {
        let handle = reactor.add(self, Socket::INTEREST)?;
        reactor.call_again(handle.id());
        Ok(handle)
    }

    fn make(&mut self, id: Id, reactor: &mut Reactor) {
        self.is_made = true;
        self.call(id, reactor, NOTIFICATIONS, P::connection_made);
        self.check_removed(id, reactor);
    }

    /// Calls a callback, and handles its consequences.
    fn call<R>(
        &mut self,
        id: Id,
        reactor: &mut Reactor,
        notifications: usize,
        f: impl FnOnce(&mut P, &mut Transport) -> R,
    ) -> R {
        let result = f(&mut self.protocol, &mut Transport { id, duplex: &mut self.duplex, reactor });
        if !self.duplex.has_nothing_pending() {
            self.after_callback(id, reactor, notifications);
        }
        result
    }

    /// Handles the consequences of a callback, or of a read or write. Gives the protocol at most
    /// `budget` notifications.
    fn after_callback(&mut self, id: Id, reactor: &mut Reactor, mut budget: usize) {
        while !self.check_removed(id, reactor)
            && budget > 0
            && let Some(notification) = self.duplex.take_notification()
        {
            budget -= 1;
            let transport = &mut Transport { id, duplex: &mut self.duplex, reactor };
            match notification {
                Notification::PauseWriting => self.protocol.pause_writing(transport),
                Notification::ResumeWriting => self.protocol.resume_writing(transport),
            }
        }
        if budget == 0 {
            reactor.call_again(id);
        }
        self.duplex.advance(id, reactor);
    }

    /// Returns whether a callback has removed the connection. If so, only `connection_lost`
    /// follows.
    fn check_removed(&mut self, id: Id, reactor: &Reactor) -> bool {
        let is_gone = !reactor.contains(id);
        if is_gone {
            self.duplex.end(CloseReason::Aborted);
        }
        is_gone
    }

    /// Reads up to the budget.
    fn read(&mut self, mut budget: usize, id: Id, reactor: &mut Reactor) {
        reactor.with_scratch(|reactor, scratch| {
            loop {
                match self.duplex.receive(scratch) {
                    Received::Bytes(count) => {
                        budget = budget.saturating_sub(count.max(SMALLEST_CHARGE));
                        self.duplex.touch(|| reactor.actual_time());
                        self.call(id, reactor, NOTIFICATIONS, |protocol, transport| {
                            protocol.data_received(transport, &scratch[..count]);
                        });
                    }
                    Received::Discarded(count) => {
                        budget = budget.saturating_sub(count.max(SMALLEST_CHARGE));
                    }
                    Received::Eof => self.call(id, reactor, NOTIFICATIONS, P::eof_received),
                    Received::Nothing => self.after_callback(id, reactor, NOTIFICATIONS),
                }
                if budget == 0 || !self.duplex.may_read() || self.check_removed(id, reactor) {
                    return;
                }
            }
        });
    }

    /// Handles a wake-up or timer of the user, and the library's own timeout.
    fn on_time(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) {
        if ready.intersects(Ready::WOKEN) && !self.check_removed(id, reactor) && !self.duplex.is_closing() {
            self.call(id, reactor, NOTIFICATIONS, P::woken);
        }
        if ready.intersects(Ready::TIMEOUT) {
            self.duplex.on_timeout(id, reactor);
        }
    }

    fn next(&self) -> Next {
        if self.duplex.has_ended() {
            Next::Done
        } else if self.duplex.may_read() || self.duplex.may_flush() {
            Next::Again
        } else {
            Next::Wait
        }
    }
}

impl<P: Protocol> Source for Connection<P> {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.duplex.note(ready);
        if !self.is_made {
            self.make(id, reactor);
        }
        if !self.duplex.has_nothing_pending() {
            self.duplex.flush(0, || reactor.actual_time());
            self.after_callback(id, reactor, NOTIFICATIONS);
        }
        if self.duplex.may_read() {
            self.read(self.duplex.read_budget(ready), id, reactor);
        }
        if self.duplex.check_hang_up() {
            self.after_callback(id, reactor, NOTIFICATIONS);
        }
        if ready.intersects(Ready::WOKEN | Ready::TIMEOUT) {
            self.on_time(id, ready, reactor);
        }
        self.next()
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        self.duplex.cancel_timeout(reactor);
        let reason = self.duplex.take_end();
        let IoStats { bytes_in, bytes_out, .. } = self.duplex.stats();
        match self.listener {
            Some(listener) => listener.release(reactor, bytes_in, bytes_out),
            None => _ = reactor.deregister(id, self.duplex.socket()), // a duplicate may keep it open
        }
        let lost = ConnectionLost { id, peer: self.duplex.peer().cloned(), bytes_in, bytes_out, reason };
        self.protocol.connection_lost(reactor, lost);
    }

    fn stats(&self) -> Option<IoStats> {
        Some(self.duplex.stats())
    }

    fn connection_state(&self) -> Option<ConnectionState> {
        Some(self.duplex.state())
    }
}

/// Use it to set options of the socket, but none that uses the socket's error queue, such as
/// `SO_TIMESTAMPING`: a queued message would count as a broken connection. Do not keep a
/// duplicate of the descriptor, here or in a process that was forked: the kernel informs the peer
/// only when the last one is closed (`close(2)`). So the peer could wait for an end after
/// `connection_lost` was called. A duplicate of an accepted connection would also go on waking the
/// loop, because that connection does not deregister its descriptor, to save a system call.
impl<P> AsFd for Connection<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.duplex.socket().as_fd()
    }
}

impl<P: Protocol> Handle<Connection<P>> {
    /// Calls `f` with the protocol and the transport of a connection. This is how a program acts on
    /// a connection at any time, not only when the socket is ready.
    ///
    /// `f` may cause `pause_writing`, `resume_writing` or `connection_lost`. They are called before
    /// this returns, unless callbacks that enter each other's connections could overflow the stack:
    /// inside another source's call, `pause_writing` and `resume_writing` come from the queue, and
    /// inside another `connection_lost`, `connection_lost` comes when that returns.
    ///
    /// ```
    /// use echo_reactor::{Connection, Flow, Protocol, Reactor, Transport};
    ///
    /// fn broadcast<P: Protocol>(reactor: &mut Reactor, news: &[u8]) {
    ///     for connection in reactor.handles::<Connection<P>>() {
    ///         let _ = connection.enter(reactor, |_, transport| {
    ///             if transport.write(news) == Flow::Full {
    ///                 transport.abort(); // this peer reads too slowly
    ///             }
    ///         });
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// If the connection is gone, is not established yet, or is running (the call comes from one of
    /// its own callbacks).
    pub fn enter<R>(
        self,
        reactor: &mut Reactor,
        f: impl FnOnce(&mut P, &mut Transport) -> R,
    ) -> Result<R, Unavailable> {
        let id = self.id();
        let notifications = if reactor.is_running() { 0 } else { NOTIFICATIONS };
        let (result, next) = reactor.with(self, |connection, reactor| {
            connection.duplex.note(Ready::NONE);
            if !connection.is_made {
                connection.make(id, reactor);
            }
            let result = connection.call(id, reactor, notifications, f);
            (result, connection.next())
        })?;
        match next {
            Next::Wait => {}
            Next::Again => reactor.call_again(id),
            Next::Done => drop(reactor.remove(id)),
        }
        Ok(result)
    }
}

crate::opaque_debug!(Connection<P>, P);
