//! `echo-client` in front of a person: a prompt that waits while the answers come.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::io::{Read, Write};
use std::process::Stdio;

use common::{Process, Server, Terminal, client_command, eventually, serve_once};

const ERASE: &str = "\r\x1b[K";

fn client(terminal: &Terminal, address: &str) -> Process {
    Process::spawn(
        client_command()
            .arg(address)
            .stdin(terminal.stdio())
            .stdout(terminal.stdio())
            .stderr(terminal.stdio()),
    )
}

#[test]
fn the_echo_appears_while_the_prompt_is_open() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, server.address());
    terminal.see(&format!("connected to {}\r\n", server.address()));
    terminal.see("> ");
    for line in ["hello", "and again"] {
        terminal.type_in(&format!("{line}\n"));
        // What was typed, a new prompt, and the echo in its place; then the prompt is back.
        terminal.see(&format!("{line}\r\n"));
        terminal.see(&format!("{ERASE}< {line}\r\n> "));
    }
    terminal.type_in("\x04"); // ^D
    assert_eq!(process.wait_code(), 0);
    assert_eq!(terminal.unseen(), "\r\n", "the shell's prompt gets a line of its own");
}

#[test]
fn the_servers_own_words_appear_although_nobody_types() {
    let (address, server) = serve_once(|mut stream| {
        stream.write_all(b"first\nsecond\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, &address);
    terminal.see("> ");
    terminal.see(&format!("{ERASE}< first\r\n< second\r\n> "));
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
    server.join().unwrap();
}

#[test]
fn a_line_that_comes_in_pieces_is_begun_once() {
    let (address, server) = serve_once(|mut stream| {
        stream.write_all(b"he").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"llo\nno newline").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, &address);
    terminal.see(&format!("{ERASE}< he"));
    terminal.type_in("\n");
    terminal.see("llo\r\n");
    terminal.see("< no newline");
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
    assert_eq!(terminal.unseen(), "\r\n");
    server.join().unwrap();
}

#[test]
fn a_server_that_goes_away_ends_it_although_nobody_types() {
    let (address, server) = serve_once(drop);
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, &address);
    assert_eq!(process.wait_code(), 1);
    terminal.see(&format!("echo-client: {address} closed the connection before the end of the input"));
    server.join().unwrap();
}

#[test]
fn ctrl_c_is_130() {
    let server = Server::start(&[]);
    let terminal = Terminal::new();
    let mut process = client(&terminal, server.address());
    eventually("it is connected", || server.open_connections() == 1);
    process.signal(rustix::process::Signal::INT);
    assert_eq!(process.wait_code(), 130);
}

#[test]
fn where_stdout_is_no_terminal_it_carries_the_bytes_alone() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut process = Process::spawn(
        client_command()
            .arg(server.address())
            .stdin(terminal.stdio())
            .stdout(Stdio::piped())
            .stderr(terminal.stdio()),
    );
    let stdout = common::collect(process.child.stdout.take().unwrap());
    terminal.type_in("hello\n\x04");
    assert_eq!(process.wait_code(), 0);
    assert_eq!(stdout.recv_timeout(common::PATIENCE).unwrap(), b"hello\n");
    assert_eq!(terminal.unseen(), "hello\r\n", "no prompt, no greeting");
}

#[test]
fn watching_the_loop_on_a_terminal_does_not_keep_it_awake() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut command = client_command();
    command.args(["-vvv", server.address()]);
    let mut process =
        Process::spawn(command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio()));
    terminal.see("> ");
    process.comes_to_rest();
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn background_job_with_the_terminal_as_stdin_runs_until_somebody_types() {
    let (address, server) = serve_once(|mut stream| {
        stream.write_all(b"hello\n").unwrap();
        stream
    });
    let scratch = common::Scratch::new();
    let out = scratch.path("out");
    let terminal = Terminal::new();
    // A shell with job control, whose terminal this is: another process group of it may not be read from.
    let script =
        format!("set -m; {} {address} >{} & wait %1", env!("CARGO_BIN_EXE_echo-client"), out.display(),);
    let mut command = std::process::Command::new("setsid");
    command.args(["--wait", "--ctty", "bash", "-c", &script]);
    let mut shell =
        Process::spawn(command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio()));
    eventually("what the server says is there", || std::fs::read(&out).is_ok_and(|text| text == b"hello\n"));
    drop(server.join().unwrap()); // which ends the client
    assert_eq!(shell.wait_code(), 1);
}
