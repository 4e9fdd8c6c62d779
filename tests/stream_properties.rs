//! Property tests: the two halves of a stream and its peer act in random order. No wake-up is
//! missed, no loop spins, and the bytes received are always the bytes sent.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Scratch, assert_same_bytes, connect, connect_unix, noise};
use echo_reactor::observe::{DispatchEnd, Observer};
use echo_reactor::{
    Address, Either, ListenOptions, LoopHandle, Reactor, Reader, Writer, join, race, start_server,
};
use proptest::prelude::*;
use rustix::net::sockopt::set_socket_linger;

/// An act of the task that reads.
#[derive(Clone, Debug)]
enum Input {
    Read(usize),
    Exactly(usize),
    Line,
    /// A read that is dropped after this many turns.
    Cancelled(usize, u8),
    Timeout(usize),
    Turns(u8),
}

/// An act of the task that writes.
#[derive(Clone, Debug)]
enum Output {
    Write(usize),
    Try(usize),
    Cancelled(usize, u8),
    Flush,
    Marks(usize),
    Eof,
    Turns(u8),
}

/// An act of the peer or of the loop.
#[derive(Clone, Debug)]
enum Step {
    Writes(usize),
    Reads(usize),
    Ends,
    Turn,
}

const SIZE: std::ops::Range<usize> = 1..150_000;

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => SIZE.prop_map(Input::Read),
        2 => SIZE.prop_map(Input::Exactly),
        2 => Just(Input::Line),
        3 => (SIZE, 0..4_u8).prop_map(|(count, turns)| Input::Cancelled(count, turns)),
        1 => SIZE.prop_map(Input::Timeout),
        2 => (0..4_u8).prop_map(Input::Turns),
    ]
}

fn output() -> impl Strategy<Value = Output> {
    prop_oneof![
        4 => SIZE.prop_map(Output::Write),
        4 => (1..3000_usize).prop_map(Output::Write),
        2 => SIZE.prop_map(Output::Try),
        3 => (SIZE, 0..4_u8).prop_map(|(count, turns)| Output::Cancelled(count, turns)),
        2 => Just(Output::Flush),
        1 => (0..100_000_usize).prop_map(Output::Marks),
        1 => Just(Output::Eof),
        2 => (0..4_u8).prop_map(Output::Turns),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => SIZE.prop_map(Step::Writes),
        6 => SIZE.prop_map(Step::Reads),
        1 => Just(Step::Ends),
        8 => Just(Step::Turn),
    ]
}

/// What was received, or written.
type Bytes = Rc<RefCell<Vec<u8>>>;

/// Both sides send these bytes. About every thousandth is a newline.
fn source() -> &'static [u8] {
    static SOURCE: OnceLock<Vec<u8>> = OnceLock::new();
    SOURCE.get_or_init(|| noise(8 << 20, 71))
}

/// The next bytes that follow what was sent.
fn next_bytes(sent: usize, count: usize) -> &'static [u8] {
    &source()[sent..sent + count]
}

async fn turns(handle: &LoopHandle, count: u8) {
    for _ in 0..count {
        handle.call(|_| ()).await;
    }
}

