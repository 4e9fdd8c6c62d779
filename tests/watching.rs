//! Observability: an observer is notified of all events in order, and a callback that holds the loop
//! is named.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{Echo, Server, ping, turn_until};
use echo_reactor::observe::{CallbackEnd, DispatchEnd, IoStats, Observer, Origin, PollEnd, TurnEnd};
use echo_reactor::{Connection, Id, Next, Protocol, Reactor, Ready, Source, Transport};
use log::{LevelFilter, Log, Metadata, Record};

#[derive(Default)]
struct Recorder(Rc<RefCell<Vec<String>>>);

impl Observer for Recorder {
    fn on_poll(&mut self, sleep: &PollEnd) {
        assert!(sleep.began <= sleep.ended);
        self.0.borrow_mut().push(format!("slept: {} events", sleep.events));
    }
    fn on_dispatch(&mut self, run: &DispatchEnd) {
        assert!(run.began <= run.ended);
        let bytes = run.stats.map(|(before, after)| after.bytes_in - before.bytes_in);
        self.0.borrow_mut().push(format!("ran: {:?} {:?} {bytes:?}", run.ready, run.next));
    }
    fn on_callback(&mut self, call: &CallbackEnd) {
        self.0.borrow_mut().push(format!(
            "called by {}",
            if call.origin == Origin::Timer { "a timer" } else { "the queue" }
        ));
    }
    fn on_added(&mut self, _: Id, kind: &'static str, _: Option<IoStats>, _: Instant) {
        assert!(kind.contains("Connection"), "{kind}");
        self.0.borrow_mut().push("added".into());
    }
    fn on_removed(&mut self, _: Id, _: Instant) {
        self.0.borrow_mut().push("removed".into());
    }
    fn on_turn_end(&mut self, turn: &TurnEnd) {
        assert!(turn.began <= turn.ended);
        self.0.borrow_mut().push(format!("turn {}", turn.number));
    }
}

#[test]
fn observer_is_notified_of_loop_events_in_order() {
    let mut reactor = Reactor::new().unwrap();
    let notes = Rc::new(RefCell::new(Vec::new()));
    reactor.add_observer(Recorder(notes.clone()));
    reactor.call_soon(|_| ());
    reactor.call_later(Duration::ZERO, |_| ());
    reactor.turn(None).unwrap();
    assert_eq!(notes.take(), ["slept: 0 events", "called by the queue", "called by a timer", "turn 1"]);

    reactor.remote().unwrap().call(|_| ()).unwrap();
    reactor.turn(None).unwrap();
    assert_eq!(notes.take(), ["slept: 1 events", "called by the queue", "turn 2"], "from another thread");

    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, Echo).unwrap();
    reactor.turn(None).unwrap();
    assert_eq!(notes.take(), ["added", "slept: 1 events", "ran: writable Wait Some(0)", "turn 3"]);
    (&peer).write_all(b"hello").unwrap();
    reactor.turn(None).unwrap();
    assert_eq!(notes.take(), ["slept: 1 events", "ran: readable+writable Wait Some(5)", "turn 4"]);
    drop(peer);
    turn_until(&mut reactor, "the connection is removed", |reactor| reactor.source_count() == 0);
    assert!(notes.take().contains(&"removed".into()));
}

#[test]
fn source_that_removes_itself_is_reported_as_removed() {
    struct Leaving;
    impl Protocol for Leaving {
        fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
            let id = transport.id();
            transport.reactor().remove(id);
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let notes = Rc::new(RefCell::new(Vec::new()));
    reactor.add_observer(Recorder(notes.clone()));
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, Leaving).unwrap();
    (&peer).write_all(b"goodbye").unwrap();
    turn_until(&mut reactor, "the connection is removed", |reactor| reactor.source_count() == 0);
    let notes = notes.take();
    let removed = notes.iter().position(|note| note == "removed").unwrap();
    assert!(notes[removed + 1].ends_with("None"), "{notes:?}");
}

/// Keeps all log messages.
struct MemoryLog(Mutex<Vec<String>>);

static LOG: MemoryLog = MemoryLog(Mutex::new(Vec::new()));

impl Log for MemoryLog {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }
    fn log(&self, record: &Record) {
        self.0.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
    }
    fn flush(&self) {}
}

#[test]
fn callback_that_holds_the_loop_is_named_in_a_warning() {
    struct Sluggish;
    impl Source for Sluggish {
        fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
            thread::sleep(Duration::from_millis(110)); // the thing under test
            reactor.stop();
            Next::Done
        }
    }
    log::set_logger(&LOG).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let mut reactor = Reactor::new().unwrap();
    echo_reactor::cli::add_observers(&mut reactor, None).unwrap();
    let sluggish = reactor.insert(Sluggish);
    reactor.wake(sluggish.id());
    reactor.call_soon(|_| thread::sleep(Duration::from_millis(110)));
    reactor.run().unwrap();
    let lines = LOG.0.lock().unwrap();
    let warned = |text: &str| lines.iter().any(|line| line.starts_with("WARN") && line.contains(text));
    assert!(warned(&format!("source {} (Sluggish) blocked the loop for 1", sluggish.id())), "{lines:?}");
    assert!(warned("a queued callback blocked the loop for 1"), "{lines:?}");
}

#[test]
fn vvv_logs_each_turn_in_columns() {
    let server = Server::start(&["-vvv"]);
    let mut stream = server.connect();
    ping(&mut stream, &[7; 1234]);
    let line = server.err.next_with("1234 in");
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns[3], "Connection<Echo>", "{line}");
    assert_eq!(columns[4], "readable+writable");
    assert_eq!(columns[5..11], ["1234", "in", "1234", "out", "0", "buffered"]);
    assert_eq!(columns[12], "Wait");
    assert!(server.err.next().contains("turn"));
}
