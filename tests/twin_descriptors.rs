//! A wrong twin in a process of its own, because it uses up the descriptors: a listener that does
//! not retry when `accept` fails.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use common::{Echo, turn_until, turn_until_quiet};
use echo_reactor::{Address, Id, ListenOptions, Next, Reactor, Ready, Source, create_server};
use mio::Interest;
use mio::net::TcpListener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct NeverRetries {
    listener: TcpListener,
    accepted: Vec<mio::net::TcpStream>,
}

impl Source for NeverRetries {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        while let Ok((peer, _)) = self.listener.accept() {
            self.accepted.push(peer);
        }
        Next::Wait // it does not distinguish EMFILE from WouldBlock
    }
}

impl AsFd for NeverRetries {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[test]
fn listener_without_a_retry_never_accepts_again() {
    let mut reactor = Reactor::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let wrong_address = listener.local_addr().unwrap();
    let wrong = reactor.add(NeverRetries { listener, accepted: Vec::new() }, Interest::READABLE).unwrap();
    let any = Address::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let right = create_server(&mut reactor, &[any], &ListenOptions::default(), || Echo).unwrap();
    let right_address = right.addresses(&reactor).unwrap()[0].to_string();

    let served = TcpStream::connect(&right_address).unwrap();
    let accepted = |reactor: &mut Reactor| right.stats(reactor).unwrap().accepted;
    turn_until(&mut reactor, "one connection is accepted", |reactor| accepted(reactor) == 1);
    let waiting = [wrong_address.to_string(), right_address.clone(), right_address.clone(), right_address]
        .map(|to| TcpStream::connect(to).unwrap());
    let before = getrlimit(Resource::Nofile);
    let next = File::open("/dev/null").unwrap();
    let lowest = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
    drop(next);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest), ..before }).unwrap();
    for _ in 0..5 {
        reactor.turn(Some(Duration::from_millis(10))).unwrap(); // both listeners fail to accept
    }
    drop(served); // frees two descriptors, because both ends are ours; the third accept fails
    turn_until(&mut reactor, "two more connections are accepted", |reactor| accepted(reactor) == 3);
    turn_until_quiet(&mut reactor);
    assert_eq!(reactor.timer_count(), 1, "one retry, however often it fails");
    setrlimit(Resource::Nofile, before).unwrap(); // descriptors are available again

    turn_until(&mut reactor, "all connections are accepted", |reactor| accepted(reactor) == 4);
    assert!(reactor.get_mut(wrong).unwrap().accepted.is_empty(), "the wrong listener gets no event");
    drop(waiting);
}
