//! Text from a peer, a name server or a user cannot forge a line or control the terminal.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Command, Stdio};

use common::{Lines, Process, Scratch, Server, client_command, ping, server_command};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket};

/// A line break, a cursor movement, a C1 control character, and a byte that is not UTF-8.
const NASTY: &[u8] = b"a\nechoed: forged\r\x1b[2J\x1b]0;title\x07\xc2\x9b\xff\x7f";
const SHOWN: &str = "a\\nechoed: forged\\r\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{9b}\\xff\\u{7f}";

fn nasty(before: &str) -> OsString {
    OsString::from_vec([before.as_bytes(), NASTY].concat())
}

#[test]
fn peer_name_is_escaped_in_the_log_and_in_the_list() {
    let scratch = Scratch::new();
    let mut command = server_command();
    command.args(["-v", "--console", "unix:socket"]).current_dir(scratch.path("")).stdin(Stdio::piped());
    let mut server = Server::run(&mut command, 1);
    let mut operator: ChildStdin = server.process.child.stdin.take().unwrap();
    let peer = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let name = nasty(scratch.path("x").to_str().unwrap());
    bind(&peer, &SocketAddrUnix::new(name.as_bytes()).unwrap()).unwrap();
    connect(&peer, &SocketAddrUnix::new(scratch.path("socket")).unwrap()).unwrap();
    let mut peer = UnixStream::from(peer);
    ping(&mut peer, b"x");
    let line = server.err.next_with("connection");
    assert!(line.contains(SHOWN), "{line}");
    operator.write_all(b"list\n").unwrap();
    let line = server.out.next_with("unix:");
    assert!(line.contains(SHOWN), "{line}");
    operator.write_all(NASTY).unwrap();
    operator.write_all(b"\n").unwrap();
    server.out.next_with("error: unknown command 'a'");
    let line = server.out.next();
    assert!(line.contains(SHOWN.strip_prefix("a\\n").unwrap()), "{line}");
}

#[test]
fn socket_path_is_escaped_on_stdout() {
    let scratch = Scratch::new();
    let mut command = server_command();
    command.arg(nasty("unix:")).current_dir(scratch.path("")).stdout(Stdio::piped());
    let mut server = Process::spawn(&mut command);
    let out = Lines::of(server.child.stdout.take().unwrap());
    assert_eq!(out.next(), format!("listening on unix:{SHOWN}"));
}

/// The diagnostic of a program that fails.
fn stderr(command: &mut Command) -> String {
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut bytes = Vec::new();
    process.child.stderr.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert_ne!(process.wait_code(), 0);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn paths_and_names_are_escaped_in_errors() {
    for command in [
        server_command().arg(nasty("unix:/nonexistent/")),
        client_command().arg(nasty("unix:/nonexistent/")),
        server_command().args(["127.0.0.1:0", "--timeline"]).arg(nasty("/nonexistent/")),
        client_command().args(["127.0.0.1:1", "--timeline"]).arg(nasty("/nonexistent/")),
        server_command().arg(nasty("unix:/dev/null/")),
    ] {
        let text = stderr(command);
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?}");
        assert!(text.contains(SHOWN), "{text:?}");
    }
}

#[test]
fn host_names_and_arguments_are_escaped_in_errors() {
    let host = "a\nb\x1b\u{9b}.invalid:1";
    for command in [
        server_command().arg(host),
        client_command().arg(host),
        client_command().arg("--a\nb\x1b[2J\u{9b}"),
        client_command().args(["-w", "1\n\x1b\u{9b}"]),
    ] {
        let text = stderr(command);
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(|c: char| c.is_control()), "{text:?}");
    }
}
