//! Several processes, one per core, share a port.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::net::TcpStream;

use common::{DeadPort, Server, connect, eventually, ping};
use rustix::net::{RecvFlags, recv};
use rustix::process::Signal;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: SO_REUSEPORT shares connections")]
fn two_servers_share_a_port_and_end_independently() {
    let held = DeadPort::new();
    let address = held.1.to_string();
    let start = || Server::on(&[&address], &["--reuse-port"]);
    let (mut one, two) = (start(), start());
    let mut streams: Vec<_> = (0..200).map(|_| connect(&address)).collect();
    streams.iter_mut().for_each(|stream| ping(stream, b"hello"));
    let (of_one, of_two) = (one.open_connections(), two.open_connections());
    assert_eq!(of_one + of_two, 200);
    assert!(of_one > 20 && of_two > 20, "{of_one} and {of_two}: the kernel distributes connections");

    // The first server stops listening, and then closes its connections gracefully. A connection
    // that arrives before that may reach the first server, and is then reset.
    one.process.signal(Signal::TERM);
    let has_ended = |stream: &&TcpStream| matches!(recv(stream, &mut [0], RecvFlags::DONTWAIT), Ok((_, 0)));
    eventually("its connections are closed", || streams.iter().filter(has_ended).count() as u64 == of_one);
    // The connections of the second server are not affected, and it gets all new connections.
    let before = two.statistics()[1];
    (0..20).for_each(|_| ping(&mut connect(&address), b"new"));
    assert_eq!(two.statistics()[1], before + 20);
    streams.iter_mut().filter(|stream| !has_ended(&&**stream)).for_each(|stream| ping(stream, b"hello"));
    drop(streams);
    assert_eq!(one.process.wait_code(), 0);
    ping(&mut connect(&address), b"still here");
}
