//! `--timeline` writes Chrome trace events that nest. The file is valid even if the program is
//! killed or the disk is full.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::collections::HashMap;
use std::fs;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Scratch, Server, assert_echoed, assert_one_line, client_command, end, eventually, ping, run,
    send_until_stalled, server_command, turn_until,
};
use echo_reactor::observe::IoStats;
use echo_reactor::{
    ConnectionLost, Id, ListenOptions, Next, Protocol, Reactor, Ready, Source, Timeline, Transport,
    create_server,
};
use rustix::process::Signal;
use serde_json::Value;

fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", &text[text.len().saturating_sub(200)..]))
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap()
}

/// Every span has an end, and the spans on a track nest or are disjoint.
fn assert_nested(events: &[Value]) {
    let mut spans: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
    for event in events {
        match text(event, "ph") {
            "M" => continue,
            "X" => {}
            other => panic!("{other}"),
        }
        let nanoseconds = |key: &str| (event[key].as_f64().unwrap() * 1000.0).round() as i64;
        let began = nanoseconds("ts");
        let track = event["tid"].as_u64().unwrap();
        spans.entry(track).or_default().push((began, began + nanoseconds("dur")));
    }
    for spans in spans.values_mut() {
        // Sorted by start; of two spans with the same start, the longer one comes first.
        spans.sort_by_key(|&(began, ended)| (began, -ended));
        let mut around: Vec<i64> = Vec::new();
        for &(began, ended) in spans.iter() {
            while around.last().is_some_and(|&end| end <= began) {
                around.pop();
            }
            assert!(around.last().is_none_or(|&end| ended <= end), "two spans overlap at {began}");
            around.push(ended);
        }
    }
}

#[test]
fn spans_of_a_hundred_connections_nest_and_show_backpressure() {
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut server = Server::start(&["--timeline", path.to_str().unwrap()]);
    let mut streams: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for _ in 0..20 {
        streams.iter_mut().for_each(|stream| ping(stream, b"hello"));
    }
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    stalled.shutdown(Shutdown::Write).unwrap();
    std::io::copy(&mut stalled, &mut std::io::sink()).unwrap();
    drop(streams);
    eventually("all connections are closed", || server.open_connections() == 0);
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);

    let events = events(&path);
    assert_nested(&events);
    let count = |name: &str, phase: &str| {
        events.iter().filter(|e| text(e, "ph") == phase && text(e, "name").starts_with(name)).count()
    };
    assert_eq!(count("connection ", "X"), 101);
    assert!(count("the peer is behind", "X") >= 1);
    assert!(count("turn", "X") > 20 && count("sleep", "X") > 20 && count("Listener", "X") >= 1);
    // The bytes of all calls of the connections are those of all connections.
    let sum = |name: &str, key: &str| -> u64 {
        let spans = events.iter().filter(|event| text(event, "name").starts_with(name));
        spans.filter_map(|event| event["args"][key].as_u64()).sum()
    };
    assert!(sum("connection ", "out") >= 100 * 20 * 5);
    for key in ["in", "out"] {
        assert_eq!(sum("Connection<Echo>", key), sum("connection ", key), "{key}");
    }
    // The loop has the first track, and each slot has its own.
    for event in events.iter().filter(|event| text(event, "name").starts_with("connection ")) {
        let id = text(event, "name").trim_start_matches("connection ");
        let slot: u64 = id.split('.').next().unwrap().parse().unwrap();
        assert_eq!(event["tid"], slot + 2, "{id}");
        let named = |event: &Value| {
            text(event, "name") == "thread_name"
                && event["tid"] == slot + 2
                && event["args"]["name"] == format!("connection, slot {slot}")
        };
        assert!(events.iter().any(named), "{id}");
    }
}

/// Ends the loop some turns after the connection.
struct Ending;

impl Protocol for Ending {
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}

    fn connection_lost(&mut self, reactor: &mut Reactor, _: ConnectionLost) {
        reactor.call_soon(|reactor| {
            reactor.call_later(Duration::ZERO, Reactor::stop);
        });
    }
}

#[test]
fn spans_show_the_life_of_a_connection_and_the_callbacks_after_it() {
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut reactor = Reactor::new().unwrap();
    reactor.add_observer(Timeline::create(&path).unwrap());
    let address = ["127.0.0.1:0".parse().unwrap()];
    let listener = create_server(&mut reactor, &address, &ListenOptions::default(), || Ending).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    drop(TcpStream::connect(address).unwrap());
    reactor.run().unwrap();
    drop(reactor);

    let events = events(&path);
    // A span is written when it ends.
    let find = |name: &str| events.iter().position(|event| text(event, "name").starts_with(name)).unwrap();
    let (life, call) = (find("connection "), find("Connection<Ending>"));
    assert!(call < life && life < find("call") && find("call") < find("timer"), "{events:#?}");
    assert!(events[life]["ts"].as_f64() < events[call]["ts"].as_f64(), "{events:#?}");
}

#[test]
fn source_that_resets_its_counters_moves_no_bytes() {
    struct Resets(u64);
    impl Source for Resets {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            self.0 = 0;
            Next::Done
        }
        fn stats(&self) -> Option<IoStats> {
            Some(IoStats { bytes_in: self.0, bytes_out: self.0, ..IoStats::default() })
        }
    }
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut reactor = Reactor::new().unwrap();
    reactor.add_observer(Timeline::create(&path).unwrap());
    let id = reactor.insert(Resets(5)).id();
    reactor.wake(id);
    turn_until(&mut reactor, "the source has left", |reactor| !reactor.contains(id));
    drop(reactor);
    let events = events(&path);
    let call = events.iter().find(|event| event["args"]["in"].is_u64()).unwrap();
    assert_eq!((&call["args"]["in"], &call["args"]["out"]), (&0.into(), &0.into()));
}

