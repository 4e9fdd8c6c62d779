//! No peer of `echo-server` can delay, corrupt or end another peer's echo.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Scratch, Server, assert_same_bytes, collect, connect_unix, eventually, noise, ping, reset_on_close,
    send_until_stalled,
};
use rustix::net::{SendFlags, send};

/// The largest amount buffered for one peer: the high-water mark and one read.
const PER_PEER: u64 = (64 + 256) * 1024;

#[test]
fn half_closing_peer_gets_every_byte_and_then_eof() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let bytes = noise(1 << 20, 12);
    let reader = collect(stream.try_clone().unwrap());
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_same_bytes(&reader.recv_timeout(common::PATIENCE).unwrap(), &bytes);
    eventually("the connection is closed", || server.open_connections() == 0);
}

#[test]
fn half_close_without_or_together_with_data_is_answered() {
    let server = Server::start(&[]);
    let mut nothing = server.connect();
    nothing.shutdown(Shutdown::Write).unwrap();
    assert_eq!(nothing.read(&mut [0]).unwrap(), 0);
    for _ in 0..100 {
        let mut stream = server.connect();
        stream.write_all(b"data and FIN").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut echo = Vec::new();
        stream.read_to_end(&mut echo).unwrap();
        assert_eq!(echo, b"data and FIN");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn peers_that_never_read_use_bounded_memory_and_delay_nobody() {
    let server = Server::start(&[]);
    let before = server.process.resident();
    let stalled: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = server.connect();
            // A small receive buffer, so that the peer stalls soon.
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&[0; 1 << 16]);
            stream
        })
        .collect();
    let mut other = server.connect();
    let chunk = vec![0; 1 << 18];
    let mut quiet_rounds = 0;
    while quiet_rounds < 20 {
        let sent: usize = stalled.iter().map(|mut stream| stream.write(&chunk).unwrap_or(0)).sum();
        quiet_rounds = if sent == 0 { quiet_rounds + 1 } else { 0 };
        let began = Instant::now();
        ping(&mut other, b"am I delayed?");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    let buffered = server.statistics()[5];
    assert!(buffered > 0 && buffered <= 50 * PER_PEER, "{buffered} bytes are buffered");
    let grown = server.process.resident().saturating_sub(before);
    assert!(grown * 1024 <= 50 * 2 * PER_PEER, "{grown} KiB of memory for 50 stalled peers");
}

#[test]
fn stalled_peer_gets_everything_once_it_reads() {
    let server = Server::start(&["--buffer", "4K"]);
    let mut stream = server.connect();
    let sent = send_until_stalled(&mut stream, b"x");
    stream.shutdown(Shutdown::Write).unwrap();
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).unwrap();
    assert_eq!(echo.len(), sent);
}

#[test]
fn reset_urgent_data_or_flood_does_not_affect_others() {
    let server = Server::start(&[]);
    let mut witness = server.connect();
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.write_all(b"never read").unwrap();
        reset_on_close(&stream);
        drop(stream);
        ping(&mut witness, b"still here");
    }
    let mut stream = server.connect();
    stream.write_all(b"before").unwrap();
    send(&stream, b"!", SendFlags::OOB).unwrap();
    stream.write_all(b"after").unwrap();
    let mut echo = [0; 12];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"before!after");

    let mut flooder = server.connect();
    let mut drain = flooder.try_clone().unwrap();
    let end = flooder.try_clone().unwrap();
    let flood = thread::spawn(move || while flooder.write_all(&[7; 1 << 16]).is_ok() {});
    let drained = thread::spawn(move || while matches!(drain.read(&mut [0; 1 << 16]), Ok(1..)) {});
    for _ in 0..100 {
        let began = Instant::now();
        ping(&mut witness, b"still here");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    end.shutdown(Shutdown::Both).unwrap();
    flood.join().unwrap();
    drained.join().unwrap();
    eventually("only the witness and the peer with urgent data are left", || server.open_connections() == 2);
}

#[test]
fn slow_peer_is_echoed_while_others_are_busy() {
    let server = Server::start(&[]);
    let mut slow = server.connect();
    let mut busy = server.connect();
    let mut writer = busy.try_clone().unwrap();
    let bytes = noise(8 << 20, 13);
    let sent = bytes.clone();
    let flood = thread::spawn(move || writer.write_all(&sent).unwrap());
    let drained = thread::spawn(move || {
        let mut echo = vec![0; bytes.len()];
        busy.read_exact(&mut echo).unwrap();
        assert_same_bytes(&echo, &bytes);
    });
    for byte in noise(500, 14) {
        ping(&mut slow, &[byte]);
    }
    flood.join().unwrap();
    drained.join().unwrap();
}

#[test]
fn connections_reset_before_accept_leak_nothing() {
    let server = Server::start(&["-c1"]);
    let mut only = server.connect();
    ping(&mut only, b"x");
    // These peers wait in the backlog, and reset before they are accepted.
    for _ in 0..50 {
        let mut stream = server.connect();
        stream.write_all(b"too late").unwrap();
        reset_on_close(&stream);
    }
    let mut patient = server.connect();
    drop(only);
    ping(&mut patient, b"at last");
    assert_eq!(server.statistics()[..2], [1, 52]);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn reset_in_mid_transfer_frees_the_write_buffer() {
    let server = Server::start(&[]);
    let mut witness = server.connect();
    ping(&mut witness, b"x");
    let descriptors = server.process.descriptors();
    for _ in 0..5 {
        let mut stream = server.connect();
        send_until_stalled(&mut stream, b"x");
        assert!(server.statistics()[5] > 0, "no echo is buffered");
        reset_on_close(&stream);
        drop(stream);
        eventually("the connection is closed", || server.open_connections() == 1);
        assert_eq!(server.statistics()[5], 0);
        ping(&mut witness, b"still here");
    }
    assert_eq!(server.process.descriptors(), descriptors);
}

#[test]
fn peer_that_shut_down_reading_is_closed_at_its_eof() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let server = Server::on(&["127.0.0.1:0", &format!("unix:{}", path.display())], &[]);
    let mut witness = server.connect();
    ping(&mut witness, b"x");

    // TCP does not report SHUT_RD to the other end; on a Unix socket, the next write fails.
    let mut tcp = server.connect();
    tcp.shutdown(Shutdown::Read).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let mut unix = connect_unix(&path);
    unix.shutdown(Shutdown::Read).unwrap();
    unix.set_nonblocking(true).unwrap();
    for _ in 0..100 {
        let _ = tcp.write(&[0; 1 << 16]);
        let _ = unix.write(&[0; 1 << 16]);
        ping(&mut witness, b"still here");
    }
    assert!(server.statistics()[5] <= 2 * PER_PEER);
    reset_on_close(&tcp); // otherwise it would have to read the rest of its echo
    drop((tcp, unix));
    eventually("both connections are closed", || server.open_connections() == 1);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn connections_closed_at_once_leak_nothing() {
    let server = Server::start(&[]);
    let mut witness = server.connect();
    ping(&mut witness, b"x");
    let descriptors = server.process.descriptors();
    for round in 0..500 {
        let stream = server.connect();
        if round % 2 == 0 {
            reset_on_close(&stream);
        }
    }
    ping(&mut witness, b"still here");
    eventually("all connections are closed", || server.statistics()[..2] == [1, 501]);
    assert_eq!(server.process.descriptors(), descriptors);
}
