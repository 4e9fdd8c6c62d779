//! What `echo-server` promises to its peers.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::io::{Read, Write};
use std::thread;

use common::{
    DeadPort, Scratch, Server, assert_same_bytes, connect, connect_unix, eventually, has_ipv6, noise, ping,
};
use rustix::process::Signal;

#[test]
fn what_is_sent_comes_back_in_order_over_tcp_and_unix_sockets() {
    let scratch = Scratch::new();
    let unix = format!("unix:{}", scratch.path("socket").display());
    let mut addresses = vec![&*unix, "127.0.0.1:0"];
    if has_ipv6() {
        addresses.push("[::1]:0");
    }
    let server = Server::on(&addresses, &[]);
    fn echo(mut stream: impl Read + Send + 'static, mut writer: impl Write + Send + 'static) {
        let bytes = noise(16 << 20, 11);
        let sent = bytes.clone();
        let thread = thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_same_bytes(&echo, &bytes);
        thread.join().unwrap();
    }
    for address in &server.addresses[1..] {
        let stream = connect(address);
        echo(stream.try_clone().unwrap(), stream);
    }
    let stream = connect_unix(&scratch.path("socket"));
    echo(stream.try_clone().unwrap(), stream);
}

#[test]
fn statistics_are_one_line_of_plain_integers_whatever_the_log_level() {
    let server = Server::start(&["-q"]);
    let mut stream = server.connect();
    ping(&mut stream, &[7; 1000]);
    server.process.signal(Signal::USR1);
    let line = server.err.next();
    let expected =
        "connections: 1 open, 1 accepted, 0 refused; bytes: 1000 in, 1000 out, 0 buffered; turns: ";
    let (_, rest) = line.split_once(expected).unwrap_or_else(|| panic!("{line}"));
    rest.parse::<u64>().unwrap();
    drop(stream);
    eventually("closed connections count too", || server.statistics()[..6] == [0, 1, 0, 1000, 1000, 0]);
}

#[test]
fn a_server_that_was_killed_can_be_started_again_on_its_addresses() {
    let scratch = Scratch::new();
    let unix = format!("unix:{}", scratch.path("socket").display());
    let held = DeadPort::new();
    let tcp = held.1.to_string();
    let mut server = Server::on(&[&tcp, &unix], &["--reuse-port"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    server.process.signal(Signal::KILL);
    server.process.wait();
    let server = Server::on(&[&tcp, &unix], &["--reuse-port"]);
    ping(&mut server.connect(), b"x");
}