#[test]
fn killed_program_leaves_a_valid_file() {
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut server = Server::start(&["--timeline", path.to_str().unwrap()]);
    let mut stream = server.connect();
    for round in 0..3000 {
        ping(&mut stream, b"x");
        if round % 100 == 0 {
            // The file is valid at any moment. But it cannot be read at one moment while it grows.
            server.process.stop();
            events(&path);
            server.process.signal(Signal::CONT);
        }
    }
    server.process.signal(Signal::KILL);
    server.process.wait();
    let events = events(&path);
    assert!(events.len() > 3000, "{}", events.len());
    assert_nested(&events);
}

#[test]
fn client_writes_a_timeline_or_fails_with_the_reason() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut command = client_command();
    command.arg("--timeline").arg(&path).arg(server.address());
    assert_echoed(&run(&mut command, b"hello"), b"hello");
    let events = events(&path);
    assert_nested(&events);
    assert!(events.iter().any(|event| text(event, "name") == "Connection<Client>"));
    for (file, reason) in [
        ("/nonexistent/file", "No such file or directory"),
        ("/dev/fd/1", "it is a pipe, a socket or a terminal, and not a file"),
    ] {
        let outcome = run(client_command().args(["--timeline", file, server.address()]), b"");
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &["echo-client: cannot write the timeline", file, reason]);
    }
}

#[test]
fn file_at_its_size_limit_is_valid() {
    let (server, scratch) = (env!("CARGO_BIN_EXE_echo-server"), Scratch::new());
    let path = scratch.path("timeline.json");
    // A write that reaches the limit succeeds in part. The unit of `ulimit -f` is 512 or 1024
    // bytes.
    let script = format!("ulimit -f 1000; exec {server} --timeline {} 127.0.0.1:0", path.display());
    let mut command = Command::new("sh");
    let mut server =
        Server::run(command.args(["-c", &script]).env_remove("RUST_LOG").stderr(Stdio::piped()), 1);
    let mut stream = server.connect();
    for _ in 0..5000 {
        ping(&mut stream, b"x");
    }
    end(&mut stream);
    let shown = path.display().to_string();
    assert_eq!(
        server.err.next(),
        format!("echo-server: warning: the timeline {shown} ends here: File too large")
    );
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(server.err.rest().is_empty(), "more than one warning");
    let events = events(&path);
    assert!(events.len() > 1000, "{}", events.len());
    assert_nested(&events);
}

#[test]
fn file_at_its_size_limit_keeps_each_event_that_fits() {
    let (server, scratch) = (env!("CARGO_BIN_EXE_echo-server"), Scratch::new());
    let path = scratch.path("timeline.json");
    let script = format!("ulimit -f 4; exec {server} --timeline {} 127.0.0.1:0", path.display());
    let mut command = Command::new("sh");
    let mut server =
        Server::run(command.args(["-c", &script]).env_remove("RUST_LOG").stderr(Stdio::piped()), 1);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    end(&mut stream);
    server.process.signal(Signal::TERM); // the events of so short a run are written at once
    assert_eq!(server.process.wait_code(), 0);
    assert!(server.err.next().ends_with(" ends here: File too large"));
    let (size, events) = (std::fs::metadata(&path).unwrap().len(), events(&path));
    // The unit of `ulimit -f` is 512 or 1024 bytes, and an event has at most 200.
    let limit = if size > 2048 { 4096 } else { 2048 };
    assert!(limit - size < 200, "{size} bytes: {events:#?}");
}

#[test]
fn events_have_the_process_id_name_and_monotonic_time() {
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let before = now();
    let mut server = Server::start(&["--timeline", path.to_str().unwrap()]);
    ping(&mut server.connect(), b"x");
    let pid = server.process.child.id();
    server.process.signal(Signal::TERM);
    server.process.wait();
    let events = events(&path);
    assert!(events.iter().all(|event| event["pid"] == pid));
    assert_eq!(
        (text(&events[0], "name"), &events[0]["args"]["name"]),
        ("process_name", &"echo-server".into())
    );
    let times: Vec<f64> = events.iter().filter_map(|event| event["ts"].as_f64()).collect();
    assert!(times.iter().all(|&time| before <= time && time <= now()), "{times:?}");
}

#[test]
fn second_timeline_in_a_file_is_refused_until_the_first_has_ended() {
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let file = path.to_str().unwrap();
    let mut server = Server::start(&["--timeline", file]);
    let outcome = run(client_command().args(["--timeline", file, server.address()]), b"x");
    let reason = "another timeline is being written to it; choose another file";
    assert_one_line(&outcome.stderr, &["echo-client: cannot write the timeline", file, reason]);
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, &b""[..]));
    ping(&mut server.connect(), b"x");
    server.process.signal(Signal::KILL);
    server.process.wait();
    drop(Server::start(&["--timeline", file]));
    assert_nested(&events(&path));
}

#[test]
fn fifo_is_rejected_without_blocking() {
    let scratch = Scratch::new();
    let path = scratch.path("fifo");
    common::make_fifo(&path);
    let outcome = run(server_command().arg("--timeline").arg(&path), b"");
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["echo-server: cannot write the timeline", "fifo"]);
}
