//! Wrong twins: for each trap, a short wrong version next to one that is right. The guide in
//! `src/guide/` refers to them by name.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use common::{A_WHILE, Terminal, is_nonblocking, noise, pipe, turn_until, turn_until_quiet};
use echo_reactor::{
    Chunk, Connection, Framing, Handle, Id, Input, Mailbox, Next, Protocol, Reactor, Ready, SCRATCH_SIZE,
    Source, Transport, TryRecv,
};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

/// The bytes that a source has read, and whether it has seen EOF.
type Log = Rc<RefCell<(Vec<u8>, bool)>>;

/// A source that reads a stream with a closure.
struct Reading<F> {
    stream: UnixStream,
    log: Log,
    read: F,
}

impl<F: FnMut(&mut UnixStream, &Log, Ready) -> Next + 'static> Source for Reading<F> {
    fn ready(&mut self, _: Id, ready: Ready, _: &mut Reactor) -> Next {
        (self.read)(&mut self.stream, &self.log, ready)
    }
}

impl<F> AsFd for Reading<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A reactor with such a source, and the peer of its stream.
fn reading<F: FnMut(&mut UnixStream, &Log, Ready) -> Next + 'static>(read: F) -> (Reactor, Log, UnixStream) {
    let mut reactor = Reactor::new().unwrap();
    let (stream, peer) = UnixStream::pair().unwrap();
    let log = Log::default();
    reactor.add(Reading { stream, log: log.clone(), read }, Interest::READABLE).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    (reactor, log, peer)
}

/// Reads once, at most `size` bytes.
fn read_once(stream: &mut UnixStream, log: &Log, size: usize) -> std::io::Result<usize> {
    let mut buffer = vec![0; size];
    let count = stream.read(&mut buffer)?;
    let (bytes, ended) = &mut *log.borrow_mut();
    bytes.extend_from_slice(&buffer[..count]);
    *ended |= count == 0;
    Ok(count)
}

// ---- readiness that is not drained

#[test]
fn edge_triggered_source_that_stops_reading_early_hangs() {
    let wrong = |stream: &mut UnixStream, log: &Log, _: Ready| {
        let _ = read_once(stream, log, 4);
        Next::Wait
    };
    let right = |stream: &mut UnixStream, log: &Log, _: Ready| match read_once(stream, log, 4) {
        Ok(0) => Next::Done,
        Ok(_) => Next::Again,
        Err(_) => Next::Wait,
    };
    let after_a_message = |(mut reactor, log, mut peer): (Reactor, Log, UnixStream)| {
        peer.write_all(b"twelve bytes").unwrap();
        turn_until_quiet(&mut reactor);
        String::from_utf8(log.take().0).unwrap()
    };
    assert_eq!(after_a_message(reading(wrong)), "twel", "the rest is pending, and no event comes");
    assert_eq!(after_a_message(reading(right)), "twelve bytes");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: epoll")]
fn listener_that_accepts_one_connection_for_each_event_is_one_behind() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut listener = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    poll.registry().register(&mut listener, Token(0), Interest::READABLE).unwrap();
    let _pair = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap(); // until both have arrived
    let _first = listener.accept().unwrap();
    poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
    assert!(events.is_empty(), "the second connection waits, and no event comes");
    let _third = std::net::TcpStream::connect(address).unwrap();
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    assert_eq!(events.iter().count(), 1);
    let _second = listener.accept().unwrap(); // and now the third one waits
    assert!(listener.accept().is_ok());
}

