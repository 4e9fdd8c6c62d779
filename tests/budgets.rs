//! One peer, thread or protocol cannot hold the loop: one call of a source does a bounded amount.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::Cell;
use std::io::{IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::turn_until;
use echo_reactor::observe::{DispatchEnd, Observer};
use echo_reactor::{Connection, Handle, Protocol, Reactor, SCRATCH_SIZE, Transport};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

/// Counts the calls of `data_received`.
struct Counter(Rc<Cell<usize>>);

impl Protocol for Counter {
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {
        self.0.set(self.0.get() + 1);
    }
}

/// The most that one call of a source has received, and the sum, in bytes.
struct Received(Rc<Cell<(u64, u64)>>);

impl Observer for Received {
    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let count = dispatch.stats.map_or(0, |(before, after)| after.bytes_in - before.bytes_in);
        let (most, sum) = self.0.get();
        self.0.set((most.max(count), sum + count));
    }
}

fn unix_connection<P: Protocol>(reactor: &mut Reactor, protocol: P) -> (Handle<Connection<P>>, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    (Connection::from_socket(reactor, mio::net::UnixStream::from_std(ours), protocol).unwrap(), peer)
}

#[test]
fn small_reads_use_up_the_budget() {
    let mut reactor = Reactor::new().unwrap();
    let reads = Rc::new(Cell::new(0));
    let (_, peer) = unix_connection(&mut reactor, Counter(reads.clone()));
    sockopt::set_socket_send_buffer_size(&peer, 1 << 20).unwrap();
    // The kernel ends a read at a message that carries a descriptor, so each read returns one byte.
    let mut sent = 0;
    loop {
        let (fds, mut space) = ([peer.as_fd()], [std::mem::MaybeUninit::uninit(); 64]);
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        if sendmsg(&peer, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL).is_err() {
            break;
        }
        sent += 1;
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(sent > 256, "the kernel took {sent} messages");
    assert!((1..=256).contains(&reads.get()), "{} reads in one turn", reads.get());
    turn_until(&mut reactor, "all messages were read", |_| reads.get() == sent);
}

#[test]
fn expired_idle_timeout_does_not_raise_the_read_budget() {
    let limit = Duration::from_secs(60);
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let received = Rc::new(Cell::new((0, 0)));
    reactor.add_observer(Received(received.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = mio::net::TcpStream::from_std(listener.accept().unwrap().0);
    let handle = Connection::from_socket(&mut reactor, ours, Counter(Rc::default())).unwrap();
    handle.enter(&mut reactor, |_, transport| transport.set_idle_timeout(Some(limit))).unwrap();
    peer.set_nonblocking(true).unwrap();
    let bytes = vec![0; 1 << 20];
    let mut sent = 0;
    while let Ok(count) = peer.write(&bytes) {
        sent += count as u64;
    }
    reactor.set_now(start + limit);
    turn_until(&mut reactor, "everything was read", |_| received.get().1 == sent);
    assert!(sent > 1 << 20, "the kernel took {sent} bytes");
    assert!(received.get().0 < 2 * SCRATCH_SIZE as u64, "{} bytes in one call", received.get().0);
    assert!(reactor.contains(handle.id()), "bytes had arrived");
}
