//! The listener: accepts connections and passes each one to a closure.
//!
//! Invariant: neither a peer nor resource exhaustion ever stops the listener. Its sockets are
//! edge-triggered, so it remembers which of them may have a pending connection, until `accept`
//! returns `WouldBlock`. If it stops earlier, it continues later. When it continues depends on the
//! reason:
//!
//! - the budget: it returns `Again`;
//! - the limit on connections: the next connection that closes calls it again;
//! - missing descriptors, or a turn in which every `accept` failed: the next connection that closes
//!   calls it again, and a timer does so after one second, because a descriptor may be closed
//!   elsewhere.
//!
//! Read next: `listener/handle.rs`, its methods for users; `../transport/connection.rs`, what happens
//! to a connection; `connector.rs`, the other way to get a connection.

mod handle;

use std::io;
use std::mem;
use std::time::Duration;

use super::listening_socket::AcceptError;
use super::{Address, ErrorText, ListenOptions, ListeningSocket, Socket};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Timer};

use mio::Interest;

/// How many times one call of the listener calls `accept`, at most. A turn may call the listener
/// twice: for an event, and from the queue.
const ACCEPTS_PER_CALL: usize = 64;

/// How long to wait before accepting again while descriptors are missing.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The counters of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Connections that are open.
    pub open: usize,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections that were lost before they could be served.
    pub refused: u64,
    /// Bytes received on connections that are closed.
    pub bytes_in: u64,
    /// Bytes sent on connections that are closed.
    pub bytes_out: u64,
    /// Whether the limit on connections is reached, so that further ones wait.
    pub is_full: bool,
}

/// Makes a source from an accepted socket. That source calls [`Handle::release`] when it leaves.
type Serve = Box<dyn FnMut(&mut Reactor, Socket, Address, Handle<Listener>) -> io::Result<()>>;

type Callback = Box<dyn FnOnce(&mut Reactor)>;

/// The source that accepts. Created by [`create_server`](crate::create_server) and
/// [`start_server`](crate::start_server), and used through its [`Handle`].
pub struct Listener {
    sockets: Vec<Registered>,
    /// The index of the socket to accept from next.
    turn: usize,
    serve: Serve,
    limit: usize,
    /// Set during a shortage of descriptors. It expires one second after the last failure, and then
    /// the listener accepts again.
    retry: Option<Timer>,
    /// Whether the limit was reached and logged since the listener had no connection.
    limit_is_logged: bool,
    stats: ListenerStats,
    on_stopped: Vec<Callback>,
    on_closed: Vec<Callback>,
}

struct Registered {
    socket: ListeningSocket,
    /// Whether a connection may be pending.
    readable: bool,
}

/// Listens on `sockets`, and calls `serve` with each accepted socket.
pub(crate) fn listen(
    reactor: &mut Reactor,
    sockets: Vec<ListeningSocket>,
    options: &ListenOptions,
    serve: impl FnMut(&mut Reactor, Socket, Address, Handle<Listener>) -> io::Result<()> + 'static,
) -> io::Result<Handle<Listener>> {
    if sockets.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on"));
    }
    let sockets = sockets.into_iter().map(|socket| Registered { socket, readable: false }).collect();
    let handle = reactor.insert(Listener {
        sockets,
        turn: 0,
        serve: Box::new(serve),
        limit: options.max_connections.unwrap_or(usize::MAX),
        retry: None,
        limit_is_logged: false,
        stats: ListenerStats::default(),
        on_stopped: Vec::new(),
        on_closed: Vec::new(),
    });
    let registered = reactor.get(handle).map_err(io::Error::from).and_then(|listener| {
        let mut sockets = listener.sockets.iter();
        sockets.try_for_each(|one| reactor.register(handle.id(), &one.socket, Interest::READABLE))
    });
    if let Err(error) = registered {
        reactor.remove(handle.id());
        return Err(error);
    }
    Ok(handle)
}

impl Source for Listener {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        if ready.intersects(Ready::READABLE) {
            // The event does not identify the socket.
            self.sockets.iter_mut().for_each(|one| one.readable = true);
        }
        let retry = self.retry;
        let next = self.accept(id, reactor);
        // A shortage ends only after a full second without a failure; otherwise every peer that
        // comes and goes at the limit would start a new one.
        if ready.intersects(Ready::TIMEOUT) && retry.is_some() && self.retry == retry {
            self.retry = None;
            log::info!("accepting connections again");
        }
        next
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        self.stop(id, reactor);
        self.on_closed.drain(..).for_each(|call| reactor.call_soon(call));
    }
}

// ---- the accept path

