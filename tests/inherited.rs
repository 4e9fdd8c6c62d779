//! Listening sockets that `echo-server` inherits from its parent (`LISTEN_FDS`).

#![cfg(target_os = "linux")] // only Linux has socket activation
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use common::{Scratch, Server, assert_one_line, connect, connect_unix, outcome, ping, send_until_stalled};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::process::Signal;

/// A server that inherits `handed`, which the shell moves to descriptor 3 as systemd would.
fn command(handed: OwnedFd, variables: &str, arguments: &str) -> Command {
    let program = env!("CARGO_BIN_EXE_echo-server");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{variables} exec {program} {arguments} 3<&0 0</dev/null 4<&-")])
        .env_remove("RUST_LOG")
        .stdin(handed)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

const MEANT_FOR_IT: &str = "LISTEN_PID=$$ LISTEN_FDS=1";

#[test]
fn inherited_socket_replaces_the_default_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::run(&mut command(listener.into(), MEANT_FOR_IT, ""), 1);
    assert_eq!(server.addresses, [address]);
    let mut stream = server.connect();
    ping(&mut stream, b"hello");
    // An accepted socket has the options of a socket that the server itself creates.
    assert_eq!(send(&stream, b"!", SendFlags::OOB).unwrap(), 1);
    let mut echo = [0];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"!");
    assert!(server.out.so_far().is_empty(), "the server listens only there");
}

#[test]
fn addresses_are_served_next_to_inherited_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::run(&mut command(listener.into(), MEANT_FOR_IT, "127.0.0.1:0 127.0.0.2:0"), 3);
    for address in &server.addresses {
        ping(&mut connect(address), b"hello");
    }
}

#[test]
fn connection_during_restart_is_served_by_the_next_server() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..3 {
        let mut early = connect_unix(&path);
        let handed = listener.try_clone().unwrap();
        let mut server = Server::run(&mut command(handed.into(), MEANT_FOR_IT, ""), 1);
        ping(&mut early, b"hello");
        drop(early);
        server.process.signal(Signal::TERM);
        assert_eq!(server.process.wait_code(), 0);
        assert!(path.exists(), "an inherited socket file is kept");
    }
}

#[test]
fn connection_during_shutdown_does_not_make_the_server_spin() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handed = OwnedFd::from(listener.try_clone().unwrap());
    let mut server = Server::run(&mut command(handed, MEANT_FOR_IT, "-v --grace 60"), 1);
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    server.process.signal(Signal::TERM);
    server.err.next_with("shutting down");
    let _late = connect(&address); // waits in the kernel's queue for the next server
    server.process.comes_to_rest();
    drop(stalled);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn shut_down_listening_socket_is_dropped_and_the_others_still_work() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let handed = OwnedFd::from(listener.try_clone().unwrap());
    let server = Server::run(&mut command(handed, MEANT_FOR_IT, "127.0.0.1:0"), 2);
    shutdown(&listener, Shutdown::Read).unwrap();
    server.err.next_with(" any more: Invalid argument");
    server.process.comes_to_rest();
    ping(&mut connect(&server.addresses[1]), b"hello");
}

#[test]
fn server_whose_last_listening_socket_fails_exits_1() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let handed = OwnedFd::from(listener.try_clone().unwrap());
    let mut server = Server::run(&mut command(handed, MEANT_FOR_IT, ""), 1);
    let mut open = server.connect();
    ping(&mut open, b"hello");
    shutdown(&listener, Shutdown::Read).unwrap();
    server.err.next_with(" any more: Invalid argument");
    assert_eq!(std::io::Read::read(&mut open, &mut [0]).unwrap(), 0, "the connection ends without a reset");
    drop(open);
    assert_eq!(server.process.wait_code(), 1);
}

#[test]
fn sockets_of_another_process_are_ignored() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = command(listener.into(), "LISTEN_PID=1 LISTEN_FDS=1", "127.0.0.1:0");
    assert_ne!(Server::run(&mut command, 1).addresses, [address]);
}

#[test]
fn unusable_descriptor_is_named_in_the_error() {
    let (pipe, _writer) = common::pipe();
    let connected = OwnedFd::from(UnixStream::pair().unwrap().0);
    let listening = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let empty = "LISTEN_PID=$$ LISTEN_FDS=''";
    for (handed, variables, reason) in [
        (pipe, MEANT_FOR_IT, "cannot use descriptor 3 (LISTEN_FDS): not a listening stream socket"),
        (connected, MEANT_FOR_IT, "descriptor 3 (LISTEN_FDS): not a listening stream socket"),
        (listening(), "LISTEN_PID=$$ LISTEN_FDS=2", "descriptor 4 (LISTEN_FDS): Bad file descriptor"),
        (listening(), "LISTEN_PID=$$ LISTEN_FDS=many", "LISTEN_FDS is not a number: 'many'"),
        (listening(), empty, "LISTEN_FDS is not a number: ''"),
    ] {
        let outcome = outcome(common::Process::spawn(&mut command(handed, variables, "127.0.0.1:0")));
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &["echo-server: ", reason]);
        assert!(outcome.stdout.is_empty());
    }
}

#[test]
fn multipath_tcp_socket_is_served_without_urgent_data() {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, ipproto, listen, socket};
    let Ok(socket) = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)) else {
        return eprintln!("skipped: this kernel has no multipath TCP");
    };
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&socket, 1).unwrap();
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap().to_string();
    let server = Server::run(&mut command(socket, MEANT_FOR_IT, ""), 1);
    assert_eq!(server.addresses, [address]);
    ping(&mut server.connect(), b"hello");
}
