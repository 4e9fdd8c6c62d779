//! Observability: an observer is notified of all events in order, and a warning names a callback
//! that blocks the loop.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::io::Write;
use std::mem;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Echo, Lines, Process, Scratch, Server, Terminal, client_command, eventually, ping, pipe, turn_until,
};
use echo_reactor::observe::{CallbackEnd, DispatchEnd, IoStats, Observer, Origin, Phase, PollEnd, TurnEnd};
use echo_reactor::{Connection, Id, Mailbox, Next, Protocol, Reactor, Ready, Source, Transport};
use log::{LevelFilter, Log, Metadata, Record};
use rustix::process::Signal;

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
    let without_counters = Mailbox::<u8>::new(&mut reactor, 1).id();
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
    turn_until(&mut reactor, "the connection is removed", |reactor| reactor.source_count() == 1);
    assert!(notes.take().contains(&"removed".into()));
    reactor.wake(without_counters);
    reactor.turn(None).unwrap();
    assert!(notes.take().contains(&"ran: woken Wait None".into()));
}

#[derive(Default)]
struct Stepper(Rc<RefCell<Vec<String>>>);

impl Observer for Stepper {
    fn on_event(&mut self, id: Option<Id>, ready: Ready) {
        let whom = id.map_or("another thread".into(), |id| id.to_string());
        self.0.borrow_mut().push(format!("{whom} {ready:?}"));
    }
    fn on_step(&mut self, phase: Phase, reactor: &Reactor) {
        let (queue, timers) = (reactor.queue().len(), reactor.timers().count());
        self.0.borrow_mut().push(format!("{phase:?}: {queue} queued, {timers} timers"));
    }
}

#[test]
fn observer_sees_the_reactor_between_two_calls() {
    let mut reactor = Reactor::new().unwrap();
    let notes = Rc::new(RefCell::new(Vec::new()));
    reactor.add_observer(Stepper(notes.clone()));
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    let id = Connection::from_socket(&mut reactor, ours, Echo).unwrap().id();
    reactor.turn(None).unwrap();
    notes.take();
    reactor.remote().unwrap().call(|_| ()).unwrap();
    (&peer).write_all(b"hello").unwrap();
    reactor.call_later(Duration::ZERO, |_| ());
    reactor.turn(None).unwrap();
    let mut notes = notes.take();
    notes[1..3].sort(); // the kernel may report the two events in either order
    assert_eq!(notes[0], "Timeout: 0 queued, 1 timers");
    assert_eq!(notes[1..3], [format!("{id} readable+writable"), "another thread readable".into()]);
    assert_eq!(notes[3], "Poll: 0 queued, 1 timers");
    assert!(notes[4].starts_with("Events: ") && notes[5] == "Events: 1 queued, 1 timers", "{notes:?}");
    assert_eq!(notes[6..], ["Queue: 0 queued, 1 timers", "Timers: 0 queued, 0 timers"]);

    let slots: Vec<_> = reactor.slots().collect();
    let state = slots[0].connection.as_ref().unwrap();
    assert_eq!((slots[0].id, state.read, state.write), (id, "open", "open"));
    assert_eq!((state.stats.bytes_in, state.stats.bytes_out), (5, 5));
    assert!(state.ready.intersects(Ready::WRITABLE));

    reactor.wake(id);
    reactor.call_soon(|_| ());
    reactor.wake_at(reactor.now() + Duration::from_secs(60), id);
    assert_eq!(reactor.queue(), [Some(id), None]);
    assert_eq!(reactor.timers().map(|(_, id)| id).collect::<Vec<_>>(), [Some(id)]);
    reactor.turn(None).unwrap();
    let state = reactor.slot(id).unwrap().connection.unwrap();
    assert!(!state.ready.intersects(Ready::WOKEN), "a wake-up is not remembered");
    reactor.remove(id);
    let vacant = reactor.slots().next().unwrap();
    assert!(vacant.type_name.is_none() && vacant.id != id);
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
fn callback_that_blocks_is_named_in_a_warning() {
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
    let lines = mem::take(&mut *LOG.0.lock().unwrap());
    let warned = |text: &str| lines.iter().any(|line| line.starts_with("WARN") && line.contains(text));
    assert!(warned(&format!("source {} (Sluggish) blocked the loop for ", sluggish.id())), "{lines:?}");
    assert!(warned("a queued callback blocked the loop for "), "{lines:?}");

    // The same observer logs turns, also those without a call.
    log::set_max_level(LevelFilter::Trace);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.call_soon(|_| ());
    reactor.turn(None).unwrap();
    let lines = mem::take(&mut *LOG.0.lock().unwrap());
    let turns: Vec<&String> = lines.iter().filter(|line| line.contains(": turn ")).collect();
    assert!(turns.len() == 2 && turns[1].starts_with("TRACE: turn 3: "), "{turns:?}");
}

#[test]
fn vvv_logs_each_turn_in_columns_with_one_header() {
    let mut server = Server::start(&["-vvv"]);
    let mut stream = server.connect();
    ping(&mut stream, b"earlier bytes");
    ping(&mut stream, &[7; 1234]);
    let first = server.err.next_with("called because");
    assert!(first.starts_with("  id "), "no prefix: {first}");
    let turn = server.err.next();
    assert!(turn.starts_with("turn ") && turn.contains(": slept "), "{turn}");
    let line = server.err.next_with(" 1234 ");
    let columns: Vec<&str> = line.split_whitespace().collect();
    let peer = stream.local_addr().unwrap().to_string();
    assert_eq!(columns[1..4], ["Connection<Echo>", &peer, "readable+writable"], "{line}");
    assert_eq!(columns[4..7], ["1234", "1234", "0"], "{line}");
    assert_eq!(columns[8], "Wait", "{line}");
    drop(stream);
    server.process.signal(Signal::TERM);
    server.process.wait();
    let rest = server.err.rest();
    assert!(!rest.iter().any(|line| line.contains("called because") || line.contains("trace")), "{rest:?}");
    for pair in rest.windows(2) {
        assert!(
            !(pair[0].starts_with("turn ") && pair[1].starts_with("turn ")),
            "a turn without a call: {pair:?}"
        );
    }
}

/// The number of turns that a client makes for these lines. All its output goes to `output`, and
/// `shown` returns what has arrived there.
fn turns_of_a_client(output: impl Fn() -> Stdio, mut shown: impl FnMut() -> String) -> u64 {
    let server = Server::start(&[]);
    let mut command = client_command();
    command.args(["-vvv", server.address()]).stdin(Stdio::piped()).stdout(output()).stderr(output());
    let mut process = Process::spawn(&mut command);
    let mut stdin = process.child.stdin.take().unwrap();
    let mut text = String::new();
    for number in 1..=10 {
        stdin.write_all(format!("line {number}\n").as_bytes()).unwrap(); // in one piece
        eventually("the line comes back", || {
            text += &shown();
            text.contains(&format!("line {number}"))
        });
    }
    drop(stdin);
    assert_eq!(process.wait_code(), 0);
    eventually("the last message", || {
        text += &shown();
        text.contains("bytes: ")
    });
    turns_between_reads(text.lines())
}

/// The number of turns from the second to the tenth line that is read. (The number of earlier turns
/// depends on when the connection is established.)
fn turns_between_reads<'a>(lines: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut turn = 0;
    let mut reads = Vec::new();
    for line in lines {
        if let Some(number) = line.strip_prefix("turn ").and_then(|rest| rest.split(':').next()) {
            turn = number.parse().unwrap();
        } else if line.contains(" Input ") {
            reads.push(turn);
        }
    }
    assert!(reads.len() >= 10, "{reads:?}");
    reads[9] - reads[1]
}