#[test]
fn source_that_stops_at_a_short_read_misses_eof() {
    let wrong = |stream: &mut UnixStream, log: &Log, _: Ready| match read_once(stream, log, 4096) {
        Ok(0) => Next::Done,
        Ok(4096) => Next::Again,
        Ok(_) | Err(_) => Next::Wait, // short read: the socket is empty
    };
    let right = |stream: &mut UnixStream, log: &Log, ready: Ready| match read_once(stream, log, 4096) {
        Ok(0) => Next::Done,
        Ok(4096) => Next::Again,
        Ok(_) if ready.intersects(Ready::READ_CLOSED) => Next::Again, // ... unless EOF arrived with it
        Ok(_) | Err(_) => Next::Wait,
    };
    // A call after `Again` has no new readiness, so the source remembers the earlier one.
    let right = {
        let mut remembered = Ready::NONE;
        move |stream: &mut UnixStream, log: &Log, ready: Ready| {
            remembered |= ready;
            right(stream, log, remembered)
        }
    };
    let after_data_and_end = |(mut reactor, log, mut peer): (Reactor, Log, UnixStream)| {
        peer.write_all(b"bye").unwrap();
        drop(peer); // EOF is reported in the same event
        turn_until_quiet(&mut reactor);
        log.take()
    };
    assert_eq!(after_data_and_end(reading(wrong)), (b"bye".to_vec(), false), "EOF is never seen");
    assert_eq!(after_data_and_end(reading(right)), (b"bye".to_vec(), true));
}

#[test]
fn again_at_eof_makes_the_loop_spin() {
    let wrong = |stream: &mut UnixStream, log: &Log, _: Ready| match read_once(stream, log, 64) {
        Ok(_) => Next::Again, // reading 0 bytes is a success, too
        Err(_) => Next::Wait,
    };
    let right = |stream: &mut UnixStream, log: &Log, _: Ready| match read_once(stream, log, 64) {
        Ok(0) => Next::Done,
        Ok(_) => Next::Again,
        Err(_) => Next::Wait,
    };
    let turns_after_the_end = |(mut reactor, _, peer): (Reactor, Log, UnixStream)| {
        drop(peer);
        let before = reactor.turn_count();
        reactor.run_until(A_WHILE, |_| false).unwrap();
        reactor.turn_count() - before
    };
    assert!(turns_after_the_end(reading(wrong)) > 100, "the loop uses a whole core, if it gets one");
    assert!(turns_after_the_end(reading(right)) < 5);
}

// ---- buffers without a bound

struct Echo {
    heeds_the_marks: bool,
}

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
    fn pause_writing(&mut self, transport: &mut Transport) {
        if self.heeds_the_marks {
            transport.pause_reading();
        }
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }
}

#[test]
fn echo_without_water_marks_uses_unbounded_memory() {
    let owed_to_a_peer_that_never_reads = |heeds_the_marks| {
        let mut reactor = Reactor::new().unwrap();
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let handle = Connection::from_socket(&mut reactor, ours, Echo { heeds_the_marks }).unwrap();
        let bytes = noise(1 << 16, 1);
        for _ in 0..500 {
            let _ = peer.write(&bytes);
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        handle.enter(&mut reactor, |_, transport| transport.buffered()).unwrap()
    };
    assert!(owed_to_a_peer_that_never_reads(false) > 10 << 20);
    assert!(owed_to_a_peer_that_never_reads(true) <= (64 << 10) + SCRATCH_SIZE);
}

// ---- tokens

/// A first attempt at a loop: a token is an index, and a free index is reused.
#[test]
fn token_without_a_generation_reaches_the_wrong_source() {
    let mut poll = Poll::new().unwrap();
    let mut peers: HashMap<Token, UnixStream> = HashMap::new();
    let mut others = Vec::new();
    for index in 0..2 {
        let (mut ours, mut other) = UnixStream::pair().unwrap();
        poll.registry().register(&mut ours, Token(index), Interest::READABLE).unwrap();
        peers.insert(Token(index), ours);
        other.write_all(b"for the first client").unwrap();
        others.push(other);
    }
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, None).unwrap();
    let batch: Vec<Token> = events.iter().map(|event| event.token()).collect();
    assert_eq!(batch.len(), 2);
    // The first event of the batch closes the connection of the second, whose number is reused.
    peers.remove(&batch[1]);
    let (mut replacement, _other) = UnixStream::pair().unwrap();
    poll.registry().register(&mut replacement, batch[1], Interest::READABLE).unwrap();
    peers.insert(batch[1], replacement);
    // The second event reports readable, but the stream that has its number now is not readable.
    let found = peers.get_mut(&batch[1]).expect("the wrong stream");
    assert_eq!(found.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // With a blocking socket the loop would block here. The right version is in `tests/reactor.rs`:
    // event_for_a_source_removed_in_the_same_batch_is_dropped.
}

// ---- stdin

struct Lines {
    mailbox: Handle<Mailbox<Chunk>>,
    log: Log,
}

impl Source for Lines {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        while let TryRecv::Item(Ok(line)) = self.mailbox.try_recv(reactor, id) {
            self.log.borrow_mut().0.extend_from_slice(&line);
        }
        Next::Wait
    }
}

