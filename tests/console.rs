//! `echo-server --console`: an operator's commands, a line each, and their replies.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};

use common::{Server, ping, server_command};

fn start() -> (Server, ChildStdin) {
    let mut command = server_command();
    command.args(["--console", "127.0.0.1:0"]).stdin(Stdio::piped());
    let mut server = Server::run(&mut command, 1);
    let stdin = server.process.child.stdin.take().unwrap();
    (server, stdin)
}

#[test]
fn every_command_is_answered() {
    let (server, mut operator) = start();
    let mut stream = server.connect();
    ping(&mut stream, b"12345");
    operator.write_all(b"help\nstats\n").unwrap(); // two lines in one write are two commands
    for command in ["help", "stats", "list", "say", "close", "quit"] {
        assert!(server.out.next().starts_with(command));
    }
    let stats = server.out.next();
    assert!(
        stats.starts_with(
            "connections: 1 open, 1 accepted, 0 refused; bytes: 5 in, 5 out, 0 buffered; turns:"
        )
    );

    operator.write_all(b"list\n").unwrap();
    let line = server.out.next();
    let peer = stream.local_addr().unwrap().to_string();
    let (id, rest) = line.split_once(' ').unwrap();
    assert!(rest.starts_with(&format!("{peer} 5 in 5 out 0 buffered ")), "{line}");
    assert!(rest.ends_with("s idle"), "{line}");
    assert_eq!(server.out.next(), "end of list");

    operator.write_all(b"say hello there\n").unwrap();
    assert_eq!(server.out.next(), "sent to 1 connections");
    let mut heard = [0; 12];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello there\n");

    operator.write_all(b"dance\nclose 99.9\n").unwrap();
    assert_eq!(server.out.next(), "error: unknown command 'dance' (see help)");
    assert_eq!(server.out.next(), "error: no connection '99.9' (see list)");

    operator.write_all(format!("close {id}\n").as_bytes()).unwrap();
    assert_eq!(server.out.next(), format!("closing {id}"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn who_does_not_read_is_told_nothing_more() {
    let (server, mut operator) = start();
    let mut stalled = server.connect();
    common::send_until_stalled(&mut stalled, b"x");
    ping(&mut server.connect(), b"x");
    let buffered = server.statistics()[5];
    for _ in 0..100 {
        operator.write_all(b"say more and more\n").unwrap();
        assert!(server.out.next().ends_with("skipped 1 that are behind"));
    }
    assert_eq!(server.statistics()[5], buffered);
}

#[test]
fn quit_is_sigterm() {
    let (mut server, mut operator) = start();
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    operator.write_all(b"quit\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn the_end_of_stdin_ends_the_console_and_not_the_server() {
    let (server, operator) = start();
    drop(operator);
    ping(&mut server.connect(), b"x");
    server.process.comes_to_rest(); // it does not spin
    ping(&mut server.connect(), b"x");
}
