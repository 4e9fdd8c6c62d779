//! The memory that a peer can use is bounded in every program and example, whatever the peer sends
//! and however little it reads.

#![cfg(target_os = "linux")] // it reads /proc
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{A_WHILE, Server};

const SERVERS: [&str; 7] = [
    "sock_server",
    "stream_server",
    "protocol_server",
    "kv_protocol",
    "kv_streams",
    "prompt_server",
    "chat_server",
];

/// The limit for one peer, in KiB.
const LIMIT: u64 = 32 << 10;

/// What a peer tries to send, in bytes.
const SENT: usize = 64 << 20;

fn serve(name: &str) -> Server {
    let program = match name {
        "echo-server" => PathBuf::from(env!("CARGO_BIN_EXE_echo-server")),
        example => common::example(example),
    };
    Server::run(common::program(program).arg("127.0.0.1:0").stdin(Stdio::piped()), 1)
}

/// Sends `text` repeatedly, 64 MiB in total, until the server closes the connection or stalls.
fn send(stream: &mut TcpStream, text: &[u8]) {
    stream.set_nonblocking(true).unwrap();
    write(stream, text);
}

fn write(stream: &mut impl Write, text: &[u8]) {
    let chunk = text.repeat((64 << 10) / text.len() + 1);
    let (mut sent, mut moved) = (0, Instant::now());
    while sent < SENT && moved.elapsed() < A_WHILE {
        match stream.write(&chunk[sent % text.len()..]) {
            Ok(count) => (sent, moved) = (sent + count, Instant::now()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return, // the server closed it
        }
    }
}

#[test]
fn peer_that_sends_and_never_reads_uses_bounded_memory() {
    for name in SERVERS.into_iter().chain(["echo-server"]) {
        let server = serve(name);
        for text in [&b"x"[..], b"a line\n", &[b"x".repeat(4000), b"\n".to_vec()].concat()] {
            let _listener = server.connect(); // another peer, which does not read either
            send(&mut server.connect(), text);
            let used = server.process.peak_resident();
            assert!(used < LIMIT, "{name}: {used} KiB for {:?}…", String::from_utf8_lossy(&text[..1]));
        }
    }
}

#[test]
fn peer_that_asks_and_never_reads_the_answers_uses_bounded_memory() {
    for name in ["kv_protocol", "kv_streams"] {
        let server = serve(name);
        let mut stream = server.connect();
        stream.write_all(&[b"set k ".to_vec(), b"v".repeat(4000), b"\n".to_vec()].concat()).unwrap();
        send(&mut stream, b"get k\n"); // each answer is 700 times as long
        let used = server.process.peak_resident();
        assert!(used < LIMIT, "{name}: {used} KiB");
    }
}

#[test]
fn peer_that_keeps_storing_values_uses_bounded_memory() {
    for name in ["kv_protocol", "kv_streams"] {
        let server = serve(name);
        let mut stream = server.connect();
        let mut lines = Vec::new();
        for number in 0..SENT / 4000 {
            lines.extend_from_slice(format!("set {number} {}\n", "v".repeat(4000)).as_bytes());
        }
        send(&mut stream, &lines);
        let used = server.process.peak_resident();
        assert!(used < LIMIT, "{name}: {used} KiB");
    }
}

#[test]
fn peer_that_asks_and_never_reads_what_the_operator_types_uses_bounded_memory() {
    let mut server = serve("prompt_server");
    let mut operator = server.process.child.stdin.take().unwrap();
    rustix::io::ioctl_fionbio(&operator, true).unwrap();
    let mut stream = server.connect();
    stream.write_all(&[b'\n'; 60_000]).unwrap(); // as many questions
    write(&mut operator, &[b"x".repeat(4000), b"\n".to_vec()].concat());
    let used = server.process.peak_resident();
    assert!(used < LIMIT, "{used} KiB");
}
