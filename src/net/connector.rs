//! The connector: tries one address after the other, each with a timeout, until a connection is
//! established.
//!
//! Invariant: the connector lives in the slot that its connection will have. When an attempt
//! succeeds, the connection replaces the connector. So the handle that the caller got at the start
//! becomes valid, and the socket's registration is reused.
//!
//! The outcome of an attempt is determined in one place, `connected_peer`. If `getpeername(2)`
//! succeeds, the socket is connected. Otherwise a peek (`MSG_PEEK`) returns the error of the
//! attempt, or shows that it has not ended.
//!
//! Read next: `../transport/connection.rs`.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::vec;

use super::{Address, ErrorText, Socket};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Timer};

/// How long to wait before each new attempt while the backlog of a Unix server is full.
const BACKLOG_RETRY: Duration = Duration::from_millis(20);

/// How to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// How long to try one address. The default is 10 seconds.
    pub timeout: Duration,
    /// The local address to connect from. With port 0, the kernel chooses the port. Unix sockets
    /// ignore it. With `None`, the default, the kernel chooses both.
    pub source: Option<SocketAddr>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { timeout: Duration::from_secs(10), source: None }
    }
}

/// The error of a connection that could not be established: every address that was tried, and why
/// it failed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ConnectError {
    /// The addresses in the order of the attempts, each with its error.
    pub attempts: Vec<(Address, io::Error)>,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return f.write_str("no address to connect to");
        }
        for (index, (address, error)) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {}", ErrorText(error))?;
        }
        Ok(())
    }
}

impl Error for ConnectError {}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = error.attempts.last().map_or(ErrorKind::InvalidInput, |(_, error)| error.kind());
        io::Error::new(kind, error)
    }
}

/// Why there is no connection.
pub(crate) enum NotConnected {
    Failed(ConnectError),
    /// The caller has removed the connector.
    Removed,
}

/// A connected socket and its peer's address, or the reason why there is none.
type Outcome = Result<(Socket, Address), NotConnected>;

type OnDone = Box<dyn FnOnce(&mut Reactor, Id, Outcome)>;

/// Connects to the first of `addresses` that answers. Calls `on_done` with the outcome. `on_done`
/// can install a connection in the connector's slot. That connection is then called from the queue.
pub(crate) fn connect<T: Source>(
    reactor: &mut Reactor,
    addresses: &[Address],
    options: &ConnectOptions,
    on_done: impl FnOnce(&mut Reactor, Id, Outcome) + 'static,
) -> Handle<T> {
    let connector = reactor.insert(Connector {
        addresses: Vec::from(addresses).into_iter(),
        options: options.clone(),
        state: State::Idle,
        failed: ConnectError::default(),
        woken: false,
        on_done: Some(Box::new(on_done)),
    });
    reactor.call_again(connector.id());
    Handle::new(connector.id())
}

pub(crate) struct Connector {
    addresses: vec::IntoIter<Address>,
    options: ConnectOptions,
    state: State,
    failed: ConnectError,
    /// Whether `Reactor::wake` was called for the future connection.
    woken: bool,
    /// Called once.
    on_done: Option<OnDone>,
}

/// The state of the attempt to connect to the current address.
enum State {
    /// No attempt is under way. The next address is to be tried.
    Idle,
    /// The attempt is under way. An event reports its end.
    Connecting { address: Address, socket: Socket, timeout: Timer },
    /// The Unix server's backlog is full. `connect(2)` fails immediately, and no event reports when
    /// there is room, so a timer retries.
    BacklogFull { address: Address, deadline: Instant, retry: Timer },
}

impl Source for Connector {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.woken |= ready.intersects(Ready::WOKEN);
        let timed_out = ready.intersects(Ready::TIMEOUT);
        match mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Connecting { address, socket, timeout } => {
                // Check the socket before the timeout: it may have connected just in time.
                match connected_peer(&socket, &address) {
                    Ok(None) if !timed_out => {
                        self.state = State::Connecting { address, socket, timeout };
                        return Next::Wait;
                    }
                    Ok(Some(peer)) => {
                        reactor.cancel(timeout);
                        self.finish(id, reactor, Ok((socket, peer)));
                        // The connection that replaces it gets the bits that were reported to the
                        // connector.
                        reactor.enqueue(id, ready.kernel_bits());
                        if self.woken {
                            reactor.wake(id);
                        }
                        return Next::Done;
                    }
                    failed => {
                        abandon(socket, timeout, id, reactor);
                        let error = failed.err().unwrap_or_else(timeout_error);
                        self.failed.attempts.push((address, error));
                    }
                }
            }
            State::BacklogFull { address, deadline, retry } => {
                reactor.cancel(retry); // a wake-up retries early
                self.begin(address, deadline, id, reactor);
            }
        }
        while matches!(self.state, State::Idle) {
            let Some(address) = self.addresses.next() else {
                let failed = NotConnected::Failed(mem::take(&mut self.failed));
                self.finish(id, reactor, Err(failed));
                return Next::Done;
            };
            self.begin(address, reactor.after(self.options.timeout), id, reactor);
        }
        Next::Wait
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        match mem::replace(&mut self.state, State::Idle) {
            State::Connecting { socket, timeout, .. } => abandon(socket, timeout, id, reactor),
            State::BacklogFull { retry, .. } => _ = reactor.cancel(retry),
            State::Idle => {}
        }
        self.finish(id, reactor, Err(NotConnected::Removed));
    }
}

