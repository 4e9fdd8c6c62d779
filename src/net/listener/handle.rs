//! The handle of a listener: its methods for users, and the place that a connection gives back.
//!
//! Invariant: a method on a listener that is gone or running returns why it has no effect.
//!
//! Read next: `../connector.rs`.

use super::{Listener, ListenerStats};
use crate::net::Address;
use crate::reactor::{Handle, Reactor, Unavailable};

/// A server (asyncio: `Server`). These methods can also be called from the callbacks of its
/// connections, because the listener is not running then. They fail if the listener was removed,
/// and inside [`Reactor::with`] on it.
impl Handle<Listener> {
    /// Returns the addresses that the listener listens on, with the ports that the kernel chose.
    /// There are none after [`close`](Self::close).
    ///
    /// # Errors
    /// If the listener is gone, or is running.
    pub fn addresses(self, reactor: &Reactor) -> Result<Vec<Address>, Unavailable> {
        Ok(reactor.get(self)?.sockets.iter().map(|one| one.socket.local_addr().clone()).collect())
    }

    /// Returns the counters of the listener.
    ///
    /// # Errors
    /// If the listener is gone, or is running.
    pub fn stats(self, reactor: &Reactor) -> Result<ListenerStats, Unavailable> {
        let Listener { stats, limit, .. } = reactor.get(self)?;
        Ok(ListenerStats { is_full: stats.open >= *limit, ..*stats })
    }

    /// Stops listening (asyncio: `Server.close`). Open connections go on, including those that were
    /// accepted in this turn. A socket that was passed to the process
    /// ([`ListeningSocket::from_listen_fds`](crate::net::ListeningSocket::from_listen_fds)) goes on
    /// listening for the next server. The listener keeps its counts until it is removed.
    ///
    /// # Errors
    /// If the listener is gone, or is running.
    pub fn close(self, reactor: &mut Reactor) -> Result<(), Unavailable> {
        reactor.with(self, |listener, reactor| listener.stop(self.id(), reactor))
    }

    /// Calls `f` when the listener has stopped: it was closed or removed, or its last socket became
    /// unusable.
    ///
    /// # Errors
    /// If the listener is gone, or is running.
    pub fn on_stopped(
        self,
        reactor: &mut Reactor,
        f: impl FnOnce(&mut Reactor) + 'static,
    ) -> Result<(), Unavailable> {
        reactor.with(self, |listener, reactor| {
            listener.on_stopped.push(Box::new(f));
            listener.call_back(reactor);
        })
    }

    /// Calls `f` when the listener has stopped and its last connection has ended (asyncio:
    /// `Server.wait_closed`), or when the listener is removed. A connection ends when its socket is
    /// closed; a task that serves it may go on after that. If the reactor is dropped, `f` is
    /// dropped without a call.
    ///
    /// # Errors
    /// If the listener is gone, or is running.
    pub fn on_closed(
        self,
        reactor: &mut Reactor,
        f: impl FnOnce(&mut Reactor) + 'static,
    ) -> Result<(), Unavailable> {
        reactor.with(self, |listener, reactor| {
            listener.on_closed.push(Box::new(f));
            listener.call_back(reactor);
        })
    }

    /// Counts a connection that has ended as closed, so that the listener can accept another one.
    /// Does nothing if the listener is gone.
    pub(crate) fn release(self, reactor: &mut Reactor, bytes_in: u64, bytes_out: u64) {
        let released = reactor.with(self, |listener, reactor| {
            // If a callback has exchanged its reactor for another one, this may be another listener
            // with the same id.
            listener.stats.open = listener.stats.open.saturating_sub(1);
            listener.limit_is_logged &= listener.stats.open > 0;
            listener.stats.bytes_in += bytes_in;
            listener.stats.bytes_out += bytes_out;
            listener.call_back(reactor);
            listener.sockets.iter().any(|one| one.readable)
        });
        match released {
            Ok(true) => reactor.call_again(self.id()),
            // The caller is inside `Reactor::with` on the listener.
            Err(Unavailable::Running) => {
                reactor.call_soon(move |reactor| self.release(reactor, bytes_in, bytes_out));
            }
            _ => {}
        }
    }
}
