//! Connecting: the addresses are tried in order, each with its timeout, and a failure is reported
//! once.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{DeadPort, Scratch, debug, turn_until, turn_until_quiet};
use echo_reactor::{
    Address, ConnectOptions, ConnectionLost, Protocol, Reactor, Transport, create_connection,
};

/// The callbacks of a connection, and the reason why it ended.
#[derive(Default)]
struct Log {
    calls: Vec<&'static str>,
    reason: Option<String>,
}

/// Sends a greeting when it is connected.
struct Greeting(Rc<RefCell<Log>>);

impl Protocol for Greeting {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.0.borrow_mut().calls.push("made");
        transport.write(b"hi");
    }
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        let mut seen = self.0.borrow_mut();
        seen.calls.push("lost");
        seen.reason = Some(debug(lost.reason));
    }
}

fn turn_until_lost(reactor: &mut Reactor, seen: &RefCell<Log>) {
    turn_until(reactor, "connection_lost", |_| seen.borrow().reason.is_some());
}

#[test]
fn failed_connect_calls_connection_lost_without_connection_made() {
    let mut reactor = Reactor::new().unwrap();
    let dead = DeadPort::new();
    let missing = Address::Unix("/nonexistent/socket".into());
    let record = Rc::new(RefCell::new(Log::default()));
    let options = ConnectOptions::default();
    let handle =
        create_connection(&mut reactor, &[dead.1.into(), missing], &options, Greeting(record.clone()));
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().calls, ["lost"]);
    let reason = record.borrow().reason.clone().unwrap();
    assert!(reason.contains(&dead.1.to_string()) && reason.contains("refused"), "{reason}");
    assert!(reason.contains("/nonexistent/socket"), "{reason}");
    assert!(!reactor.contains(handle.id()));
    assert_eq!(reactor.timer_count(), 0);
}

#[test]
fn addresses_are_tried_in_order_until_one_connects() {
    let mut reactor = Reactor::new().unwrap();
    let dead = DeadPort::new();
    let (address, server) = common::serve_once(|mut stream| {
        let mut got = [0; 2];
        stream.read_exact(&mut got).unwrap();
        got
    });
    let record = Rc::new(RefCell::new(Log::default()));
    let live = address.parse::<std::net::SocketAddr>().unwrap();
    let addresses = vec![dead.1.into(), live.into()];
    let handle =
        create_connection(&mut reactor, &addresses, &ConnectOptions::default(), Greeting(record.clone()));
    turn_until(&mut reactor, "the connection is made", |_| record.borrow().calls == ["made"]);
    let peer = handle.enter(&mut reactor, |_, transport| transport.peer_addr().cloned());
    assert_eq!(peer, Ok(Some(live.into())), "the first handle is valid");
    turn_until(&mut reactor, "the server got the greeting", |_| server.is_finished());
    assert_eq!(&server.join().unwrap(), b"hi");
}

#[test]
fn unanswered_connect_fails_at_its_timeout() {
    // A listener with a full backlog drops the next SYN.
    let queue = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    rustix::net::listen(&queue, 0).unwrap();
    let address = queue.local_addr().unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| mio::net::TcpStream::connect(address).unwrap()).collect();
    let mut reactor = Reactor::new().unwrap();
    turn_until_quiet(&mut reactor);
    let start = Instant::now();
    reactor.set_now(start);
    let record = Rc::new(RefCell::new(Log::default()));
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_secs(5);
    let handle = create_connection(&mut reactor, &[address.into()], &options, Greeting(record.clone()));
    turn_until_quiet(&mut reactor);
    reactor.wake(handle.id()); // this is neither an answer nor the timeout
    turn_until_quiet(&mut reactor);
    assert!(record.borrow().reason.is_none());
    reactor.set_now(start + Duration::from_secs(5));
    turn_until_lost(&mut reactor, &record);
    assert!(record.borrow().reason.as_deref().unwrap().contains("TimedOut"));
}

#[test]
fn next_address_is_tried_after_a_connect_timeout() {
    let queue = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    rustix::net::listen(&queue, 0).unwrap();
    let silent = queue.local_addr().unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| mio::net::TcpStream::connect(silent).unwrap()).collect();
    let (live, server) = common::serve_once(|stream| stream);
    let mut reactor = Reactor::new().unwrap();
    let record = Rc::new(RefCell::new(Log::default()));
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_millis(300);
    let began = Instant::now();
    let addresses = [silent.into(), live.parse().unwrap()];
    create_connection(&mut reactor, &addresses, &options, Greeting(record.clone()));
    turn_until(&mut reactor, "the second address answers", |_| record.borrow().calls == ["made"]);
    assert!(began.elapsed() >= Duration::from_millis(300));
    drop(server.join().unwrap());
}

#[test]
fn full_unix_backlog_is_retried_until_the_timeout() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap(); // fills the backlog
    let mut reactor = Reactor::new().unwrap();
    let record = Rc::new(RefCell::new(Log::default()));
    let mut options = ConnectOptions::default();
    options.timeout = common::PATIENCE;
    let handle =
        create_connection(&mut reactor, &[Address::Unix(path.clone())], &options, Greeting(record.clone()));
    turn_until_quiet(&mut reactor);
    reactor.wake(handle.id());
    turn_until_quiet(&mut reactor);
    assert!(record.borrow().calls.is_empty(), "{:?}", record.borrow().reason);
    assert_eq!(reactor.timer_count(), 1, "one retry is scheduled");
    let (_accepted, _) = listener.accept().unwrap();
    turn_until(&mut reactor, "the connection is made", |_| record.borrow().calls == ["made"]);
    let (mut accepted, _) = listener.accept().unwrap();
    let mut got = [0; 2];
    accepted.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hi");

    let _second = UnixStream::connect(&path).unwrap(); // the backlog stays full from now on
    let record = Rc::new(RefCell::new(Log::default()));
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_millis(100);
    create_connection(&mut reactor, &[Address::Unix(path)], &options, Greeting(record.clone()));
    let began = Instant::now();
    turn_until_lost(&mut reactor, &record);
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(record.borrow().reason.as_deref().unwrap().contains("TimedOut"));
    drop(accepted.write_all(b"the end"));
}

#[test]
fn bytes_of_a_server_that_answers_and_resets_at_once_are_received() {
    struct Reading(Rc<RefCell<String>>);
    impl Protocol for Reading {
        fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
            self.0.borrow_mut().push_str(&String::from_utf8_lossy(data));
        }
        fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
            self.0.borrow_mut().push_str(&format!("; {}", lost.reason));
        }
    }
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let record = Rc::new(RefCell::new(String::new()));
    let address = listening.local_addr().unwrap().into();
    create_connection(&mut reactor, &[address], &ConnectOptions::default(), Reading(record.clone()));
    reactor.turn(Some(Duration::ZERO)).unwrap(); // the attempt begins
    let (mut stream, _) = listening.accept().unwrap();
    stream.write_all(b"busy").unwrap();
    common::reset_on_close(&stream);
    drop(stream);
    turn_until(&mut reactor, "connection_lost", |_| record.borrow().contains(';'));
    assert!(record.borrow().starts_with("busy; "), "{}", record.borrow());
    assert!(record.borrow().contains("reset"), "{}", record.borrow());
}
