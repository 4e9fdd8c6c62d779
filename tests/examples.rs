//! Every style keeps the same promises: the same tests run against all servers and all clients.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, Lines, Outcome, PATIENCE, Process, Server, assert_same_bytes, collect, connect, noise, outcome,
    ping, send_until_stalled, serve_once,
};
use rustix::process::Signal;

const SERVERS: [&str; 4] = ["echo-server", "sock_server", "stream_server", "protocol_server"];
const CLIENTS: [&str; 4] = ["echo-client", "sock_client", "stream_client", "protocol_client"];

/// A program of the project: `echo-server`, `echo-client` or an example.
fn program(name: &str) -> Command {
    let path = match name {
        "echo-server" => PathBuf::from(env!("CARGO_BIN_EXE_echo-server")),
        "echo-client" => PathBuf::from(env!("CARGO_BIN_EXE_echo-client")),
        example => common::example(example),
    };
    common::program(path)
}

fn serve(name: &str) -> Server {
    Server::run(program(name).arg("127.0.0.1:0"), 1)
}

fn each_server(test: impl Fn(&str, Server)) {
    for name in SERVERS {
        println!("{name}"); // names the server if the test fails
        test(name, serve(name));
    }
}

// ---- servers

#[test]
fn every_server_echoes_all_bytes_and_closes_after_a_half_close() {
    each_server(|_, server| {
        let bytes = noise(8 << 20, 31);
        let mut stream = server.connect();
        let echo = collect(stream.try_clone().unwrap());
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);
        // The half-close does not block others.
        ping(&mut server.connect(), b"next\n");
    });
}

