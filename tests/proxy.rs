//! The proxy of the examples: data, half-closes and resets of one side reach the other side.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;
#[allow(dead_code, unreachable_pub)] // its `main`
#[path = "../examples/proxy.rs"]
mod example;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;

use common::{
    A_WHILE, DeadPort, PATIENCE, assert_same_bytes, noise, reset_on_close, send_until_stalled, turn_until,
};
use echo_reactor::{Address, ListenOptions, Reactor, Remote, start_server};

/// The proxy in a thread of its own.
struct Proxy {
    address: SocketAddr,
    remote: Remote,
    thread: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    fn to(backend: impl Into<Address>) -> Self {
        let backend = backend.into();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let any = ["127.0.0.1:0".parse().unwrap()];
            let handler = move |reader, writer| example::proxy(reader, writer, vec![backend.clone()]);
            let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
            let address = listener.addresses(&reactor).unwrap()[0].to_string();
            sender.send((address.parse().unwrap(), reactor.remote().unwrap())).unwrap();
            reactor.run().unwrap();
            listener.close(&mut reactor).unwrap();
            turn_until(&mut reactor, "all connections have ended", |reactor| reactor.source_count() == 1);
            assert_eq!(reactor.timer_count(), 0);
        });
        let (address, remote) = receiver.recv_timeout(PATIENCE).unwrap();
        Proxy { address, remote, thread: Some(thread) }
    }

    /// A client, and the connection that the backend accepts for it.
    fn pair(&self, backend: &TcpListener) -> (TcpStream, TcpStream) {
        let client = common::connect(&self.address.to_string());
        let (server, _) = backend.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        (client, server)
    }

    /// Ends the proxy. Asserts that both connections of each pair are gone.
    fn finish(mut self) {
        self.remote.call(Reactor::stop).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn backend() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn each_side_gets_what_the_other_sends_until_its_end_of_file() {
    let (listener, address) = backend();
    let proxy = Proxy::to(address);
    let (client, server) = proxy.pair(&listener);
    // One side ends first, and then the other. Until then, the other direction still works.
    for (mut first, mut last) in
        [(client, server), proxy.pair(&listener)].map(|(client, server)| (server, client))
    {
        for length in [10, 4 << 20] {
            let bytes = noise(length, 7);
            let (mut sink, sent) = (first.try_clone().unwrap(), bytes.clone());
            let sender = thread::spawn(move || sink.write_all(&sent));
            let mut got = vec![0; length];
            last.read_exact(&mut got).unwrap();
            assert_same_bytes(&got, &bytes);
            sender.join().unwrap().unwrap();
        }
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(last.read(&mut [0]).unwrap(), 0);
        let bytes = noise(1 << 20, 8);
        let sent = bytes.clone();
        let sender = thread::spawn(move || last.write_all(&sent));
        let mut got = Vec::new();
        first.read_to_end(&mut got).unwrap();
        assert_same_bytes(&got, &bytes);
        sender.join().unwrap().unwrap();
    }
    proxy.finish();
}

#[test]
fn slow_reader_makes_its_sender_wait_and_loses_nothing() {
    let (listener, address) = backend();
    let proxy = Proxy::to(address);
    let (mut client, mut server) = proxy.pair(&listener);
    let message = noise(65536, 9);
    let sent = send_until_stalled(&mut client, &message);
    assert!(sent < 64 << 20, "the proxy took {sent} bytes that nobody reads");
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    let expected: Vec<u8> = message.iter().cycle().take(sent).copied().collect();
    assert_same_bytes(&got, &expected);
    drop((client, server));
    proxy.finish();
}

#[test]
fn reset_of_either_side_is_a_reset_for_the_other() {
    let (listener, address) = backend();
    let proxy = Proxy::to(address);
    for client_resets in [true, false] {
        let (client, server) = proxy.pair(&listener);
        let (leaving, mut staying) = if client_resets { (client, server) } else { (server, client) };
        reset_on_close(&leaving);
        drop(leaving);
        assert_eq!(staying.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    proxy.finish();
}

#[test]
fn reset_after_a_half_close_does_not_block_the_other_side() {
    let (listener, address) = backend();
    let proxy = Proxy::to(address);
    for client_resets in [true, false] {
        let (client, server) = proxy.pair(&listener);
        let (leaving, mut staying) = if client_resets { (client, server) } else { (server, client) };
        leaving.shutdown(Shutdown::Write).unwrap();
        assert_eq!(staying.read(&mut [0]).unwrap(), 0);
        reset_on_close(&leaving);
        drop(leaving);
        staying.write_all(&[0; 1 << 20]).unwrap(); // the proxy takes it without delay
    }
    proxy.finish();
}

#[test]
fn answer_is_complete_even_if_its_sender_closed_and_the_client_keeps_sending() {
    let answer = noise(32 << 20, 10);
    let scratch = common::Scratch::new();
    let path = scratch.path("backend"); // a Unix socket that is closed takes no more bytes
    let listener = UnixListener::bind(&path).unwrap();
    let proxy = Proxy::to(Address::Unix(path));
    for goes_on in [false, true] {
        let mut client = common::connect(&proxy.address.to_string());
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"GET").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        // All buffers on the way are full when the backend closes. The backend has read everything,
        // so its close causes no reset.
        server.set_write_timeout(Some(A_WHILE)).unwrap();
        let mut sent = 0;
        while let Ok(count @ 1..) = server.write(&answer[sent..]) {
            sent += count;
        }
        drop(server);
        if goes_on {
            client.write_all(&[0; 1000]).unwrap();
        }
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_same_bytes(&got, &answer[..sent]);
    }
    proxy.finish();
}

#[test]
fn client_of_a_dead_backend_is_reset() {
    let dead = DeadPort::new();
    let proxy = Proxy::to(dead.1);
    let mut client = common::connect(&proxy.address.to_string());
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.finish();
}
