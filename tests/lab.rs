//! The laboratory answers only its own page, and no page can delay the observed loop.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc;
use std::{fs, thread};

use common::{Lab, PATIENCE, connect, eventually};
use echo_reactor::{ListenOptions, Protocol, Reactor, Transport, create_server};
use serde_json::{Value, json};

/// Opens the stream of states, as a page does.
fn open_page(lab: &Lab) -> TcpStream {
    let mut stream = lab.connect();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host).as_bytes()).unwrap();
    stream
}

/// Reads up to and including the first state.
fn read_state(stream: &mut TcpStream) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.split_once("data: ").is_some_and(|(_, data)| data.contains("\n\n")) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ended: {text}");
        text += &String::from_utf8_lossy(&buffer[..count]);
    }
    text
}

fn peer(state: &Value, index: usize) -> &Value {
    &state["site"]["peers"][index]
}

#[test]
fn page_and_its_parts_and_chapters_are_served() {
    let lab = Lab::start();
    let (status, page) = lab.get("/");
    assert_eq!(status, 200);
    let parts = ["/page.css", "/page.js", "/connections.js", "/elements.js", "/guide.css", "/guide.js"];
    for part in parts.into_iter().chain(["/scenarios", "/state", "/guide/edge"]) {
        assert_eq!(lab.get(part).0, 200, "{part}");
    }
    assert!(page.contains("/page.css") && page.contains("/page.js"));
    assert!(!page.contains("http:") && !page.contains("https:"), "nothing is loaded from elsewhere");
    let scenarios: Vec<Value> = serde_json::from_str(&lab.get("/scenarios").1).unwrap();
    let mut chapters: Vec<&str> = scenarios.iter().map(|one| one["chapter"].as_str().unwrap()).collect();
    chapters.extend(["blocking", "slab", "budget", "timers", "readiness", "closing", "hostile"]); // the chapters of log lines
    for chapter in chapters {
        assert!(lab.get(&format!("/guide/{chapter}.md")).1.starts_with("# "), "{chapter}");
    }
    for path in
        ["/nothing", "/guide/", "/guide/..%2f..%2fCargo.toml", "/guide/../lib.rs.md", "/guide/nothing.md"]
    {
        assert_eq!(lab.get(path).0, 404, "{path}");
    }
}