#[test]
fn every_server_echoes_one_byte_at_a_time() {
    each_server(|_, server| {
        let mut stream = server.connect();
        stream.set_nodelay(true).unwrap();
        for byte in b"one byte at a time\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut echo = [0; 19];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"one byte at a time\n");
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn every_server_serves_others_while_one_stalls_floods_or_resets() {
    each_server(|name, server| {
        let before = server.process.resident();
        let mut stalled = server.connect();
        let line = [vec![b'x'; 1023], b"\n".to_vec()].concat();
        let sent = send_until_stalled(&mut stalled, &line);
        let grown = server.process.resident().saturating_sub(before);
        assert!(grown < 8 << 10, "{name}: {grown} KiB for one stalled peer");
        let mut other = server.connect();
        ping(&mut other, b"am I held up?\n");

        let flooder = server.connect();
        let (mut writer, mut reader) = (flooder.try_clone().unwrap(), flooder.try_clone().unwrap());
        let lines = line.repeat(64);
        let flood = thread::spawn(move || while writer.write_all(&lines).is_ok() {});
        let drain = thread::spawn(move || while matches!(reader.read(&mut vec![0; 65536]), Ok(1..)) {});
        for _ in 0..50 {
            let began = Instant::now();
            ping(&mut other, b"am I held up?\n");
            assert!(began.elapsed() < Duration::from_secs(2));
        }
        flooder.shutdown(Shutdown::Both).unwrap();
        flood.join().unwrap();
        drain.join().unwrap();

        for _ in 0..10 {
            let mut stream = server.connect();
            stream.write_all(b"never read\n").unwrap();
            common::reset_on_close(&stream);
        }
        ping(&mut other, b"still here\n");

        stalled.shutdown(Shutdown::Write).unwrap();
        let mut echo = Vec::new();
        stalled.read_to_end(&mut echo).unwrap();
        assert_eq!(echo.len(), sent, "the stalled peer gets everything once it reads");
    });
}

#[test]
fn every_server_serves_many_connections() {
    each_server(|_, server| {
        let mut streams: Vec<_> = (0..200).map(|_| server.connect()).collect();
        for _ in 0..3 {
            streams.iter_mut().for_each(|stream| ping(stream, b"one of many\n"));
        }
    });
}

#[test]
fn exit_line_ends_a_connection_of_the_stream_server() {
    let server = serve("stream_server");
    let mut stream = server.connect();
    ping(&mut stream, b"hello\n");
    stream.write_all(b"exit\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

// ---- clients

/// A client with pipes as stdin, stdout and stderr.
fn client(name: &str, address: &str) -> Process {
    let mut command = program(name);
    Process::spawn(command.arg(address).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

fn run_client(name: &str, address: &str, input: &[u8]) -> Outcome {
    common::run(program(name).arg(address), input)
}

fn each_client(test: impl Fn(&str)) {
    for name in CLIENTS {
        println!("{name}"); // names the client if the test fails
        test(name);
    }
}

#[test]
fn every_client_transfers_all_bytes_and_exits_at_end_of_input() {
    let server = Server::start(&[]);
    let lines = b"one\ntwo is longer than one\n".repeat(5000); // more than one read
    each_client(|name| {
        for input in [&b"several\nlines\nin one write\n"[..], b"no newline at the end", b"", &lines] {
            let outcome = run_client(name, server.address(), input);
            assert_eq!(outcome.code, 0, "{}", outcome.stderr);
            assert_same_bytes(&outcome.stdout, input);
        }
        let scratch = common::Scratch::new();
        let file = std::fs::File::open(scratch.file("input", b"from a file\n")).unwrap();
        let mut command = program(name);
        let process = command.arg(server.address()).stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert_eq!(outcome(Process::spawn(process)).stdout, b"from a file\n");
    });
}

#[test]
fn every_client_prints_the_echo_before_its_input_ends() {
    let server = Server::start(&[]);
    each_client(|name| {
        let mut process = client(name, server.address());
        let mut stdin = process.child.stdin.take().unwrap();
        let out = Lines::of(process.child.stdout.take().unwrap());
        for line in ["one", "two"] {
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
            assert_eq!(out.next(), line);
        }
        drop(stdin);
        assert_eq!(process.wait_code(), 0);
    });
}

#[test]
fn every_client_exits_when_the_server_closes() {
    each_client(|name| {
        let (address, server) = serve_once(|mut stream| {
            stream.write_all(b"goodbye\n").unwrap();
        });
        let mut process = client(name, &address);
        let stdin = process.child.stdin.take();
        let outcome = outcome(process);
        server.join().unwrap();
        assert_eq!(outcome.stdout, b"goodbye\n");
        drop(stdin);
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn every_client_waits_for_a_slow_server_in_bounded_memory() {
    let input = noise(16 << 20, 32);
    each_client(|name| {
        let (read, may_read) = mpsc::channel::<()>();
        let (address, server) = serve_once(move |mut stream| {
            let _ = may_read.recv_timeout(PATIENCE); // the thing under test: a server that does not read
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got
        });
        let mut process = client(name, &address);
        let mut stdin = process.child.stdin.take().unwrap();
        let written = input.clone();
        let feeder = thread::spawn(move || stdin.write_all(&written).unwrap());
        process.comes_to_rest(); // it has read as much of the input as it wants
        assert!(process.resident() < 8 << 10, "{name}: {} KiB", process.resident());
        read.send(()).unwrap();
        feeder.join().unwrap();
        let _ = outcome(process);
        assert_same_bytes(&server.join().unwrap(), &input);
    });
}

#[test]
fn blocking_client_prints_nothing_before_its_input_ends() {
    let server = Server::start(&[]);
    let mut process = client("blocking_client", server.address());
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let out = Lines::of(process.child.stdout.take().unwrap());
    common::eventually("the server has sent the echo", || server.statistics()[4] == 6);
    thread::sleep(A_WHILE); // the thing under test: the loop is blocked
    assert!(out.so_far().is_empty(), "the blocked loop must print nothing");
    drop(stdin);
    assert_eq!(out.next(), "hello");
    assert_eq!(process.wait_code(), 0);
}

const EXAMPLES: [&str; 11] = [
    "blocking_client",
    "chat_server",
    "kv_protocol",
    "kv_streams",
    "prompt_server",
    "protocol_client",
    "protocol_server",
    "sock_client",
    "sock_server",
    "stream_client",
    "stream_server",
];

fn fails_with(program: &mut Command) -> (i32, String) {
    let outcome = common::run(program, b"");
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert!(outcome.stdout.is_empty());
    (outcome.code, outcome.stderr)
}

#[test]
fn every_client_reports_a_refused_connection_and_exits_1() {
    let dead = common::DeadPort::new();
    for name in ["echo-client", "sock_client", "stream_client", "protocol_client", "blocking_client"] {
        let (code, stderr) = fails_with(program(name).arg(dead.1.to_string()));
        assert_eq!(code, 1, "{name}");
        common::assert_one_line(&stderr, &["onnection refused"]);
    }
}

#[test]
fn every_example_reports_a_usage_error_in_one_line() {
    for name in EXAMPLES {
        for (arguments, reason) in [
            (&["[::1]"][..], "bad address '[::1]': the port is missing"),
            (&["--nosuch"], "unknown option '--nosuch'"),
            (&["127.0.0.1:1", "2"], "unexpected argument '2'"),
        ] {
            let (code, stderr) = fails_with(program(name).args(arguments));
            assert_eq!(code, 2, "{name}: {stderr}");
            common::assert_one_line(&stderr, &[&format!("{name}: {reason}")]);
        }
        let (code, stderr) = fails_with(program(name).arg("no.such.host.invalid:1"));
        assert_eq!(code, 1, "{name}: {stderr}");
        common::assert_one_line(&stderr, &[&format!("{name}: cannot resolve no.such.host.invalid: ")]);
    }
    let (code, stderr) = fails_with(program("compare").args(["--only", "nosuch"]));
    assert_eq!(code, 2);
    common::assert_one_line(&stderr, &["compare: unknown server 'nosuch'; expected one of: echo-server, "]);
    let (code, stderr) = fails_with(program("timeline_svg").arg("/nonexistent/file"));
    assert_eq!(code, 1);
    common::assert_one_line(&stderr, &["timeline_svg: cannot draw /nonexistent/file: "]);
}

#[test]
fn proxy_listens_on_its_first_address_and_connects_to_the_second() {
    let backend = serve("echo-server");
    let proxy = Server::run(program("proxy").args(["127.0.0.1:0", backend.address()]), 1);
    ping(&mut proxy.connect(), b"through the proxy");
    let (code, line) = fails_with(program("proxy").arg(backend.address()));
    assert_eq!((code, line.as_str()), (2, "proxy: expected two addresses (see --help)\n"));
}

#[test]
fn every_server_reports_a_listen_error_in_one_line() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    for name in EXAMPLES.iter().filter(|name| !name.ends_with("client")) {
        let (code, stderr) = fails_with(program(name).arg(&address));
        assert_eq!(code, 1, "{name}: {stderr}");
        common::assert_one_line(&stderr, &[&format!("{name}: "), "Address already in use"]);
    }
}

// ---- prompt and chat servers

#[test]
fn prompt_server_answers_in_order_and_forgets_closed_connections() {
    let mut command = program("prompt_server");
    let mut server = Server::run(command.arg("127.0.0.1:0").stdin(Stdio::piped()), 1);
    let mut operator = server.process.child.stdin.take().unwrap();
    let ask = |question: &str| {
        let mut stream = connect(server.address());
        stream.write_all(format!("{question}\n").as_bytes()).unwrap();
        assert!(server.out.next().ends_with(&format!("? {question}")));
        stream
    };
    let first = ask("first");
    let mut forger = connect(server.address());
    forger.write_all(b"\x1b[2J\xff\n").unwrap();
    assert!(server.out.next().ends_with("? \\u{1b}[2J\\xff"));
    drop(forger);
    let leaver = ask("leaver");
    let third = ask("third");
    drop(leaver);
    let answer_to = |stream: &TcpStream| {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
        line
    };
    // One write with two answers.
    operator.write_all(b"answer one\nanswer two\n").unwrap();
    assert_eq!(answer_to(&first), "answer one\n");
    assert_eq!(answer_to(&third), "answer two\n");
}

#[test]
fn chat_server_sends_to_all_others_and_drops_a_slow_reader() {
    let server = serve("chat_server");
    let mut guests = vec![server.connect()];
    for number in 1..5 {
        let mut new_guest = server.connect();
        let text = format!("hello from {number}\n");
        new_guest.write_all(text.as_bytes()).unwrap();
        for guest in &mut guests {
            let mut received = vec![0; text.len()];
            guest.read_exact(&mut received).unwrap();
            assert_eq!(received, text.as_bytes());
        }
        guests.push(new_guest); // the server has accepted a guest whose message has arrived
    }
    let slow = guests.remove(4);
    let mut speaker = guests.remove(0);
    let bytes = noise(16 << 20, 33);
    for piece in bytes.chunks(64 << 10) {
        speaker.write_all(piece).unwrap();
        for guest in &mut guests {
            let mut received = vec![0; piece.len()];
            guest.read_exact(&mut received).unwrap();
            assert_same_bytes(&received, piece);
        }
    }
    let received = collect(slow).recv_timeout(common::PATIENCE).unwrap();
    assert!(received.len() < bytes.len(), "the slow reader was not dropped");
}

// ---- key-value servers

#[test]
fn key_value_servers_join_split_lines_and_reject_long_ones() {
    for name in ["kv_protocol", "kv_streams"] {
        let server = serve(name);
        let mut stream = server.connect();
        stream.write_all(b"set a first value\nget a\nget b\nde").unwrap();
        stream.write_all(b"l a\nget a\ndance\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let expected = "ok\nfirst value\nnone\nok\nnone\nerror: set KEY VALUE, get KEY, del KEY\n";
        assert_eq!(answers, expected, "{name}");

        let mut other = server.connect();
        other.write_all(b"set k v\n").unwrap();
        other.read_exact(&mut [0; 3]).unwrap();
        let mut endless = server.connect();
        endless.write_all(b"get k\n").unwrap();
        endless.write_all(&[b'x'; 5000]).unwrap();
        let mut answers = String::new();
        endless.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "v\nerror: the line is too long\n", "{name}");
        let source = std::fs::read_to_string(format!("examples/{name}.rs")).unwrap();
        assert!(source.lines().count() < 80, "{name} has {} lines", source.lines().count());
    }
}

// ---- the timeline

#[test]
fn timeline_svg_draws_a_timeline() {
    let scratch = common::Scratch::new();
    let path = scratch.path("timeline.json");
    let mut command = program("echo-server");
    let mut server = Server::run(command.arg("--timeline").arg(&path).arg("127.0.0.1:0"), 1);
    ping(&mut server.connect(), b"hello");
    server.process.signal(rustix::process::Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    let drawn = outcome(Process::spawn(
        program("timeline_svg").arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()),
    ));
    let picture = String::from_utf8(drawn.stdout).unwrap();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"), "{picture}");
    for part in [">the loop<", ">connection ", "class=\"turn\"", "class=\"life\"", "class=\"call\""] {
        assert!(picture.contains(part), "{part} is not in {picture}");
    }
}

// ---- the load generator

fn load(address: &str, arguments: &[&str]) -> Outcome {
    outcome(Process::spawn(
        program("load")
            .args(arguments)
            .args(["--duration", "0.2", "--warm-up", "0", address])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    ))
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn load_measures_messages_and_the_server_in_every_mode() {
    let server = serve("echo-server");
    let pid = server.process.child.id().to_string();
    for mode in ["ping-pong", "stream", "churn"] {
        let outcome =
            load(server.address(), &["--mode", mode, "-n8", "--idle", "5", "--pid", &pid, "--json"]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{mode}");
        let text = String::from_utf8(outcome.stdout).unwrap();
        let number = |key: &str| -> f64 {
            let (_, rest) = text.split_once(&format!("\"{key}\": ")).unwrap_or_else(|| panic!("{text}"));
            rest.split([',', '}']).next().unwrap().parse().unwrap()
        };
        assert!(number("messages") > 10.0, "{text}");
        assert!(number("p50_us") > 0.0 && number("p50_us") <= number("max_us"), "{text}");
        assert!(number("server_cpu_us_per_message") > 0.0 && number("server_rss") > 0.0, "{text}");
    }
    let outcome = load(server.address(), &["-n2"]);
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert!(
        text.contains("ping-pong on 2 connections, 64 bytes per message") && text.contains("█"),
        "{text}"
    );
}

#[test]
fn load_reports_a_wrong_echo_and_a_lost_connection() {
    let (address, server) = serve_once(|mut stream| {
        let mut bytes = [0; 64];
        stream.read_exact(&mut bytes).unwrap();
        bytes[10] ^= 1;
        stream.write_all(&bytes).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let outcome = load(&address, &["-n1"]);
    server.join().unwrap();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("load: an echo is wrong at offset 10"), "{}", outcome.stderr);

    let (address, server) = serve_once(|mut stream| stream.read_exact(&mut [0; 64]).unwrap());
    let outcome = load(&address, &["-n1"]);
    server.join().unwrap();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("load: lost a connection"), "{}", outcome.stderr);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: F_SETPIPE_SZ")]
fn every_client_goes_on_after_the_end_of_its_input_and_a_full_output_at_once() {
    let echo = noise(1 << 20, 33);
    each_client(|name| {
        let sent = echo.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let (address, server) = serve_once(move |mut stream| {
            let _ = stream.write_all(&sent); // more than stdout and the buffers of the client take
            let _ = stopped.recv_timeout(PATIENCE);
            let _ = stream.read_to_end(&mut Vec::new()); // until the client ends its side
        });
        let mut process = client(name, &address);
        let mut stdout = process.child.stdout.take().unwrap();
        process.comes_to_rest(); // it does not read, because stdout is full
        process.signal(Signal::STOP);
        drop(process.child.stdin.take());
        let mut got = vec![0; 64 << 10];
        stdout.read_exact(&mut got).unwrap();
        common::enlarge(&stdout); // so there is room for all that is buffered
        process.signal(Signal::CONT);
        stop.send(()).unwrap();
        let rest = common::collect(stdout).recv_timeout(PATIENCE);
        got.extend(rest.unwrap_or_else(|_| panic!("{name} does not read on")));
        server.join().unwrap();
        assert_same_bytes(&got, &echo);
    });
}
