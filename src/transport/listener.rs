//! Listening: accepts connections, and gives each a protocol.
//!
//! Invariant: nothing that a peer does, and no shortage of the machine, ends it. It is told of those who
//! wait by level (`../reactor/level.rs`), so it may stop after each of them and forgets nobody. Where it
//! cannot go on it mutes its sockets, or the loop would spin. They are heard again
//!
//! - when one of its connections closes: at the limit on connections, and when descriptors ran out;
//! - after a second, too, while descriptors are short: they may be freed elsewhere.
//!
//! Read next: `connector.rs`, the other way in.

use std::io;
use std::mem;
use std::time::Duration;

use super::batch::Batch;
use super::listening_socket::{Failure, ListeningSocket};
use super::{Address, Connection, Plain, Protocol, Socket};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Timer};

/// How long until the next try while descriptors are short.
const RETRY: Duration = Duration::from_secs(1);

/// How to listen.
#[derive(Clone, Debug)]
pub struct Serve {
    /// At this many open connections the listener stops accepting; later peers wait in the kernel's
    /// queue. `None`: as many as there are descriptors.
    pub max_connections: Option<usize>,
    /// The length of the kernel's queue of connections that are not accepted yet (`listen(2)`).
    pub backlog: u16,
    /// `SO_REUSEPORT`: several processes on one port, see `socket(7)`.
    pub reuse_port: bool,
}

impl Default for Serve {
    fn default() -> Self {
        Serve { max_connections: None, backlog: 4096, reuse_port: false }
    }
}

/// What a listener has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that are open.
    pub open: usize,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections that were lost before they could be served.
    pub refused: u64,
    /// Bytes received on connections that are closed by now.
    pub bytes_in: u64,
    /// Bytes sent on connections that are closed by now.
    pub bytes_out: u64,
}

/// Listens on all of `addresses`, or, if one fails, on none (asyncio: `create_server`). Each
/// connection gets a protocol from `factory`.
///
/// ```
/// # use echo_reactor::{Address, Listener, Protocol, Reactor, Serve, Transport, create_server};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn data_received(&mut self, transport: &mut Transport, data: &[u8]) { transport.write(data); }
/// # }
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
/// let listener = create_server(&mut reactor, &[address], &Serve::default(), || Echo)?;
/// println!("{}", Listener::addresses(&mut reactor, listener)[0]); // with the port that it got
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As for [`ListeningSocket::bind_all`], and for [`Reactor::add`].
pub fn create_server<P: Protocol>(
    reactor: &mut Reactor,
    addresses: &[Address],
    how: &Serve,
    factory: impl FnMut() -> P + 'static,
) -> io::Result<Handle<Listener>> {
    create_server_on(reactor, ListeningSocket::bind_all(addresses, how)?, how, factory)
}

/// The same on sockets that listen already (asyncio: `create_server` with `sock`), such as
/// [`ListeningSocket::inherited`].
///
/// # Errors
/// As for [`Reactor::add`].
pub fn create_server_on<P: Protocol>(
    reactor: &mut Reactor,
    sockets: Vec<ListeningSocket>,
    how: &Serve,
    mut factory: impl FnMut() -> P + 'static,
) -> io::Result<Handle<Listener>> {
    listen(reactor, sockets, how, move |reactor, socket, listener| {
        Connection::accepted(reactor, socket, factory(), listener)
    })
}

/// Has `serve` make a source of each socket that is accepted. The source tells of its end with
/// [`Listener::released`].
pub(crate) fn listen(
    reactor: &mut Reactor,
    sockets: Vec<ListeningSocket>,
    how: &Serve,
    serve: impl FnMut(&mut Reactor, Socket, Handle<Listener>) -> io::Result<()> + 'static,
) -> io::Result<Handle<Listener>> {
    let listener = reactor.insert(Listener {
        sockets: Vec::new(),
        serve: Box::new(serve),
        limit: how.max_connections.unwrap_or(usize::MAX),
        batch: Batch::default(),
        muted: false,
        supply: Supply::Enough,
        totals: Totals::default(),
        on_closed: None,
    });
    for socket in &sockets {
        if let Err(error) = reactor.attach_level(listener.id(), socket) {
            reactor.remove(listener.id());
            return Err(error);
        }
    }
    if let Some(source) = reactor.get_mut(listener) {
        source.sockets = sockets;
    }
    Ok(listener)
}

/// Whether there are descriptors for newcomers.
enum Supply {
    Enough,
    Short { retry: Timer },
}

type Service = Box<dyn FnMut(&mut Reactor, Socket, Handle<Listener>) -> io::Result<()>>;

type Callback = Box<dyn FnOnce(&mut Reactor)>;

/// The source that accepts. Made by [`create_server`].
pub struct Listener {
    sockets: Vec<ListeningSocket>,
    serve: Service,
    limit: usize,
    batch: Batch,
    /// Whether it is told nothing of those who wait.
    muted: bool,
    supply: Supply,
    totals: Totals,
    on_closed: Option<Callback>,
}

