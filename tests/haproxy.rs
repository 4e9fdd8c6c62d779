//! Behind a proxy: HAProxy in TCP mode balances two `echo-server`s, and one is killed.
//!
//! It needs `haproxy` (a Debian package), so it runs only on request:
//! `cargo test --test haproxy -- --ignored`.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use common::{
    DeadPort, Process, Scratch, Server, assert_same_bytes, client_command, collect, connect, eventually,
    noise, ping,
};
use rustix::process::Signal;

/// A running proxy, and its address.
struct Proxy {
    _process: Process,
    address: String,
    _scratch: Scratch,
}

impl Proxy {
    fn in_front_of(backends: &[&str]) -> Self {
        let scratch = Scratch::new();
        // The port was free a moment ago, and few other processes look for one.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let servers: String = (1..)
            .zip(backends)
            .map(|(number, address)| {
                format!("    server s{number} {address} check inter 100ms fall 1 rise 1\n")
            })
            .collect();
        let configuration = format!(
            "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\n    \
             retries 3\n    option redispatch 1\nfrontend front\n    bind {address}\n    default_backend echo\n\
             backend echo\n    balance roundrobin\n{servers}"
        );
        let path = scratch.file("haproxy.cfg", configuration.as_bytes());
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::spawn(&mut command);
        eventually("the proxy listens", || std::net::TcpStream::connect(&address).is_ok());
        Proxy { _process: process, address, _scratch: scratch }
    }
}

#[test]
#[ignore = "needs haproxy"]
fn killed_backend_loses_no_byte_and_new_connections_reach_the_other() {
    // Each server keeps its port while it is down.
    let held = [DeadPort::new(), DeadPort::new()];
    let start = |port: &DeadPort| Server::on(&[&port.1.to_string()], &["--reuse-port"]);
    let mut servers = [start(&held[0]), start(&held[1])];
    let proxy = Proxy::in_front_of(&[servers[0].address(), servers[1].address()]);

    let bytes = noise(64 << 20, 91);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut command = client_command();
        command.args(["--reconnect", "-q", &proxy.address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = Process::spawn(&mut command);
        let mut stdin = client.child.stdin.take().unwrap();
        let sent = bytes.clone();
        let fed = thread::spawn(move || {
            // Send in pieces, so that the transfer lasts while servers are killed and restarted.
            for piece in sent.chunks(1 << 20) {
                stdin.write_all(piece).unwrap();
                thread::sleep(std::time::Duration::from_millis(20)); // a slow input
            }
        });
        let stderr = collect(client.child.stderr.take().unwrap());
        let stdout = collect(client.child.stdout.take().unwrap());
        clients.push((client, fed, stdout, stderr));
    }
    // Kill one server after the other during the transfer, and restart it.
    for index in [0, 1, 0] {
        let moved = servers[index].statistics()[3];
        eventually("bytes move through this server", || servers[index].statistics()[3] > moved + (4 << 20));
        servers[index].process.signal(Signal::KILL);
        servers[index].process.wait();
        for _ in 0..20 {
            ping(&mut connect(&proxy.address), b"the other server answers");
        }
        servers[index] = start(&held[index]);
        eventually("the proxy has noticed the restart", || {
            ping(&mut connect(&proxy.address), b"which server?");
            servers[index].statistics()[3] > 0
        });
    }
    for (mut client, fed, stdout, stderr) in clients {
        fed.join().unwrap();
        assert_eq!(client.wait_code(), 0);
        assert_same_bytes(&stdout.recv_timeout(common::PATIENCE).unwrap(), &bytes);
        assert_eq!(String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap(), "");
    }
}

#[test]
#[ignore = "needs haproxy"]
fn half_close_through_the_proxy_loses_no_byte() {
    let server = Server::start(&[]);
    let proxy = Proxy::in_front_of(&[server.address()]);
    let bytes = noise(16 << 20, 92);
    let mut stream = connect(&proxy.address);
    let echo = collect(stream.try_clone().unwrap());
    stream.write_all(&bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}
