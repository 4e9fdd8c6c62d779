//! The largest value of a type means "no limit" and never overflows.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Echo, noise, turn_until};
use echo_reactor::{
    ConnectOptions, Connection, LineBuffer, ListenOptions, Mailbox, Reactor, Reader, Writer,
    create_connection, start_server,
};

#[test]
fn longest_duration_means_no_limit() {
    let mut reactor = Reactor::new().unwrap();
    assert!(reactor.run_until(Duration::MAX, |_| true).unwrap());
    let timer = reactor.call_later(Duration::MAX, |_| panic!("never"));
    reactor.call_later(Duration::from_millis(1), Reactor::stop);
    reactor.run().unwrap();
    reactor.cancel(timer);
    reactor.call_soon(|_| ());
    reactor.turn(Some(Duration::MAX)).unwrap();

    let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
    let handle = Connection::from_socket(&mut reactor, ours, Echo).unwrap();
    handle
        .enter(&mut reactor, |_, transport| {
            transport.set_idle_timeout(Some(Duration::MAX));
            transport.set_write_marks(usize::MAX, usize::MAX);
        })
        .unwrap();
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the byte was echoed", |_| peer.read(&mut [0]).is_ok());

    let mut options = ConnectOptions::default();
    options.timeout = Duration::MAX;
    let dead = common::DeadPort::new();
    create_connection(&mut reactor, &[dead.1.into()], &options, Echo);
    turn_until(&mut reactor, "connecting has failed", |reactor| reactor.source_count() == 1);
}

#[test]
fn longest_spin_still_runs_timers() {
    let mut reactor = Reactor::new().unwrap();
    reactor.set_spin(Duration::MAX);
    let began = Instant::now();
    reactor.call_later(Duration::from_millis(5), Reactor::stop);
    reactor.run().unwrap();
    assert!(began.elapsed() < common::PATIENCE);
}

#[test]
fn largest_count_means_no_limit() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, usize::MAX);
    assert_eq!(mailbox.try_send(&mut reactor, mailbox.id(), 1), Ok(()));
    let mut lines = LineBuffer::new(usize::MAX);
    lines.push(b"a\n");
    assert_eq!(lines.next_line(), Ok(Some(b"a\n".to_vec())));
}

#[test]
fn largest_read_limit_means_no_limit() {
    let mut reactor = Reactor::new().unwrap();
    let handler = |mut reader: Reader, mut writer: Writer| async move {
        for _ in 0..2 {
            let line = reader.read_line(usize::MAX).await?.unwrap();
            writer.write_all(&line).await?;
            let record = reader.read_until(0, usize::MAX).await?.unwrap();
            writer.write_all(&record).await?;
        }
        assert!(reader.read_exactly(usize::MAX).await.is_err(), "the stream ends earlier");
        Ok(())
    };
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
    let mut peer = TcpStream::connect(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap();
    let text: Vec<u8> = noise(200_000, 7).into_iter().map(|byte| byte | 128).collect();
    let client = std::thread::spawn(move || {
        for end in [b"\n", b"\0", b"\n", b"\0"] {
            let sent = [&text[..], end].concat();
            peer.write_all(&sent).unwrap();
            let mut back = vec![0; sent.len()];
            peer.read_exact(&mut back).unwrap();
            common::assert_same_bytes(&back, &sent);
        }
    });
    turn_until(&mut reactor, "everything was echoed", |_| client.is_finished());
    client.join().unwrap();
}
