//! A broken twin in a process of its own, because it uses up the descriptors: a listener that forgets those who
//! wait when `accept` fails.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

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

struct Forgetful {
    listener: TcpListener,
    accepted: Vec<mio::net::TcpStream>,
}

impl Source for Forgetful {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        while let Ok((peer, _)) = self.listener.accept() {
            self.accepted.push(peer);
        }
        Next::Wait // WouldBlock, or EMFILE: it looks the same
    }
}

impl AsFd for Forgetful {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[test]
fn listener_without_a_retry_never_accepts_again() {
    let mut reactor = Reactor::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = listener.local_addr().unwrap();
    let forgetful = reactor.add(Forgetful { listener, accepted: Vec::new() }, Interest::READABLE).unwrap();
    let any = Address::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let careful = create_server(&mut reactor, &[any], &ListenOptions::default(), || Echo).unwrap();
    let heard = careful.addresses(&reactor).unwrap()[0].to_string();

    let served = TcpStream::connect(&heard).unwrap();
    let accepted = |reactor: &mut Reactor| careful.stats(reactor).unwrap().accepted;
    turn_until(&mut reactor, "one is served", |reactor| accepted(reactor) == 1);
    let waiting =
        [deaf.to_string(), heard.clone(), heard.clone(), heard].map(|to| TcpStream::connect(to).unwrap());
    let before = getrlimit(Resource::Nofile);
    let next = File::open("/dev/null").unwrap();
    let lowest = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
    drop(next);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest), ..before }).unwrap();
    for _ in 0..5 {
        reactor.turn(Some(Duration::from_millis(10))).unwrap(); // both fail to accept
    }
    drop(served); // both its ends are ours, so there is room for two; the third try fails again
    turn_until(&mut reactor, "two more are served", |reactor| accepted(reactor) == 3);
    turn_until_quiet(&mut reactor);
    assert_eq!(reactor.timer_count(), 1, "one retry, however often it fails");
    setrlimit(Resource::Nofile, before).unwrap(); // there are descriptors again

    turn_until(&mut reactor, "all are served", |reactor| accepted(reactor) == 4);
    assert!(reactor.get_mut(forgetful).unwrap().accepted.is_empty(), "no event tells it");
    drop(waiting);
}