impl Listener {
    /// The addresses listened on, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(reactor: &mut Reactor, listener: Handle<Listener>) -> Vec<Address> {
        let sockets = reactor.get_mut(listener).map(|listener| listener.sockets.as_slice());
        sockets.unwrap_or_default().iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Stops listening. Connections that are open go on (asyncio: `Server.close`).
    pub fn close(reactor: &mut Reactor, listener: Handle<Listener>) {
        let id = listener.id();
        reactor.with(listener, |listener, reactor| {
            for socket in listener.sockets.drain(..) {
                reactor.detach_level(id, &socket);
            }
            if let Supply::Short { retry } = mem::replace(&mut listener.supply, Supply::Enough) {
                reactor.cancel(retry);
            }
            listener.check_closed(reactor);
        });
    }

    /// Calls `f` when the listener is closed and its last connection has ended (asyncio:
    /// `Server.wait_closed`).
    pub fn when_closed(
        reactor: &mut Reactor,
        listener: Handle<Listener>,
        f: impl FnOnce(&mut Reactor) + 'static,
    ) {
        reactor.with(listener, |listener, reactor| {
            listener.on_closed = Some(Box::new(f));
            listener.check_closed(reactor);
        });
    }

    fn check_closed(&mut self, reactor: &mut Reactor) {
        if self.sockets.is_empty()
            && self.totals.open == 0
            && let Some(call) = self.on_closed.take()
        {
            reactor.call_soon(call);
        }
    }

    /// What was counted; all zero if the listener is gone.
    #[must_use]
    pub fn totals(reactor: &mut Reactor, listener: Handle<Listener>) -> Totals {
        reactor.get_mut(listener).map(|listener| listener.totals).unwrap_or_default()
    }

    /// A connection has ended.
    pub(crate) fn released(reactor: &mut Reactor, listener: Handle<Listener>, bytes_in: u64, bytes_out: u64) {
        let counted = reactor.with(listener, |source, reactor| {
            source.totals.open -= 1;
            source.totals.bytes_in += bytes_in;
            source.totals.bytes_out += bytes_out;
            source.set_muted(false, listener.id(), reactor);
            source.check_closed(reactor);
        });
        if counted.is_none() && reactor.contains(listener.id()) {
            // It ended in the very callback in which it began: the listener is running.
            reactor.call_soon(move |reactor| Listener::released(reactor, listener, bytes_in, bytes_out));
        }
    }

    /// Accepts a batch from each socket.
    fn accept(&mut self, id: Id, reactor: &mut Reactor) {
        let batch = self.batch.for_turn(reactor.turns());
        let (mut index, mut left) = (0, batch);
        let mut was_too_large = true; // unless a socket has as many
        while let Some(socket) = self.sockets.get(index) {
            if self.totals.open >= self.limit {
                return self.set_muted(true, id, reactor);
            }
            if left == 0 {
                (index, left, was_too_large) = (index + 1, batch, false);
                continue;
            }
            left -= 1;
            let accepted = socket.accept();
            let Err(error) = accepted.and_then(|socket| self.serve(socket, id, reactor)) else { continue };
            match Failure::of(&error) {
                Failure::Drained => (index, left) = (index + 1, batch),
                Failure::GoOn => {
                    log::debug!("a connection was lost before it was accepted: {error}");
                    self.totals.refused += 1;
                }
                Failure::BackOff => return self.back_off(&error, id, reactor),
                Failure::Fatal => {
                    log::error!("cannot accept connections any more: {}", Plain(&error));
                    let socket = self.sockets.remove(index);
                    reactor.detach_level(id, &socket);
                }
            }
        }
        if was_too_large {
            self.batch.was_too_large();
        }
    }

    fn set_muted(&mut self, muted: bool, id: Id, reactor: &Reactor) {
        if self.muted == muted {
            return;
        }
        self.muted = muted;
        for socket in &self.sockets {
            if let Err(error) = reactor.set_muted(id, socket, muted) {
                log::error!("cannot change what epoll tells of a listening socket: {}", Plain(&error));
            }
        }
    }

    fn serve(&mut self, socket: Socket, id: Id, reactor: &mut Reactor) -> io::Result<()> {
        self.totals.open += 1;
        self.totals.accepted += 1;
        (self.serve)(reactor, socket, Handle::new(id)).inspect_err(|_| {
            self.totals.open -= 1;
            self.totals.refused += 1;
        })
    }

    /// One warning for the whole shortage. It is over when nothing has failed for a second, and no sooner:
    /// at the limit, peers that come and go would end it and begin it with each of them.
    fn back_off(&mut self, error: &io::Error, id: Id, reactor: &mut Reactor) {
        self.set_muted(true, id, reactor);
        let retry = reactor.wake_at(reactor.after(RETRY), id);
        match mem::replace(&mut self.supply, Supply::Short { retry }) {
            Supply::Enough => log::warn!(
                "cannot accept more connections: {}; {} are open, others wait until one closes",
                Plain(error),
                self.totals.open,
            ),
            Supply::Short { retry } => {
                reactor.cancel(retry);
            }
        }
    }

    /// A second after the last failure. At the limit it waits for a connection to close, and no longer for a
    /// descriptor.
    fn retry(&mut self, id: Id, reactor: &mut Reactor) {
        if self.muted && self.totals.open < self.limit {
            self.set_muted(false, id, reactor);
            self.supply = Supply::Short { retry: reactor.wake_at(reactor.after(RETRY), id) };
        } else {
            self.supply = Supply::Enough;
            log::info!("accepting connections again");
        }
    }
}

impl Source for Listener {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        if ready.is(Ready::DUE) {
            self.retry(id, reactor);
        }
        if ready.is(Ready::READABLE) {
            self.accept(id, reactor);
        }
        Next::Wait
    }
}
