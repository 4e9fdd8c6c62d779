//! `--timeline`: what the loop did, as Chrome trace events that nest, also when the program is killed.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::collections::HashMap;
use std::fs;
use std::net::Shutdown;
use std::path::Path;

use common::{
    Scratch, Server, assert_echoed, assert_one_line, client_command, eventually, ping, run,
    send_until_stalled,
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

/// On each track: what took a while lies within what it began in, and each beginning has its end.
fn assert_nested(events: &[Value], is_complete: bool) {
    let mut spans: HashMap<u64, Vec<(f64, f64)>> = HashMap::new();
    let mut open: HashMap<u64, Vec<&str>> = HashMap::new();
    let mut last = HashMap::new();
    for event in events {
        let track = event["tid"].as_u64().unwrap();
        let at = event["ts"].as_f64();
        match text(event, "ph") {
            "M" => continue,
            "X" => spans
                .entry(track)
                .or_default()
                .push((at.unwrap(), at.unwrap() + event["dur"].as_f64().unwrap())),
            "B" => open.entry(track).or_default().push(text(event, "name")),
            "E" => assert_eq!(open.entry(track).or_default().pop(), Some(text(event, "name"))),
            other => panic!("{other}"),
        }
        if text(event, "ph") != "X" {
            let before = last.insert(track, at.unwrap());
            assert!(
                before.is_none_or(|before| before <= at.unwrap()),
                "time runs backwards on track {track}"
            );
        }
    }
    if is_complete {
        assert!(open.values().all(Vec::is_empty), "{open:?}");
    }
    for spans in spans.values_mut() {
        // By their beginning, the longer one first.
        spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut around: Vec<f64> = Vec::new();
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
fn a_run_with_a_hundred_connections_is_valid_nests_and_shows_who_is_behind() {
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
    eventually("all are gone", || server.open_connections() == 0);
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);

    let events = events(&path);
    assert_nested(&events, true);
    let count = |name: &str, phase: &str| {
        events.iter().filter(|e| text(e, "ph") == phase && text(e, "name").starts_with(name)).count()
    };
    assert_eq!((count("connection ", "B"), count("connection ", "E")), (101, 101));
    assert!(count("the peer is behind", "B") >= 1);
    assert!(count("turn", "X") > 20 && count("sleep", "X") > 20 && count("Listener", "X") >= 1);
    let echoed: u64 = events
        .iter()
        .filter(|event| text(event, "name") == "Connection<Echo>")
        .map(|event| event["args"]["out"].as_u64().unwrap())
        .sum();
    assert!(echoed >= 100 * 20 * 5, "{echoed}");
}

#[test]
fn the_file_of_a_program_that_is_killed_is_valid_too() {
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut server = Server::start(&["--timeline", path.to_str().unwrap()]);
    let mut stream = server.connect();
    for round in 0..3000 {
        ping(&mut stream, b"x");
        if round % 100 == 0 {
            events(&path); // at any moment
        }
    }
    server.process.signal(Signal::KILL);
    server.process.wait();
    let events = events(&path);
    assert!(events.len() > 3000, "{}", events.len());
    assert_nested(&events, false);
}

#[test]
fn the_client_has_one_too_and_a_file_that_cannot_be_written_is_an_error() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let path = scratch.path("timeline.json");
    let mut command = client_command();
    command.arg("--timeline").arg(&path).arg(server.address());
    assert_echoed(&run(&mut command, b"hello"), b"hello");
    let events = events(&path);
    assert_nested(&events, true);
    assert!(events.iter().any(|event| text(event, "name") == "Connection<Client>"));
    for (file, reason) in
        [("/nonexistent/file", "No such file or directory"), ("/dev/stdout", "Illegal seek")]
    {
        let outcome = run(client_command().args(["--timeline", file, server.address()]), b"");
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &["echo-client: cannot write the timeline", file, reason]);
    }
}