#[test]
fn only_the_page_itself_may_command_the_loop() {
    let lab = Lab::start();
    let (own, body) = (&lab.host, r#"{"do":"connect"}"#);
    let port = own.split(':').nth(1).unwrap();
    for (headers, expected) in [
        (format!("Host: {own}\r\nOrigin: http://{own}\r\n"), 200),
        (format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"), 200),
        (format!("Host: {own}\r\nOrigin: http://example.com\r\n"), 403),
        (format!("Host: {own}\r\nOrigin: null\r\n"), 403),
        (format!("Host: {own}\r\nOrigin: https://{own}\r\n"), 403),
        (format!("Host: example.com:{port}\r\n"), 403),
        ("Host: 127.0.0.1\r\n".into(), 403),
        (format!("Host: {own}\r\nHost: {own}\r\n"), 400),
        (String::new(), 400),
    ] {
        assert_eq!(lab.request("POST /do", &headers, body).0, expected, "{headers}");
        if expected != 200 {
            assert_eq!(lab.request("GET /state", &headers, "").0, expected, "{headers}");
        }
    }
    assert_eq!(lab.state()["site"]["peers"].as_array().unwrap().len(), 2);
}

#[test]
fn bad_requests_are_refused_and_the_site_still_works() {
    let lab = Lab::start();
    let host = format!("Host: {}\r\n", lab.host);
    let head = |first: &str, rest: &str| format!("{first}\r\n{host}{rest}\r\n");
    for (request, status) in [
        ("\0\0\0\0\r\n\r\n".into(), "400"),
        ("hello\r\n\r\n".into(), "400"),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(10_000)), "431"),
        (format!("GET /{}", "x".repeat(100_000)), "431"),
        (head("GET / HTTP/1.1", &"X: y\r\n".repeat(100)), "431"),
        (head("POST /do HTTP/1.1", "Content-Length: 99999999999\r\n"), "413"),
        (head("POST /do HTTP/1.1", "Content-Length: -1\r\n"), "400"),
        (head("POST /do HTTP/1.1", "Transfer-Encoding: chunked\r\n"), "411"),
        (head("DELETE / HTTP/1.0", ""), "405"),
        (head("POST /state HTTP/1.0", ""), "405"),
    ] {
        let answer = lab.send(request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{:.60}: {answer:.60}", request);
    }
    for command in
        ["", "{", "[]", "{}", r#"{"do":"nonsense","peer":"A"}"#, r#"{"do":"line","peer":"Z"}"#, r#"{"do":7}"#]
    {
        let (status, body) = lab.try_command(command);
        assert_eq!(status, 409, "{command}: {body}");
        assert!(body.contains("error"), "{body}");
    }
    drop(lab.connect()); // a connection without a request
    assert_eq!(lab.get("/").0, 200);
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let lab = Lab::start();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", lab.host);
    let last = get("/page.css").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let answer = lab.send([get("/scenarios"), get("/nothing"), last].concat().as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2);
    let (first, second) = (answer.find("\"name\":\"echo\"").unwrap(), answer.find("404 Not Found").unwrap());
    assert!(first < second && second < answer.find("color-scheme").unwrap());
}

#[test]
fn loop_is_stepped_call_by_call() {
    let lab = Lab::start();
    lab.command(r#"{"do":"scenario","name":"end"}"#);
    let state = lab.state();
    assert_eq!((&state["loop"]["phase"], &state["site"]["waiting"]), (&json!("timeout"), &json!(true)));
    let first = state["loop"]["turn"].as_u64().unwrap();
    let mut phases = Vec::new();
    for _ in 0..6 {
        let before = lab.state()["loop"].clone();
        lab.command(r#"{"do":"call"}"#);
        let state = lab.state_with("the loop has made a step", |state| {
            let place = |sample: &Value| json!([sample["turn"], sample["phase"], sample["calls"]]);
            state["site"]["waiting"] == true && place(&state["loop"]) != place(&before)
        });
        let turn = state["loop"]["turn"].as_u64().unwrap() - first;
        phases.push(format!("{turn} {}", state["loop"]["phase"].as_str().unwrap()));
    }
    assert_eq!(phases, ["1 poll", "1 events", "1 queue", "1 timeout", "2 poll", "2 events"]);
    let state = lab.state();
    assert_eq!(peer(&state, 0)["received"], 13, "the echo came before the end: {state}");
    assert!(Lab::log(&state).contains("It read 13 bytes and sent 13 bytes. The peer has ended its side."));
    lab.command(r#"{"do":"run"}"#);
    lab.state_with("the connection has left", |state| state["loop"]["slots"][1]["type"].is_null());
}

#[test]
fn loop_can_be_released_after_each_kind_of_step() {
    let lab = Lab::start();
    for step in ["turn", "call"] {
        for steps in 0..4 {
            lab.command(r#"{"do":"scenario","name":"stall"}"#);
            for _ in 0..steps {
                lab.command(&json!({ "do": step }).to_string());
            }
            lab.command(r#"{"do":"run"}"#);
            lab.state_with("B has its echo", |state| peer(state, 1)["received"] == 13);
        }
    }
}

#[test]
fn stalled_peer_is_shown_with_the_start_of_the_stall() {
    let lab = Lab::start();
    lab.command(r#"{"do":"scenario","name":"stall"}"#);
    lab.command(r#"{"do":"run"}"#);
    let stalled =
        lab.state_with("A stalls", |state| state["loop"]["slots"][1]["connection"]["stalledSince"].is_u64());
    let connection = &stalled["loop"]["slots"][1]["connection"];
    assert_eq!((&connection["peer"], &connection["read"]), (&json!("A"), &json!("paused")));
    assert!(connection["buffered"].as_u64() > connection["high"].as_u64());
    lab.command(r#"{"do":"read","peer":"A"}"#);
    lab.state_with("A has everything, and is not behind any more", |state| {
        let connection = &state["loop"]["slots"][1]["connection"];
        peer(state, 0)["received"] == 1 << 20 && connection["stalledSince"].is_null()
    });
}

#[test]
fn log_says_how_a_connection_ended_and_what_was_discarded() {
    let lab = Lab::start();
    lab.command(r#"{"do":"scenario","name":"linger"}"#);
    lab.command(r#"{"do":"run"}"#);
    lab.state_with("A stalls", |state| state["loop"]["slots"][1]["connection"]["read"] == "paused");
    lab.command(r#"{"do":"server-close","peer":"A"}"#);
    lab.command(r#"{"do":"read","peer":"A"}"#);
    lab.state_with("the end of A", |state| Lab::log(state).contains("(peer A) discarded what it read"));
    lab.command(r#"{"do":"scenario","name":"echo"}"#);
    lab.command(r#"{"do":"run"}"#);
    lab.state_with("the echo", |state| peer(state, 0)["received"] == 13);
    lab.command(r#"{"do":"reset","peer":"A"}"#);
    lab.state_with("the reset", |state| Lab::log(state).contains("The peer has reset the connection."));
    lab.command(r#"{"do":"thread"}"#);
    lab.state_with("the call", |state| Lab::log(state).contains("Another thread has queued a closure."));
}

#[test]
fn peers_and_their_bytes_are_limited() {
    let lab = Lab::start();
    for _ in 0..8 {
        lab.command(r#"{"do":"connect"}"#);
    }
    let (status, body) = lab.try_command(r#"{"do":"connect"}"#);
    assert_eq!((status, body.contains("eight")), (409, true), "{body}");
    lab.command(r#"{"do":"hold"}"#); // the echo server does not read
    let refused = (0..20).find(|_| lab.try_command(r#"{"do":"megabyte","peer":"A"}"#).0 == 409);
    assert!(refused.is_some_and(|count| count >= 3), "{refused:?}");
}

#[test]
fn hundred_pages_and_slow_readers_do_not_delay_the_loop() {
    let lab = Lab::start();
    lab.command(r#"{"do":"scenario","name":"full-speed"}"#);
    lab.command(r#"{"do":"run"}"#);
    // These pages never read.
    let mut pages: Vec<TcpStream> = (0..100).map(|_| open_page(&lab)).collect();
    for page in &mut pages[..50] {
        let state = read_state(page);
        assert!(state.contains("\"turn\":"), "{state}");
    }
    drop(pages.drain(..50)); // these pages disconnect
    let turn = lab.state()["loop"]["turn"].as_u64().unwrap();
    lab.state_with("the loop runs", |state| state["loop"]["turn"].as_u64().unwrap() > turn + 1000);
    assert!(lab.process.resident() < 100 * 1024, "{} KiB", lab.process.resident());
    pages.clear();
    eventually("the closed pages are gone", || lab.process.descriptors() < 40);
    assert_eq!(lab.get("/").0, 200);
}

/// Returns the time that the thread `name` of a process has spent in its own code and in the
/// kernel, in clock ticks, see `proc(5)`.
fn cpu_time(process: u32, name: &str) -> [f64; 2] {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let read = |thread: &Path, file| fs::read_to_string(thread.join(file)).unwrap();
    let thread = threads.map(|thread| thread.unwrap().path()).find(|path| read(path, "comm").trim() == name);
    let stat = read(&thread.unwrap(), "stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    [11, 12].map(|field: usize| fields[field].parse().unwrap())
}

/// Exchanges messages for some seconds. Returns the time that the thread spent in its own code for
/// each unit of time in the kernel. The kernel does the same for each server, so other programs
/// that slow the machine down do not change this figure much.
fn own_time(process: u32, name: &str, address: &str) -> f64 {
    let mut peers: Vec<TcpStream> = (0..16).map(|_| connect(address)).collect();
    let mut echo = [0; 64];
    let before = cpu_time(process, name);
    for _ in 0..50_000 {
        peers.iter_mut().for_each(|peer| peer.write_all(&[b'm'; 64]).unwrap());
        peers.iter_mut().for_each(|peer| peer.read_exact(&mut echo).unwrap());
    }
    let after = cpu_time(process, name);
    (after[0] - before[0]) / (after[1] - before[1])
}

/// Runs the server of the laboratory without an observer, in the thread `plain`. (A server in a
/// process with one thread would not compare: its system calls are cheaper.) Returns its address.
fn start_plain_server() -> String {
    struct Echo;
    impl Protocol for Echo {
        fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
            transport.write(data);
        }
    }
    let (sender, address) = mpsc::channel();
    let run = move || {
        let mut reactor = Reactor::new().unwrap();
        let any = ["127.0.0.1:0".parse().unwrap()];
        let listener = create_server(&mut reactor, &any, &ListenOptions::default(), || Echo).unwrap();
        sender.send(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap();
        reactor.run().unwrap();
    };
    thread::Builder::new().name("plain".into()).spawn(run).unwrap();
    address.recv().unwrap()
}

#[test]
#[ignore = "a measurement: use --release"]
fn open_page_costs_the_loop_at_most_a_tenth_of_its_rate() {
    let lab = Lab::start();
    let mut page = open_page(&lab);
    thread::spawn(move || io::copy(&mut page, &mut io::sink()));
    let plain = own_time(std::process::id(), "plain", &start_plain_server());
    let watched = own_time(lab.process.child.id(), "observed", &lab.server);
    let lost = (watched - plain) / (1.0 + plain);
    println!(
        "{:.1} % of the CPU time (own time for each second in the kernel: {plain:.3}, {watched:.3})",
        lost * 100.0
    );
    assert!(lost < 0.1);
}
