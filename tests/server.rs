//! The promises of `echo-server` to its peers and its operator.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::thread;

use common::{
    DeadPort, Network, Scratch, Server, assert_same_bytes, connect, connect_unix, eventually, has_ipv6,
    noise, ping, server_command,
};
use rustix::process::Signal;

#[test]
fn server_echoes_in_order_over_tcp_and_unix() {
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
fn sigusr1_logs_one_line_of_integers_at_any_log_level() {
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
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: SO_REUSEPORT shares connections")]
fn killed_server_can_restart_on_its_addresses() {
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

#[test]
fn verbose_logs_the_start_and_end_of_each_connection() {
    let server = Server::start(&["-v"]);
    let ended = |server: &Server, number: u32, peer: &str, why: &str| {
        let line = server.err.next_with(&format!("connection {number} from {peer} ended after "));
        let (seconds, rest) = line.split_once(" ended after ").unwrap().1.split_once(" s: ").unwrap();
        assert!(seconds.parse::<f64>().unwrap() < 20.0, "{line}");
        assert_eq!(rest, format!("{why}; bytes: 5 in, 5 out"));
    };
    let begin = |server: &Server, number: u32| {
        let mut stream = server.connect();
        ping(&mut stream, b"hello");
        let peer = stream.local_addr().unwrap().to_string();
        assert_eq!(server.err.next(), format!("echo-server: connection {number} from {peer}"));
        (stream, peer)
    };
    let (stream, peer) = begin(&server, 1);
    drop(stream);
    ended(&server, 1, &peer, "closed by the peer");
    let (stream, peer) = begin(&server, 2);
    common::reset_on_close(&stream);
    drop(stream);
    ended(&server, 2, &peer, "Connection reset by peer");
    let impatient = Server::start(&["-v", "--idle-timeout", "1"]);
    let (_stream, peer) = begin(&impatient, 1);
    ended(&impatient, 1, &peer, "idle for too long");
}

#[test]
fn verbose_log_distinguishes_orderly_shutdown_from_timeout() {
    for (peer_closes, why) in [(true, "closed at shutdown"), (false, "aborted at shutdown")] {
        let mut server = Server::start(&["-v", "--grace", if peer_closes { "20" } else { "0.1" }]);
        let mut stream = server.connect();
        ping(&mut stream, b"hello");
        server.process.signal(Signal::TERM);
        server.err.next_with("shutting down; 1 connection open");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let open = Some(stream).filter(|_| !peer_closes);
        server.err.next_with(&format!(": {why}; bytes: 5 in, 5 out"));
        assert_eq!(server.process.wait_code(), 0);
        drop(open);
    }
}

#[test]
fn unnamed_unix_peer_is_shown_with_its_process_id() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let server = Server::on(&[&format!("unix:{}", path.display())], &["-v"]);
    ping(&mut connect_unix(&path), b"x");
    let expected = format!("echo-server: connection 1 from unix:pid={}", std::process::id());
    assert_eq!(server.err.next(), expected);
}

#[test]
fn several_addresses_are_all_or_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let unix = format!("unix:{}", path.display());
    let outcome = common::run(common::server_command().args(["0.0.0.0:0", &unix, &taken]), b"");
    assert_eq!((outcome.code, outcome.stdout.len()), (1, 0));
    let expected = format!("echo-server: cannot listen on {taken}: Address already in use\n");
    assert_eq!(outcome.stderr, expected);
    assert!(!path.exists());
}

#[test]
fn address_that_another_address_of_the_server_includes_is_in_use_by_that_one() {
    let Some(network) = Network::new("") else { return };
    let failure = |addresses: [&str; 2]| {
        let outcome = common::run(&mut network.command(server_command().args(addresses)), b"");
        assert_eq!((outcome.code, outcome.stdout.len()), (1, 0));
        outcome.stderr
    };
    let expected = |[one, other]: [&str; 2]| {
        let error = format!("cannot listen on {other}: Address already in use");
        format!("echo-server: {error} by {one}, another address of this server\n")
    };
    let (every, one) = ("0.0.0.0:7777", "127.0.0.1:7777");
    assert_eq!(failure([every, one]), expected([every, one]));
    assert_eq!(failure([one, every]), expected([one, every]));
    let foreign = "192.0.2.1:7777";
    let stderr = failure([every, foreign]);
    assert_eq!(stderr, format!("echo-server: cannot listen on {foreign}: Cannot assign requested address\n"));
    if has_ipv6() {
        assert_eq!(failure([":7777", one]), expected(["[::]:7777", one]));
        let _other = Server::run(&mut network.command(server_command().arg(every)), 1);
        // Here, `[::]` does not include IPv4.
        let stderr = failure(["[::]:7777", every]);
        assert_eq!(stderr, format!("echo-server: cannot listen on {every}: Address already in use\n"));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn backlog_limits_pending_connections() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let server = Server::on(&[&format!("unix:{}", path.display())], &["-c1", "--backlog", "3"]);
    let mut served = connect_unix(&path);
    ping(&mut served, b"x");
    server.process.comes_to_rest();
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let connect_now = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(&path).unwrap()).map(|()| socket)
    };
    // The kernel allows one more pending connection than the backlog.
    let waiting: Vec<_> = (0..4).map(|_| connect_now().unwrap()).collect();
    assert!(connect_now().is_err());
    drop(waiting);
}