/// Returns whether it has read to the end of file.
async fn read(mut reader: Reader, script: Vec<Input>, reads_all: bool, got: Bytes) -> io::Result<bool> {
    let handle = reader.handle();
    let mut buffer = vec![0; SIZE.end];
    for input in script {
        let read = match input {
            Input::Read(size) => reader.read(&mut buffer[..size]).await.map(|count| buffer[..count].to_vec()),
            Input::Exactly(count) => reader.read_exactly(count).await,
            Input::Line => reader.read_line(10_000).await.map(Option::unwrap_or_default),
            Input::Cancelled(count, after) => {
                match race(reader.read_exactly(count), turns(&handle, after)).await {
                    Either::First(read) => read,
                    Either::Second(()) => Ok(Vec::new()),
                }
            }
            Input::Timeout(count) => {
                let read = handle.timeout(Duration::ZERO, reader.read_exactly(count)).await;
                read.unwrap_or(Ok(Vec::new()))
            }
            Input::Turns(count) => {
                turns(&handle, count).await;
                Ok(Vec::new())
            }
        };
        match read {
            Ok(bytes) => got.borrow_mut().extend_from_slice(&bytes),
            // There is no line, or there are too few bytes.
            Err(error) if [ErrorKind::InvalidData, ErrorKind::UnexpectedEof].contains(&error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
    if !reads_all {
        return Ok(false);
    }
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(true),
            count => got.borrow_mut().extend_from_slice(&buffer[..count]),
        }
    }
}

async fn write(mut writer: Writer, script: Vec<Output>, stays: bool, written: Bytes) {
    let handle = writer.handle();
    for output in script {
        let sent = written.borrow().len();
        let result = match output {
            Output::Write(count) => writer.write_all(next_bytes(sent, count)).await.map(|()| count),
            Output::Try(count) => writer.try_write(next_bytes(sent, count)).map(|()| count),
            Output::Cancelled(count, after) => {
                match race(writer.write_all(next_bytes(sent, count)), turns(&handle, after)).await {
                    Either::First(result) => result.map(|()| count),
                    Either::Second(()) => Ok(0),
                }
            }
            Output::Flush => writer.flush().await.map(|()| 0),
            Output::Marks(high) => {
                writer.set_write_marks(high, high / 4);
                Ok(0)
            }
            Output::Eof => {
                writer.write_eof();
                Ok(0)
            }
            Output::Turns(count) => {
                turns(&handle, count).await;
                Ok(0)
            }
        };
        match result {
            Ok(count) => written.borrow_mut().extend_from_slice(next_bytes(sent, count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break, // after an end of file, or the peer has vanished
        }
    }
    if stays {
        writer.broken().await;
    }
}

/// Counts the calls of sources.
struct Calls(Rc<Cell<u32>>);

impl Observer for Calls {
    fn on_dispatch(&mut self, _: &DispatchEnd) {
        self.0.set(self.0.get() + 1);
    }
}

fn accept(reactor: &mut Reactor, is_tcp: bool) -> (Reader, Writer, UnixStream) {
    let scratch = Scratch::new();
    let address = if is_tcp { "127.0.0.1:0".parse().unwrap() } else { Address::Unix(scratch.path("socket")) };
    let halves = Rc::new(Cell::new(None));
    let accepted = halves.clone();
    let handler = move |reader, writer| {
        accepted.set(Some((reader, writer)));
        std::future::ready(Ok(()))
    };
    let listener = start_server(reactor, &[address], &ListenOptions::default(), handler).unwrap();
    let peer = match &listener.addresses(reactor).unwrap()[0] {
        Address::Unix(path) => connect_unix(path),
        tcp => OwnedFd::from(connect(&tcp.to_string())).into(), // the peer uses only what both kinds of sockets have
    };
    peer.set_nonblocking(true).unwrap();
    loop {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
        if let Some((reader, writer)) = halves.take() {
            reactor.remove(listener.id());
            return (reader, writer, peer);
        }
    }
}

/// The peer, and what it has sent and received.
struct Peer {
    socket: UnixStream,
    has_ended: bool,
    sent: usize,
    got: Vec<u8>,
}

impl Peer {
    fn take(&mut self, step: &Step, reactor: &mut Reactor) {
        match *step {
            Step::Writes(count) if !self.has_ended => {
                self.sent += self.socket.write(next_bytes(self.sent, count)).unwrap_or(0);
            }
            Step::Writes(_) => {}
            Step::Reads(count) => {
                let mut bytes = vec![0; count];
                let count = self.socket.read(&mut bytes).unwrap_or(0);
                self.got.extend_from_slice(&bytes[..count]);
            }
            Step::Ends => {
                self.has_ended = true;
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            Step::Turn => reactor.turn(Some(Duration::ZERO)).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        max_shrink_time: 20_000, // ms
        ..ProptestConfig::default()
    })]

    #[test]
    fn halves_of_a_stream_miss_no_wakeup_and_no_byte(
        inputs in prop::collection::vec(input(), 0..12),
        outputs in prop::collection::vec(output(), 0..12),
        steps in prop::collection::vec(step(), 0..40),
        is_one_task in any::<bool>(),
        reads_all in any::<bool>(),
        vanishes in any::<bool>(),
        is_tcp in any::<bool>(),
    ) {
        let mut reactor = Reactor::new().unwrap();
        let handle = reactor.handle().unwrap();
        let (reader, writer, socket) = accept(&mut reactor, is_tcp);
        let mut peer = Peer { socket, has_ended: false, sent: 0, got: Vec::new() };
        let (got, written) = (Bytes::default(), Bytes::default());
        let read = read(reader, inputs, reads_all, got.clone());
        let write = write(writer, outputs, vanishes, written.clone());
        let task = if is_one_task {
            handle.spawn(async { join(read, write).await.0 })
        } else {
            let writing = handle.spawn(write);
            handle.spawn(async { join(read, writing).await.0 })
        };
        for step in &steps {
            peer.take(step, &mut reactor);
        }

        // When nothing moves any more, no source is called.
        let calls = Rc::new(Cell::new(0));
        reactor.add_observer(Calls(calls.clone()));
        let (mut turns, mut quiet) = (0, 0);
        while quiet < 5 {
            turns += 1;
            assert!(turns < 2000, "the loop spins");
            reactor.turn(Some(Duration::ZERO)).unwrap();
            quiet = if calls.take() == 0 { quiet + 1 } else { 0 };
        }

        // The connection must end when the peer vanishes, or when it ends its side and reads.
        if vanishes {
            set_socket_linger(&peer.socket, Some(Duration::ZERO)).unwrap(); // TCP: by a reset
            peer.socket = UnixStream::pair().unwrap().0; // the old one is closed
        } else {
            peer.take(&Step::Ends, &mut reactor);
        }
        let deadline = Instant::now() + common::PATIENCE / 4;
        while !task.is_finished() || reactor.source_count() > 0 {
            assert!(Instant::now() < deadline, "the connection never ended");
            if !vanishes {
                peer.take(&Step::Reads(SIZE.end), &mut reactor);
            }
            peer.take(&Step::Turn, &mut reactor);
        }
        let has_read_all = reactor.run_until_complete(task).unwrap().unwrap();
        if vanishes {
            assert_same_bytes(&peer.got, &written.borrow()[..peer.got.len()]);
            assert_same_bytes(&got.borrow(), &source()[..got.borrow().len()]);
            return Ok(());
        }
        peer.socket.set_nonblocking(false).unwrap();
        peer.socket.read_to_end(&mut peer.got).unwrap();
        assert_same_bytes(&peer.got, &written.borrow());
        let expected = if has_read_all.unwrap() { peer.sent } else { got.borrow().len() };
        assert_same_bytes(&got.borrow(), &source()[..expected]);
    }
}