/// The same for a client whose three streams are one terminal.
fn turns_of_a_terminal() -> u64 {
    let server = Server::start(&[]);
    let mut terminal = Terminal::with_window(200, 50);
    let mut command = client_command();
    command.args(["-vvv", server.address()]).stdin(terminal.stdio());
    let mut process = Process::spawn(command.stdout(terminal.stdio()).stderr(terminal.stdio()));
    for number in 1..=10 {
        terminal.type_in(&format!("line {number:02}\n"));
        eventually("the line comes back", || {
            terminal.unseen_so_far();
            let echoes = |line: &String| line.contains("Connection<Client>") && line.contains("readable");
            terminal.lines().iter().filter(|line| echoes(line)).count() == number
        });
    }
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
    terminal.unseen();
    turns_between_reads(terminal.lines().iter().map(String::as_str))
}

#[test]
fn turns_are_the_same_on_a_terminal_in_a_pipe_and_in_a_file() {
    let mut terminal = Terminal::new();
    terminal.set_raw();
    let line = terminal.line.try_clone().unwrap();
    let on_terminal = turns_of_a_client(|| line.try_clone().unwrap().into(), || terminal.unseen_so_far());
    let (reader, writer) = pipe();
    let pipe = Lines::of(std::fs::File::from(reader));
    let in_pipe = turns_of_a_client(
        || writer.try_clone().unwrap().into(),
        || pipe.so_far().into_iter().map(|line| line + "\n").collect(),
    );
    let scratch = Scratch::new();
    let path = scratch.file("output", b"");
    let mut known = 0;
    let in_file = turns_of_a_client(
        || std::fs::OpenOptions::new().append(true).open(&path).unwrap().into(),
        || {
            let text = std::fs::read_to_string(&path).unwrap();
            let new = text[known..].to_owned();
            known = text.len();
            new
        },
    );
    assert_eq!((on_terminal, turns_of_a_terminal(), in_pipe), (in_file, in_file, in_file));
}
