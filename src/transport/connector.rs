//! Connecting: every address in turn, a timeout each, until one answers.
//!
//! Invariant: the connector lives in the slot that its connection will have. When an attempt succeeds
//! it has the connection put in its own place, so the handle that the caller got at the start becomes
//! good, and events for the socket find their way without being registered anew.
//!
//! How an attempt ends is found out in one place: `SO_ERROR` is taken (which clears it: it can be asked
//! for once), and where there is none, the peer's address tells whether there is a peer yet.
//!
//! Read next: `connection.rs`.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};
use std::vec;

use super::channel::INTEREST;
use super::{Address, Connection, Protocol, Reason, Socket};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Timer};

/// How long until the next try while the queue of a Unix server is full.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// How to connect.
#[derive(Clone, Debug)]
pub struct Connect {
    /// How long to try one address.
    pub timeout: Duration,
}

impl Default for Connect {
    fn default() -> Self {
        Connect { timeout: Duration::from_secs(10) }
    }
}

/// Connects to the first of `addresses` that answers (asyncio: `create_connection`).
///
/// It returns at once. The protocol hears `connection_made` when the connection stands, or
/// `connection_lost` with [`Reason::Unreachable`] when every address has failed. The handle is good
/// from `connection_made` on; to give up before that, [`Reactor::remove`] it.
pub fn create_connection<P: Protocol>(
    reactor: &mut Reactor,
    addresses: Vec<Address>,
    how: &Connect,
    mut protocol: P,
) -> Handle<Connection<P>> {
    connect(reactor, addresses, how, move |reactor, id, connected| match connected {
        Ok((socket, ready)) => {
            let connection = reactor.replace(id, Connection::new(socket, ready, protocol));
            Connection::enter(reactor, connection, P::connection_made);
        }
        Err(reason) => protocol.connection_lost(reactor, reason),
    })
}

/// Has `then` put a source in the place of the connector, or hear why there is nothing to make one of.
pub(crate) fn connect<T: Source>(
    reactor: &mut Reactor,
    addresses: Vec<Address>,
    how: &Connect,
    then: impl FnOnce(&mut Reactor, Id, Result<(Socket, Ready), Reason>) + 'static,
) -> Handle<T> {
    let connector = reactor.insert(Connector {
        addresses: addresses.into_iter(),
        timeout: how.timeout,
        attempt: None,
        failures: Vec::new(),
        then: Some(Box::new(then)),
    });
    reactor.wake(connector.id());
    Handle::new(connector.id())
}

type Then = Box<dyn FnOnce(&mut Reactor, Id, Result<(Socket, Ready), Reason>)>;

/// One address, while it is tried.
enum Attempt {
    /// An event tells when it is decided.
    Connecting { address: Address, socket: Socket, timer: Timer },
    /// The queue of a Unix server is full: `connect(2)` says so at once, and no event tells when it is
    /// not. So a timer has it tried again.
    Crowded { address: Address, deadline: Instant },
}

struct Connector {
    addresses: vec::IntoIter<Address>,
    timeout: Duration,
    attempt: Option<Attempt>,
    failures: Vec<(Address, io::Error)>,
    /// Called once.
    then: Option<Then>,
}

impl Source for Connector {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        let due = ready.is(Ready::DUE);
        let is_under_way = match self.attempt.take() {
            Some(Attempt::Connecting { address, socket, timer }) => {
                match if due { Err(timed_out()) } else { is_connected(&socket) } {
                    Ok(false) => {
                        self.attempt = Some(Attempt::Connecting { address, socket, timer });
                        true
                    }
                    Ok(true) => {
                        reactor.cancel(timer);
                        return self.end(id, reactor, Ok((socket, ready)));
                    }
                    Err(error) => {
                        reactor.cancel(timer);
                        self.failures.push((address, error));
                        false
                    }
                }
            }
            Some(Attempt::Crowded { address, deadline }) if due => self.begin(address, deadline, id, reactor),
            Some(crowded) => {
                self.attempt = Some(crowded);
                true
            }
            None => false,
        };
        if is_under_way { Next::Wait } else { self.try_next(id, reactor) }
    }
}

impl Connector {
    fn try_next(&mut self, id: Id, reactor: &mut Reactor) -> Next {
        while let Some(address) = self.addresses.next() {
            if self.begin(address, reactor.after(self.timeout), id, reactor) {
                return Next::Wait;
            }
        }
        let failures = std::mem::take(&mut self.failures);
        self.end(id, reactor, Err(Reason::Unreachable(failures)))
    }

    /// Begins an attempt. `false`: it has failed already.
    fn begin(&mut self, address: Address, deadline: Instant, id: Id, reactor: &mut Reactor) -> bool {
        let begun = Socket::connect(&address)
            .and_then(|socket| reactor.attach(id, &socket, INTEREST).map(|()| socket));
        self.attempt = match begun {
            Ok(socket) => {
                let timer = reactor.wake_at(deadline, id);
                Some(Attempt::Connecting { address, socket, timer })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && reactor.now() < deadline => {
                reactor.wake_at(deadline.min(reactor.after(TRY_AGAIN)), id);
                Some(Attempt::Crowded { address, deadline })
            }
            Err(error) => {
                let is_late = error.kind() == ErrorKind::WouldBlock;
                self.failures.push((address, if is_late { timed_out() } else { error }));
                None
            }
        };
        self.attempt.is_some()
    }

    fn end(&mut self, id: Id, reactor: &mut Reactor, connected: Result<(Socket, Ready), Reason>) -> Next {
        if let Some(then) = self.then.take() {
            then(reactor, id, connected);
        }
        Next::Done
    }
}

/// `true`: connected; `false`: not decided yet.
fn is_connected(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(peer) if is_own(socket, &peer) => {
            Err(io::Error::new(ErrorKind::ConnectionRefused, "connected to itself: nobody listens"))
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// A connect to a free port of this machine can meet itself: the kernel may choose that very port for our
/// own end, and TCP lets two ends open at once (RFC 9293, 3.5).
fn is_own(socket: &Socket, peer: &Address) -> bool {
    matches!(peer, Address::Tcp(_)) && socket.local_addr().is_ok_and(|local| local == *peer)
}

fn timed_out() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, socket};
    use std::net::{SocketAddr, TcpStream};

    #[test]
    fn a_connection_to_itself_is_refused() {
        // What the kernel does by chance when it chooses the port of our end, done on purpose.
        let end = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&end, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let own = SocketAddr::try_from(getsockname(&end).unwrap()).unwrap();
        connect(&end, &own).unwrap();
        let socket = Socket::Tcp(mio::net::TcpStream::from_std(TcpStream::from(end)));
        assert_eq!(socket.peer_addr().unwrap(), own.into(), "it did connect");
        assert_eq!(is_connected(&socket).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