impl Listener {
    /// Accepts up to the budget, from each socket in turn.
    fn accept(&mut self, id: Id, reactor: &mut Reactor) -> Next {
        let (mut budget, mut lost) = (ACCEPTS_PER_CALL, 0);
        while self.stats.open < self.limit
            && let Some(index) = self.next_readable()
        {
            if budget == 0 {
                return Next::Again;
            }
            budget -= 1;
            let Err((kind, error)) = self.accept_one(index, id, reactor) else { continue };
            let has_shortage = match kind {
                AcceptError::Transient => {
                    log::debug!("a connection was lost before it could be served: {}", ErrorText(&error));
                    self.stats.refused += 1;
                    lost += 1;
                    lost == ACCEPTS_PER_CALL // every `accept` has failed: something refuses them all
                }
                AcceptError::Exhausted => true,
                AcceptError::WouldBlock => {
                    self.sockets[index].readable = false;
                    false
                }
                AcceptError::Fatal => {
                    self.drop_socket(index, &error, id, reactor);
                    false
                }
            };
            if has_shortage {
                self.back_off(&error, id, reactor);
                break;
            }
        }
        Next::Wait
    }

    /// Returns the next socket that may have a pending connection. The sockets take turns, so that
    /// no address starves another one.
    fn next_readable(&mut self) -> Option<usize> {
        let count = self.sockets.len();
        let mut in_turn = (self.turn..self.turn + count).map(|index| index % count);
        let index = in_turn.find(|&index| self.sockets[index].readable)?;
        self.turn = index + 1;
        Some(index)
    }

    fn accept_one(
        &mut self,
        index: usize,
        id: Id,
        reactor: &mut Reactor,
    ) -> Result<(), (AcceptError, io::Error)> {
        let accepted = self.sockets[index].socket.accept();
        let (socket, peer) = accepted.map_err(|error| (AcceptError::classify(&error), error))?;
        if let Err(error) = (self.serve)(reactor, socket, peer, Handle::new(id)) {
            let kind = match AcceptError::classify(&error) {
                AcceptError::Exhausted => {
                    self.stats.refused += 1; // the connection is dropped
                    AcceptError::Exhausted
                }
                _ => AcceptError::Transient, // not an error of the listening socket
            };
            return Err((kind, error));
        }
        self.stats.open += 1;
        self.stats.accepted += 1;
        if self.stats.open >= self.limit && !mem::replace(&mut self.limit_is_logged, true) {
            let limit = self.limit;
            // The connections that were accepted in this turn log their lines first.
            reactor.call_soon(move |_| {
                log::info!("the limit of open connections is reached: {limit}; others wait until one closes");
            });
        }
        Ok(())
    }

    /// Logs one warning per shortage.
    fn back_off(&mut self, error: &io::Error, id: Id, reactor: &mut Reactor) {
        let (error, open) = (ErrorText(error), self.stats.open);
        if let Some(earlier) = self.retry.replace(reactor.timeout_at(reactor.after(RETRY_DELAY), id)) {
            reactor.cancel(earlier);
            return;
        }
        let warning = format!("cannot accept more connections: {error} ({open} open)");
        // The connections that were accepted in this turn log their lines first.
        reactor.call_soon(move |_| log::warn!("{warning}; others wait until one closes"));
    }

    fn drop_socket(&mut self, index: usize, error: &io::Error, id: Id, reactor: &mut Reactor) {
        let Registered { socket, .. } = self.sockets.remove(index);
        let address = socket.local_addr();
        log::error!("cannot accept connections on {address} any more: {}", ErrorText(error));
        // Closing the descriptor is not enough if another process shares the socket.
        let _ = reactor.deregister(id, &socket);
        drop(socket);
        if self.sockets.is_empty() {
            self.stop(id, reactor);
        }
    }

    /// Stops listening. The kernel resets the connections that are not accepted yet, unless another
    /// descriptor keeps the socket open.
    fn stop(&mut self, id: Id, reactor: &mut Reactor) {
        for Registered { socket, .. } in self.sockets.drain(..) {
            let _ = reactor.deregister(id, &socket); // another process may share it
        }
        if let Some(retry) = self.retry.take() {
            reactor.cancel(retry);
        }
        self.call_back(reactor);
    }

    fn call_back(&mut self, reactor: &mut Reactor) {
        if self.sockets.is_empty() {
            self.on_stopped.drain(..).for_each(|call| reactor.call_soon(call));
            if self.stats.open == 0 {
                self.on_closed.drain(..).for_each(|call| reactor.call_soon(call));
            }
        }
    }
}

crate::opaque_debug!(Listener);

#[cfg(test)]
mod tests;
