//! How `echo-server` shuts down: gracefully, within the grace time, or at once.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    DeadPort, Process, Scratch, Server, assert_one_line, assert_same_bytes, client_command, collect,
    connect_unix, eventually, noise, ping, send_until_stalled,
};
use rustix::net::{SendFlags, send};
use rustix::process::Signal;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn sigterm_lets_a_slow_peer_get_every_byte_and_eof() {
    let held = DeadPort::new(); // so that no other test listens there afterwards
    let options = ["--reuse-port", "--grace", "20", "--buffer", "1M"];
    let mut server = Server::on(&[&held.1.to_string()], &options);
    let mut stream = server.connect();
    let sent = send_until_stalled(&mut stream, b"x");
    server.process.comes_to_rest();
    let statistics = server.statistics();
    let (received, sent_back) = (statistics[3], statistics[4]);
    assert!(received > sent_back, "no echo is buffered");
    server.process.signal(Signal::TERM);
    eventually("the server stopped listening", || TcpStream::connect(server.address()).is_err());
    // The peer reads slowly while it sends. The server discards the new bytes without a reset.
    let mut echo = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => break,
            count => echo.extend_from_slice(&chunk[..count]),
        }
        let _ = send(&stream, b"more", SendFlags::DONTWAIT);
    }
    assert!(echo.len() as u64 >= received, "{} of {received}, of {sent} bytes sent", echo.len());
    assert!(echo.iter().all(|&byte| byte == b'x'));
    drop(stream);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn stalled_peer_delays_shutdown_only_for_the_grace_time() {
    let mut server = Server::start(&["--grace", "0.5"]);
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    let began = Instant::now();
    server.process.signal(Signal::INT);
    assert_eq!(server.process.wait_code(), 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn shutdown_is_immediate_without_connections_or_grace() {
    let mut server = Server::start(&["-g", "60"]);
    let began = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    let mut server = Server::start(&["-g0"]);
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn signal_logs_one_warning_if_connections_are_open() {
    for open in [0, 1, 2] {
        let mut server = Server::start(&["--grace", "60"]);
        let mut peers: Vec<_> = (0..open).map(|_| server.connect()).collect();
        peers.iter_mut().for_each(|peer| ping(peer, b"x"));
        server.process.signal(Signal::TERM);
        if open > 0 {
            let count = ["", "1 connection", "2 connections"][open];
            let wait = "waiting for at most 60s; a second signal ends the server at once";
            let expected = format!("echo-server: warning: shutting down; {count} open; {wait}");
            assert_eq!(server.err.next(), expected);
        }
        drop(peers);
        assert_eq!(server.process.wait_code(), 0);
        assert_eq!(server.err.rest(), [""; 0]);
    }
}

/// Sends SIGTERM again as soon as the shutdown has begun: `timeout(1)` sends each signal to the
/// process and to its group.
fn exit_code_after_a_repeated_signal() -> i32 {
    let mut server = Server::start(&["-v", "--grace", "0.2"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    server.process.signal(Signal::TERM);
    server.err.next_with("shutting down");
    server.process.signal(Signal::TERM);
    server.process.wait_code() // the peer stays, so only the grace time or the signal ends the server
}

#[test]
fn signal_that_is_repeated_at_once_does_not_end_the_grace_time() {
    // On a machine under load, the repetition may be late.
    assert!((0..5).any(|_| exit_code_after_a_repeated_signal() == 0));
}

#[test]
fn second_signal_ends_the_server_and_removes_the_socket_file() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut server = Server::on(&[&format!("unix:{}", path.display())], &["--grace", "60"]);
    let stream = connect_unix(&path);
    (&stream).write_all(b"x").unwrap();
    (&stream).read_exact(&mut [0]).unwrap();
    server.process.signal(Signal::TERM);
    eventually("the server stopped listening", || UnixStream::connect(&path).is_err());
    server.process.signal(Signal::INT);
    assert_eq!(server.process.wait_code(), 128 + 2);
    assert!(!path.exists());
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn slow_peers_all_get_their_buffered_bytes() {
    let mut server = Server::start(&["--grace", "20", "--buffer", "1M"]);
    let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let sent: Vec<_> = streams.iter_mut().map(|stream| send_until_stalled(stream, b"x")).collect();
    server.process.comes_to_rest();
    let received = server.statistics()[3];
    server.process.signal(Signal::TERM);
    let echoes: Vec<_> = streams.iter().map(|stream| collect(stream.try_clone().unwrap())).collect();
    let echoed: Vec<_> =
        echoes.iter().map(|echo| echo.recv_timeout(common::PATIENCE).unwrap().len()).collect();
    // The server may also have received bytes that were still in the kernel.
    assert!(
        echoed.iter().sum::<usize>() as u64 >= received,
        "{received} received, {echoed:?} echoed of {sent:?}"
    );
    drop(streams);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn flooding_peer_delays_shutdown_only_for_the_grace_time() {
    let mut server = Server::start(&["--grace", "0.5"]);
    let mut flooder = server.connect();
    ping(&mut flooder, b"x");
    let echo = collect(flooder.try_clone().unwrap());
    let flood = thread::spawn(move || while flooder.write_all(&[7; 1 << 16]).is_ok() {});
    let began = Instant::now();
    server.process.signal(Signal::TERM);
    echo.recv_timeout(common::PATIENCE).unwrap(); // EOF
    assert_eq!(server.process.wait_code(), 0);
    assert!(began.elapsed() >= Duration::from_millis(450) && began.elapsed() < Duration::from_secs(5));
    flood.join().unwrap();
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn client_in_mid_transfer_reports_the_shutdown() {
    let mut server = Server::start(&["--grace", "20"]);
    let mut client = Process::spawn(
        client_command()
            .arg(server.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let bytes = noise(64 << 20, 15);
    let mut stdin = client.child.stdin.take().unwrap();
    let sent = bytes.clone();
    let _open = thread::spawn(move || {
        let _ = stdin.write_all(&sent);
        stdin // stays open even if the kernel buffers all of it
    });
    let mut stdout = client.child.stdout.take().unwrap();
    let stderr = collect(client.child.stderr.take().unwrap());
    let mut echo = vec![0; 1 << 20];
    stdout.read_exact(&mut echo).unwrap();
    // The server stops reading, so all buffers on the way fill up and some bytes cannot come back.
    client.comes_to_rest();
    server.process.comes_to_rest();
    server.process.signal(Signal::TERM);
    stdout.read_to_end(&mut echo).unwrap();
    assert_eq!(client.wait_code(), 1);
    assert_same_bytes(&echo, &bytes[..echo.len()]);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["closed the connection before the end of the input", "did not come back"]);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn first_signal_removes_the_socket_file() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut server = Server::on(&[&format!("unix:{}", path.display())], &[]);
    assert!(path.exists());
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(!path.exists());
}