#[test]
fn buffered_reader_hides_lines_from_readiness() {
    // The wrong version handles one line per event, from a reader that reads ahead.
    struct Wrong {
        reader: BufReader<File>,
        log: Log,
    }
    impl Source for Wrong {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            let mut line = Vec::new();
            if self.reader.read_until(b'\n', &mut line).is_ok() {
                self.log.borrow_mut().0.extend_from_slice(&line);
            }
            Next::Wait
        }
    }
    impl AsFd for Wrong {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.reader.get_ref().as_fd()
        }
    }
    const THREE: &[u8] = b"one\ntwo\nthree\n";

    let mut reactor = Reactor::new().unwrap();
    let (stdin, keyboard) = pipe();
    let log = Log::default();
    let reader = BufReader::new(File::from(stdin));
    reactor.add(Wrong { reader, log: log.clone() }, Interest::READABLE).unwrap();
    let mut keyboard = File::from(keyboard);
    keyboard.write_all(THREE).unwrap();
    turn_until_quiet(&mut reactor);
    assert_eq!(log.borrow().0, b"one\n", "two lines are in the reader's buffer, and the descriptor is empty");

    let (stdin, keyboard) = pipe();
    let mailbox = Mailbox::new(&mut reactor, 1);
    Input::open(&mut reactor, &stdin, Framing::Lines, mailbox).unwrap();
    let log = Log::default();
    let lines = reactor.insert(Lines { mailbox, log: log.clone() });
    reactor.wake(lines.id());
    File::from(keyboard).write_all(THREE).unwrap();
    turn_until(&mut reactor, "all three", |_| log.borrow().0 == THREE);
}

#[test]
fn blocking_read_in_a_callback_blocks_the_loop() {
    // A callback that calls `input()` blocks like this. It runs on a thread, so that the test can
    // see it.
    let (stdin, keyboard) = pipe();
    let (done, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        reactor.call_soon(move |_| drop(File::from(stdin).read(&mut [0; 64])));
        reactor.call_later(Duration::ZERO, |reactor| reactor.stop());
        reactor.run().unwrap();
        done.send(()).unwrap();
    });
    assert!(end.recv_timeout(A_WHILE).is_err(), "the timer is due but waits for the keyboard");
    File::from(keyboard).write_all(b"at last\n").unwrap();
    end.recv_timeout(common::PATIENCE).unwrap();
    // `examples/blocking_client.rs` shows nothing before its input ends, for the same reason.
}

#[test]
fn o_nonblock_on_stdin_survives_exit() {
    use rustix::fs::{OFlags, fcntl_setfl};
    let terminal = Terminal::new();
    {
        let own = terminal.line.try_clone().unwrap(); // shares the open file description
        fcntl_setfl(&own, OFlags::NONBLOCK).unwrap();
    }
    assert!(is_nonblocking(&terminal.line), "after our exit, the shell's terminal is non-blocking");

    let terminal = Terminal::new();
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    Input::open(&mut reactor, &terminal.line, Framing::Lines, mailbox).unwrap();
    turn_until_quiet(&mut reactor);
    assert!(!is_nonblocking(&terminal.line));
}
