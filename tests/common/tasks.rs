//! Helpers for tests of tasks and streams: polling by hand, panics, and the halves of a connection.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use echo_reactor::{Address, ListenOptions, LoopHandle, Reactor, Reader, Writer, start_server};

use super::{PATIENCE, connect, turn_until, turn_until_quiet};

/// A reactor, and its handle.
pub fn new_reactor() -> (Reactor, LoopHandle) {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    (reactor, handle)
}

/// A cell that a future and its test share, so that the test can read what the future has stored.
pub fn shared<T>(value: T) -> (Rc<Cell<T>>, Rc<Cell<T>>) {
    let cell = Rc::new(Cell::new(value));
    (cell.clone(), cell)
}

/// Waits forever, and counts its polls.
pub async fn count_polls(polls: &Cell<u32>) {
    poll_fn(|_| {
        polls.set(polls.get() + 1);
        Poll::Pending
    })
    .await
}

/// Adds one to a counter when it is dropped.
pub struct Guard(pub Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Calls a closure when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether `f` panics.
pub fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// Turns until a callback panics.
#[track_caller]
pub fn turn_until_panic(reactor: &mut Reactor) {
    assert!(panics(|| turn_until(reactor, "it panics", |_| false)));
}

/// Accepts one connection at `address`. Returns its halves, and the peer that `connect` returned.
pub fn accept<P>(
    reactor: &mut Reactor,
    address: Address,
    connect: impl FnOnce(&Address) -> P,
) -> (Reader, Writer, P) {
    let accepted: Rc<RefCell<Option<(Reader, Writer)>>> = Rc::default();
    let slot = accepted.clone();
    let handler = move |reader, writer| {
        *slot.borrow_mut() = Some((reader, writer));
        async { Ok(()) }
    };
    let listener = start_server(reactor, &[address], &ListenOptions::default(), handler).unwrap();
    let peer = connect(&listener.addresses(reactor).unwrap()[0]);
    turn_until(reactor, "it is accepted", |_| accepted.borrow().is_some());
    turn_until_quiet(reactor);
    let (reader, writer) = accepted.take().unwrap();
    (reader, writer, peer)
}

/// The halves of a connection, and its peer.
pub fn halves(reactor: &mut Reactor) -> (Reader, Writer, TcpStream) {
    accept(reactor, "127.0.0.1:0".parse().unwrap(), |address| connect(&address.to_string()))
}

/// Accepts one connection. A task that is not its handler uses its halves.
pub fn hand_over<F: Future<Output = ()> + 'static>(
    f: impl FnOnce(Reader, Writer) -> F + 'static,
) -> (Reactor, TcpStream) {
    let (mut reactor, handle) = new_reactor();
    let (reader, writer, peer) = halves(&mut reactor);
    handle.spawn(f(reader, writer));
    (reactor, peer)
}

/// Writes more than the kernel takes, so that the next write waits.
pub async fn fill(writer: &mut Writer) {
    writer.write_all(&vec![0; 16 << 20]).await.unwrap();
}

/// Reads until the other end has closed the connection, gracefully or by a reset.
#[track_caller]
pub fn assert_closed(peer: &mut TcpStream) {
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    if let Err(error) = peer.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
