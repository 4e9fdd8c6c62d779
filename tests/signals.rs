//! The effect of a signal on the two programs, and the exit status that their parent sees.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::{
    Lines, Process, Scratch, Server, Terminal, assert_one_line, client_command, connect_unix, end,
    eventually, outcome, ping, server_command,
};
use rustix::process::Signal;

const SERVER: &str = env!("CARGO_BIN_EXE_echo-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");

/// A shell that runs `script`, which replaces the shell by one of the programs.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env_remove("RUST_LOG").stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn signals_ignored_at_the_start_stay_ignored_in_the_server() {
    let mut server = Server::run(&mut shell(&format!("trap '' INT HUP USR1; exec {SERVER} 127.0.0.1:0")), 1);
    for signal in [Signal::INT, Signal::HUP, Signal::USR1] {
        server.process.signal(signal);
    }
    let mut stream = server.connect();
    ping(&mut stream, b"still here");
    end(&mut stream);
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(server.err.rest().is_empty());
}

#[test]
fn signals_ignored_at_the_start_stay_ignored_in_the_client() {
    let server = Server::start(&[]);
    let mut client =
        Process::spawn(&mut shell(&format!("trap '' INT TERM; exec {CLIENT} {}", server.address())));
    let mut stdin = client.child.stdin.take().unwrap();
    let out = Lines::of(client.child.stdout.take().unwrap());
    for text in ["before", "after"] {
        writeln!(stdin, "{text}").unwrap();
        assert_eq!(out.next(), text);
        client.signal(Signal::INT);
        client.signal(Signal::TERM);
    }
    drop(stdin);
    assert_eq!(client.wait_code(), 0);
}

#[test]
fn sighup_ends_the_server_as_sigterm_does() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut server = Server::on(&[&format!("unix:{}", path.display())], &[]);
    ping(&mut connect_unix(&path), b"x");
    server.process.signal(Signal::HUP);
    assert_eq!(server.process.wait_code(), 0);
    assert!(!path.exists());
}

#[test]
fn client_ended_by_a_signal_dies_by_that_signal() {
    let server = Server::start(&[]);
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = client_command();
        command.arg(server.address()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = Process::spawn(&mut command);
        writeln!(client.child.stdin.as_mut().unwrap(), "hello").unwrap();
        assert_eq!(Lines::of(client.child.stdout.take().unwrap()).next(), "hello");
        client.signal(signal);
        assert_eq!(client.wait().signal(), Some(signal.as_raw()));
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: unshare(1)")]
fn signal_to_process_1_of_a_container_becomes_the_exit_status() {
    // The kernel does not end the first process of a container by a default action.
    const CONTAINER: [&str; 3] = ["--map-root-user", "--pid", "--fork"];
    if !Command::new("unshare").args(CONTAINER).arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: this machine allows no PID namespace");
        return;
    }
    let server = Server::start(&[]);
    let script = format!("exec {CLIENT} {} > >(read && kill -TERM 1; cat)", server.address());
    let mut command = Command::new("unshare");
    command.args(CONTAINER).args(["bash", "-c", &script]).stdin(Stdio::piped());
    let mut client = Process::spawn(&mut command);
    writeln!(client.child.stdin.as_mut().unwrap(), "hello").unwrap();
    assert_eq!(client.wait_code(), 128 + Signal::TERM.as_raw());
}

#[test]
fn server_dies_by_the_second_signal() {
    let mut server = Server::start(&["-v", "--grace", "60"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    server.process.signal(Signal::TERM);
    server.err.next_with("shutting down");
    server.process.signal(Signal::HUP);
    assert_eq!(server.process.wait().signal(), Some(Signal::HUP.as_raw()));
    let rest = server.err.rest();
    assert!(rest.iter().all(|line| !line.contains("had not finished")), "{rest:?}");
}

#[test]
fn file_size_limit_on_log_and_timeline_does_not_end_the_server() {
    let scratch = Scratch::new();
    let (log, timeline, socket) = (scratch.path("log"), scratch.path("timeline"), scratch.path("socket"));
    // The unit of `ulimit -f` is 512 or 1024 bytes.
    let script = format!(
        "ulimit -f 8; exec {SERVER} -vvv --timeline {} unix:{} >{} 2>&1",
        timeline.display(),
        socket.display(),
        log.display()
    );
    let mut process = Process::spawn(&mut shell(&script));
    eventually("the server listens", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
    });
    for _ in 0..300 {
        ping(&mut connect_unix(&socket), b"x");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 0);
    assert!(fs::metadata(log).unwrap().len() >= 4000, "the limit was not reached");
}

#[test]
fn file_size_limit_on_stdout_is_an_error_of_the_client() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let script =
        format!("ulimit -f 1; exec {CLIENT} {} >{}", server.address(), scratch.path("out").display());
    let mut process = Process::spawn(&mut shell(&script));
    let _ = process.child.stdin.take().unwrap().write_all(&[b'x'; 5000]);
    let outcome = outcome(process);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["echo-client: cannot write standard output: File too large"]);
}

#[test]
fn sigint_moves_the_cursor_below_the_echoed_ctrl_c() {
    for (signal, end) in [(Signal::INT, "\n\n"), (Signal::TERM, "\n")] {
        let mut terminal = Terminal::new();
        let mut command = server_command();
        command.args(["-v", "127.0.0.1:0"]).stdout(terminal.stdio()).stderr(terminal.stdio());
        let mut process = Process::spawn(&mut command);
        terminal.see("listening on ");
        process.signal(signal);
        assert_eq!(process.wait_code(), 0);
        let shown = terminal.unseen().replace('\r', "");
        let before = shown.split_once("echo-server: shutting down").unwrap().0;
        assert_eq!(before.trim_start_matches(|c| c != '\n'), end, "{shown:?}");
    }
}
