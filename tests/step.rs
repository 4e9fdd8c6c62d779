//! `echo-server --step` runs one turn of the loop for each Enter.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};

use common::{A_WHILE, Process, Server, Terminal, assert_one_line, outcome, ping, run, server_command};
use rustix::process::Signal;

fn start() -> (Server, ChildStdin) {
    let mut command = server_command();
    command.args(["--step", "--grace", "0.1", "127.0.0.1:0"]).stdin(Stdio::piped());
    let mut server = Server::run(&mut command, 1);
    let stdin = server.process.child.stdin.take().unwrap();
    (server, stdin)
}

/// The sentences that describe the next turn.
fn turn(server: &Server, number: u32) -> Vec<String> {
    let heading = server.out.next();
    assert!(heading.starts_with(&format!("turn {number}: the loop ")), "{heading}");
    let mut sentences = Vec::new();
    while !sentences.last().is_some_and(|last: &String| last.starts_with("  The turn took ")) {
        sentences.push(server.out.next());
    }
    sentences
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn each_enter_runs_and_describes_one_turn() {
    let (server, mut stdin) = start();
    let mut peer = server.connect();
    peer.write_all(b"hello").unwrap();
    peer.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(peer.read(&mut [0]).is_err(), "nothing happens without Enter");

    // The first turn accepts the connection, and a later one reads its bytes.
    // It describes only what its own call has received and sent.
    let mut number = 0;
    let mut amounts = [5, 4].into_iter();
    let mut awaited = amounts.next();
    while let Some(count) = awaited {
        number += 1;
        stdin
            .write_all(if number == 1 { b"what is typed before Enter is ignored\n" } else { b"\n" })
            .unwrap();
        let sentences = turn(&server, number);
        if number == 1 {
            assert!(sentences.iter().any(|line| line.starts_with("  Connection<Echo> ")), "{sentences:?}");
            assert!(sentences.iter().any(|line| line.starts_with("  Listener ")), "{sentences:?}");
            let is_added =
                |line: &String| line.starts_with("  Connection<Echo> ") && line.ends_with(" was added.");
            assert!(sentences.iter().any(is_added), "{sentences:?}");
            server.process.comes_to_rest();
            assert!(server.out.so_far().is_empty(), "more than one turn was described");
        }
        let moved = format!(", received {count} bytes, sent {count}, has 0 buffered, ");
        if sentences.iter().any(|line| line.contains(&moved)) {
            awaited = amounts.next();
            peer.write_all(&b"more"[..awaited.unwrap_or(0)]).unwrap();
        }
    }
    peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
    peer.read_exact(&mut [0; 9]).unwrap();
    assert!(server.out.so_far().is_empty());
    drop(peer);
    let mut sentences = Vec::new();
    while !sentences
        .iter()
        .any(|line: &String| line.starts_with("  The source ") && line.ends_with(" was removed."))
    {
        stdin.write_all(b"\n").unwrap();
        number += 1;
        sentences = turn(&server, number);
    }
    server.process.comes_to_rest();

    drop(stdin); // from now on the loop runs by itself
    assert_eq!(server.out.next(), "end of standard input: the loop runs without stopping");
    ping(&mut server.connect(), b"hello");
}

#[test]
fn only_a_terminal_is_asked_to_press_enter() {
    let mut terminal = Terminal::new();
    let mut command = server_command();
    command.args(["--step", "127.0.0.1:0"]).stdin(terminal.stdio()).stdout(terminal.stdio());
    let _process = Process::spawn(&mut command);
    terminal.see("press Enter for one turn of the loop");
    terminal.type_in("\x04");
    terminal.see("end of standard input: the loop runs without stopping");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn signal_is_handled_without_enter() {
    let (mut server, _stdin) = start();
    server.process.comes_to_rest(); // the server waits for Enter
    let _peer = server.connect();
    server.process.signal(Signal::USR1);
    assert!(server.err.next().contains("connections: "));
    assert!(server.out.next().starts_with("turn 1: the loop did not sleep; the kernel reported "));
    server.process.comes_to_rest();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    // The peer has not ended its side, so the timer of the grace time has stopped the loop.
    let rest = server.out.rest();
    let last = rest.iter().rfind(|line| line.contains(" callback was called")).unwrap();
    assert!(last.starts_with("  A timer's "), "{rest:?}");
    assert!(rest.last().unwrap().starts_with("  The turn took "), "the end is no part of a turn: {rest:?}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn signal_during_the_sleep_of_a_turn_is_handled_in_that_turn() {
    let (mut server, mut stdin) = start();
    stdin.write_all(b"\n").unwrap();
    server.process.comes_to_rest(); // the server sleeps in the turn
    server.process.signal(Signal::INT);
    let sentences = turn(&server, 1);
    assert!(sentences.iter().any(|line| line.starts_with("  SignalPipe ")), "{sentences:?}");
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn turn_has_its_own_rows_after_ctrl_c() {
    for typed in ["", "\n"] {
        let mut terminal = Terminal::new();
        let mut command = server_command();
        command.args(["--step", "127.0.0.1:0"]).stdin(terminal.stdio()).stdout(terminal.stdio());
        let mut process = Process::spawn(command.stderr(terminal.stdio()));
        terminal.see("without stopping\r\n");
        terminal.type_in(typed);
        process.comes_to_rest(); // the server waits for Enter, or sleeps in the turn
        terminal.unseen_so_far();
        process.signal(Signal::INT); // a terminal echoes `^C` with it
        assert_eq!(process.wait_code(), 0);
        let text = terminal.unseen();
        assert!(text.starts_with("\r\nturn 1: ") && !text.contains("\r\n\r\n"), "{typed:?}: {text:?}");
    }
}

#[test]
fn read_error_of_stdin_ends_the_server() {
    let mut command = server_command();
    command.args(["--step", "127.0.0.1:0"]).stdin(std::fs::File::open("/").unwrap());
    let outcome = outcome(Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())));
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["echo-server: cannot read standard input: Is a directory"]);
}

#[test]
fn console_and_step_exclude_each_other() {
    let outcome = run(server_command().args(["--console", "--step"]), b"");
    assert_eq!(outcome.code, 2);
    assert_one_line(
        &outcome.stderr,
        &["option '--step' cannot be used with --console: both read standard input (see --help)"],
    );
}