impl Connector {
    /// Begins an attempt to connect. If it fails immediately, the state stays `Idle`.
    fn begin(&mut self, address: Address, deadline: Instant, id: Id, reactor: &mut Reactor) {
        let begun = Socket::connect(&address, self.options.source)
            .and_then(|socket| reactor.register(id, &socket, Socket::INTEREST).map(|()| socket));
        match begun {
            Ok(socket) => {
                let timeout = reactor.timeout_at(deadline, id);
                self.state = State::Connecting { address, socket, timeout };
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && reactor.actual_time() < deadline => {
                let retry = reactor.timeout_at(deadline.min(reactor.after(BACKLOG_RETRY)), id);
                self.state = State::BacklogFull { address, deadline, retry };
            }
            Err(error) => {
                let is_late = error.kind() == ErrorKind::WouldBlock;
                self.failed.attempts.push((address, if is_late { timeout_error() } else { error }));
            }
        }
    }

    fn finish(&mut self, id: Id, reactor: &mut Reactor, outcome: Outcome) {
        if let Some(on_done) = self.on_done.take() {
            on_done(reactor, id, outcome);
        }
    }
}

/// Ends an attempt. The connection to a later address has the same id. So the socket is
/// deregistered explicitly, in case another process keeps it open.
fn abandon(socket: Socket, timeout: Timer, id: Id, reactor: &mut Reactor) {
    reactor.cancel(timeout);
    let _ = reactor.deregister(id, &socket);
    drop(socket);
}

/// Returns the peer's address of a connected socket, or `None` while it is still connecting.
fn connected_peer(socket: &Socket, address: &Address) -> io::Result<Option<Address>> {
    match (socket.peer_addr(), socket) {
        (Ok(peer), _) if is_own_address(socket, &peer) => {
            Err(io::Error::new(ErrorKind::ConnectionRefused, "connected to itself: nobody listens"))
        }
        (Ok(peer), _) => Ok(Some(peer)),
        // A Unix socket is connected at once. If its peer has closed since, a BSD no longer returns
        // the peer's address, but data that the peer has sent can still be read.
        (Err(_), Socket::Unix(_)) => Ok(Some(address.clone())),
        // The socket is still connecting, or has failed, or was connected and its peer has reset
        // it. After a reset, data that arrived before it can still be read. The peek finds that
        // data, or else the error, which it clears as a read does.
        (Err(error), Socket::Tcp(stream)) => match stream.peek(&mut [0]) {
            Ok(_) => Ok(Some(address.clone())),
            Err(peeked) if !matches!(peeked.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                Err(peeked)
            }
            Err(_) if error.kind() == ErrorKind::NotConnected => Ok(None),
            Err(_) => Err(error), // no event would lead to another try
        },
    }
}

/// Returns whether the socket is connected to itself. The kernel may choose the port that we
/// connect to as our own port. If nobody listens there, TCP's simultaneous open connects the socket
/// to itself (RFC 9293, 3.5).
fn is_own_address(socket: &Socket, peer: &Address) -> bool {
    matches!(peer, Address::Tcp(_)) && socket.local_addr().is_ok_and(|local| local == *peer)
}

fn timeout_error() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Protocol, Transport, create_connection};
    use rustix::net::{AddressFamily, Shutdown, SocketType, bind, getsockname, listen, shutdown, socket};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    struct Silent;
    impl Protocol for Silent {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    }

    #[test]
    fn failed_attempt_does_not_end_the_connection_to_the_next_address() {
        let servers = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        listen(&servers[0], 0).unwrap();
        let addresses = servers.each_ref().map(|server| server.local_addr().unwrap());
        let _fills_the_backlog = TcpStream::connect(addresses[0]).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let options = ConnectOptions { timeout: Duration::from_millis(20), ..ConnectOptions::default() };
        let handle = create_connection(&mut reactor, &addresses.map(Address::from), &options, Silent);
        let connector = Handle::<Connector>::new(handle.id());
        let duplicate = |reactor: &Reactor| match &reactor.get(connector).ok()?.state {
            State::Connecting { socket, .. } => socket.as_fd().try_clone_to_owned().ok(),
            _ => None,
        };
        // Another process that was forked during the attempt would keep the socket open, too.
        let mut kept = None;
        let deadline = Duration::from_secs(10);
        reactor
            .run_until(deadline, |reactor| {
                kept = duplicate(reactor);
                kept.is_some()
            })
            .unwrap();
        assert!(reactor.run_until(deadline, |reactor| reactor.get(handle).is_ok()).unwrap());
        shutdown(kept.unwrap(), Shutdown::Both).unwrap();
        reactor.run_until(Duration::from_millis(20), |_| false).unwrap();
        assert!(reactor.get::<Connection<Silent>>(handle).is_ok(), "the connection has ended");
    }

    #[test]
    fn self_connection_is_rejected() {
        // Binds the port that it connects to. The kernel sometimes chooses that port by chance.
        let end = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&end, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let own = SocketAddr::try_from(getsockname(&end).unwrap()).unwrap();
        rustix::net::connect(&end, &own).unwrap();
        let socket = Socket::Tcp(mio::net::TcpStream::from_std(TcpStream::from(end)));
        assert_eq!(socket.peer_addr().unwrap(), own.into(), "the socket connected to itself");
        assert_eq!(connected_peer(&socket, &own.into()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
