//! A deadline never fires before pending I/O is handled. A process that was stopped, or whose
//! machine slept, checks its sockets first. The library's timers on a connection are separate from
//! the user's.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    PATIENCE, Process, Scratch, Server, accept, client_command, connect_unix, has_descriptors, new_reactor,
    serve_once, turn_until, turn_until_quiet,
};
use echo_reactor::{
    Address, CloseReason, ConnectOptions, Connection, ConnectionLost, Either, Elapsed, Handle, Id,
    ListenOptions, Mailbox, Next, Protocol, Reactor, Reader, Ready, Source, Transport, Writer,
    create_connection, create_server, race, start_server,
};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_millis(200);

/// What happened to a connection.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn push(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }
}

/// Closes its connection after [`LIMIT`] without a byte.
#[derive(Clone, Default)]
struct TimesOut(Log);

impl Protocol for TimesOut {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(LIMIT));
    }
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {
        self.0.push("data");
    }
    fn woken(&mut self, _: &mut Transport) {
        self.0.push("woken");
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.0.push(match lost.reason {
            CloseReason::IdleTimeout => "idle".into(),
            other => other.to_string(),
        });
    }
}

fn connection_with_timeout(reactor: &mut Reactor) -> (Handle<Connection<TimesOut>>, Log, UnixStream) {
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    let protocol = TimesOut::default();
    let log = protocol.0.clone();
    let handle = Connection::from_socket(reactor, ours, protocol).unwrap();
    turn_until_quiet(reactor);
    (handle, log, UnixStream::from(std::os::fd::OwnedFd::from(peer)))
}

/// The thing under test: the process does not run for longer than any timeout in this file.
fn suspend() {
    thread::sleep(3 * LIMIT);
}

#[test]
fn data_received_while_stopped_beats_the_idle_timeout() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (_, log, mut peer) = connection_with_timeout(&mut reactor);
    peer.write_all(b"in time").unwrap();
    reactor.set_now(start + 3 * LIMIT);
    turn_until(&mut reactor, "data or timeout", |_| !log.0.borrow().is_empty());
    assert_eq!(log.0.borrow()[0], "data");
}

#[test]
fn data_received_while_a_callback_blocks_beats_an_idle_timeout_that_joins_a_queued_call() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, mut peer) = connection_with_timeout(&mut reactor);
    reactor.set_now(start + LIMIT / 2);
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "data", |_| log.0.borrow().len() == 1); // idle for half of the limit later
    reactor.set_now(start + LIMIT); // the timer is due
    reactor.call_soon(move |reactor| {
        reactor.call_soon(move |reactor| {
            peer.write_all(b"in time").unwrap();
            reactor.set_now(start + 4 * LIMIT); // this call takes so long
            std::mem::forget(peer);
        });
        reactor.wake(handle.id()); // the timeout joins this call
    });
    turn_until(&mut reactor, "data or timeout", |_| log.0.borrow().len() == 3);
    assert_eq!(*log.0.borrow(), ["data", "woken", "data"]);
}

#[test]
fn events_beyond_one_poll_are_handled_before_timers() {
    if !has_descriptors(5100) {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start); // no connection is idle, however long the setup takes
    let any = ["127.0.0.1:0".parse().unwrap()];
    let protocol = TimesOut::default();
    let log = protocol.0.clone();
    let listener =
        create_server(&mut reactor, &any, &ListenOptions::default(), move || protocol.clone()).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut peers = Vec::new();
    while peers.len() < 2500 {
        peers.extend((0..100).map(|_| TcpStream::connect(&address).unwrap()));
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    let open = |reactor: &mut Reactor| listener.stats(reactor).unwrap().open;
    turn_until(&mut reactor, "all connections are made", |reactor| open(reactor) == 2500);
    turn_until_quiet(&mut reactor);
    reactor.set_now(start + 3 * LIMIT);
    peers.iter_mut().for_each(|peer| peer.write_all(b"y").unwrap());
    while log.0.borrow().iter().filter(|what| *what == "data").count() < 2500 {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
        assert!(!log.0.borrow().contains(&"idle".into()), "a connection was closed with pending data");
    }
}

#[test]
fn busy_sources_do_not_hide_one_that_was_ready_before_a_deadline() {
    const SOURCES: usize = 1500; // one poll reports 1024
    if !has_descriptors(2 * SOURCES as u64 + 100) {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let calls = Rc::new(Cell::new(0)); // of the last source
    let mut peers = Vec::new();
    for index in 0..SOURCES {
        let (ours, peer) = mio::net::UnixStream::pair().unwrap();
        let calls = calls.clone();
        let read = move |stream: &mut mio::net::UnixStream, _: &mut Reactor| loop {
            let _ = stream.read(&mut [0; 16])?;
            calls.set(calls.get() + usize::from(index == SOURCES - 1));
        };
        reactor.watch(ours, read).unwrap();
        peers.push(peer);
    }
    turn_until_quiet(&mut reactor);
    let called_before_timer = Rc::new(Cell::new(None));
    let note = called_before_timer.clone();
    reactor.call_at(start + LIMIT, move |_| note.set(Some(calls.get() > 0)));
    let send = |peers: &mut [mio::net::UnixStream]| {
        peers.iter_mut().for_each(|peer| assert_eq!(peer.write(b"x").unwrap(), 1));
    };
    send(&mut peers[..SOURCES - 1]);
    reactor.turn(Some(Duration::ZERO)).unwrap(); // calls 1024 sources
    send(&mut peers[..1024]); // the same ones
    send(&mut peers[SOURCES - 1..]);
    reactor.set_now(start + 2 * LIMIT);
    turn_until(&mut reactor, "the timer ran", |_| called_before_timer.get().is_some());
    assert_eq!(called_before_timer.get(), Some(true));
}

#[test]
fn full_polls_do_not_starve_timers() {
    if !has_descriptors(2300) {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let mut peers = Vec::new();
    for _ in 0..1100 {
        let (ours, peer) = mio::net::UnixStream::pair().unwrap();
        peers.push(peer);
        let mut bytes = [0; 16];
        reactor
            .watch(ours, move |stream, _| {
                loop {
                    let count = stream.read(&mut bytes)?;
                    let _ = stream.write(&bytes[..count])?;
                }
            })
            .unwrap();
    }
    for _ in 0..50_000 {
        Mailbox::<u8>::new(&mut reactor, 1); // a source without events
    }
    let (id, one) = (Mailbox::<u8>::new(&mut reactor, 1).id(), UnixStream::pair().unwrap().0);
    for _ in 0..50_000 {
        reactor.register(id, &one, mio::Interest::READABLE).unwrap();
        reactor.deregister(id, &one).unwrap();
    }
    let ran = Rc::new(Cell::new(false));
    let note = ran.clone();
    reactor.call_later(Duration::ZERO, move |_| note.set(true));
    for _ in 0..20 {
        // other tests of this process have descriptors, too
        peers.iter_mut().for_each(|peer| drop(peer.write(b"x")));
        reactor.turn(None).unwrap();
    }
    assert!(ran.get());
}

/// epoll reports each descriptor once before it reports one again.
#[cfg(target_os = "linux")]
#[test]
fn timer_runs_when_full_polls_have_reported_as_many_events_as_descriptors() {
    use std::os::fd::OwnedFd;
    const LIST: usize = 1024; // one poll reports so many
    const HIGH: i32 = 8000; // the number of a descriptor that is deregistered again
    if !has_descriptors(HIGH as u64 + 1) {
        return;
    }
    let polls_before_timer = |count: usize| {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let id = Mailbox::<u8>::new(&mut reactor, 1).id();
        let high = rustix::io::fcntl_dupfd_cloexec(&ours, HIGH).unwrap();
        reactor.register(id, &high, mio::Interest::READABLE).unwrap();
        reactor.deregister(id, &high).unwrap();
        let duplicates: Vec<_> = (0..count).map(|_| OwnedFd::from(ours.try_clone().unwrap())).collect();
        for duplicate in &duplicates {
            reactor.register(id, duplicate, mio::Interest::READABLE).unwrap();
        }
        let ran = Rc::new(Cell::new(false));
        let note = ran.clone();
        reactor.call_later(Duration::ZERO, move |_| note.set(true));
        let polls = (1..10).find(|_| {
            peer.write_all(b"x").unwrap(); // an event for each duplicate
            reactor.turn(Some(Duration::ZERO)).unwrap();
            ran.get()
        });
        polls.unwrap()
    };
    // One more is the waker of other threads.
    assert_eq!(polls_before_timer(2 * LIST - 1), 2);
    assert_eq!(polls_before_timer(2 * LIST), 3);
}

#[test]
fn completed_connect_beats_its_timeout() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let mut options = ConnectOptions::default();
    options.timeout = LIMIT;
    let protocol = TimesOut::default();
    let log = protocol.0.clone();
    let address = Address::from(listening.local_addr().unwrap());
    create_connection(&mut reactor, &[address], &options, protocol);
    reactor.turn(Some(Duration::ZERO)).unwrap(); // starts connecting
    suspend();
    let (mut peer, _) = listening.accept().unwrap();
    peer.write_all(b"hello").unwrap();
    turn_until(&mut reactor, "connection or timeout", |_| !log.0.borrow().is_empty());
    assert_eq!(log.0.borrow()[0], "data");
}

#[test]
fn pending_eof_beats_the_linger_timeout() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, peer) = connection_with_timeout(&mut reactor);
    handle.enter(&mut reactor, |_, transport| transport.close()).unwrap();
    turn_until_quiet(&mut reactor);
    drop(peer);
    reactor.set_now(start + Duration::from_secs(31));
    turn_until(&mut reactor, "the connection ended", |_| !log.0.borrow().is_empty());
    assert_eq!(*log.0.borrow(), ["closed"]);
}

#[test]
fn received_line_beats_a_sleep() {
    let mut reactor = Reactor::new().unwrap();
    let first = Rc::new(Cell::new(None));
    let noted = first.clone();
    let handler = move |mut reader: Reader, _writer: Writer| {
        let noted = noted.clone();
        async move {
            let clock = reader.handle();
            let winner = race(reader.read_line(100), clock.sleep(LIMIT)).await;
            noted.set(Some(matches!(winner, Either::First(_))));
            Ok(())
        }
    };
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
    let mut peer = TcpStream::connect(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap();
    turn_until(&mut reactor, "the handler sleeps", |reactor| reactor.timer_count() == 1);
    peer.write_all(b"in time\n").unwrap();
    suspend();
    turn_until(&mut reactor, "line or sleep", |_| first.get().is_some());
    assert_eq!(first.get(), Some(true));
}

/// The halves of a connection, and its peer. What is written to a Unix socket has arrived at once.
fn unix_halves(reactor: &mut Reactor) -> (Reader, Writer, UnixStream) {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    accept(reactor, Address::Unix(path.clone()), |_| connect_unix(&path))
}

#[test]
fn timeout_reads_what_has_arrived_although_it_exceeds_the_read_budget() {
    let (mut reactor, handle) = new_reactor();
    let (mut reader, _writer, mut peer) = unix_halves(&mut reactor);
    let sent = 60_000; // in small reads, which use up the budget of twelve turns
    peer.write_all(&vec![0; sent]).unwrap();
    let task = handle.clone().spawn(async move {
        let read_all = async {
            let (mut count, mut buffer) = (0, [0; 20]);
            while count < sent {
                count += reader.read(&mut buffer).await.unwrap();
            }
            count
        };
        // A nested timeout that is polled after the read must not hide that the read stopped.
        let never = handle.timeout(Duration::MAX, std::future::pending::<()>());
        let read = handle.timeout(Duration::ZERO, race(read_all, never)).await;
        (read, reader)
    });
    let (read, mut reader) = reactor.run_until_complete(task).unwrap().unwrap();
    assert!(matches!(read, Ok(Either::First(count)) if count == sent), "{read:?}");

    // A peer that floods does not extend the timeout.
    let flood = thread::spawn(move || while peer.write(&[0; 65536]).is_ok() {});
    let handle = reader.handle();
    let result = reactor.run_until_complete(async move {
        let read_all = async { while reader.read(&mut [0; 1000]).await.is_ok() {} };
        handle.timeout(Duration::ZERO, read_all).await
    });
    assert_eq!(result.unwrap(), Err(Elapsed));
    drop(reactor);
    flood.join().unwrap();
}

#[test]
fn timeout_gives_a_future_at_most_64_turns_to_read_on() {
    let (mut reactor, handle) = new_reactor();
    let (mut reader, _writer, mut peer) = unix_halves(&mut reactor);
    peer.set_nonblocking(true).unwrap();
    let before = reactor.turn_count();
    let result = reactor.run_until_complete(async move {
        let read_all = async {
            for _ in 0..100_000 {
                while peer.write(&[0; 65536]).is_ok() {} // there is always more to read
                reader.read(&mut [0; 1000]).await.unwrap();
            }
        };
        handle.timeout(Duration::ZERO, read_all).await
    });
    assert!(matches!(result, Ok(Err(Elapsed))));
    let turns = reactor.turn_count() - before;
    assert!((32..80).contains(&turns), "{turns} turns");
}

#[test]
fn timeout_around_a_spawned_task_reads_what_has_arrived() {
    let (mut reactor, handle) = new_reactor();
    let (mut reader, _writer, mut peer) = unix_halves(&mut reactor);
    let sent = 60_000; // in small reads, which use up the budget of twelve turns
    peer.write_all(&vec![0; sent]).unwrap();
    let read_all = async move {
        let (mut count, mut buffer) = (0, [0; 20]);
        while count < sent {
            count += reader.read(&mut buffer).await.unwrap();
        }
        count
    };
    let result = reactor
        .run_until_complete(async move { handle.timeout(Duration::ZERO, handle.spawn(read_all)).await });
    assert_eq!(result.unwrap(), Ok(Ok(sent)));
}

#[test]
fn server_echoes_data_sent_while_it_was_stopped() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut streams: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for round in 0..2 {
        // All peers write before the first one reads. One after the other, on a busy machine, the
        // last one would be idle for too long.
        streams.iter_mut().for_each(|stream| stream.write_all(b"before").unwrap());
        streams.iter_mut().for_each(|stream| stream.read_exact(&mut [0; 6]).unwrap());
        server.process.stop();
        streams.iter_mut().for_each(|stream| stream.write_all(b"meanwhile").unwrap());
        thread::sleep(Duration::from_millis(1200)); // the thing under test: time passes while it is stopped
        server.process.signal(Signal::CONT);
        for stream in &mut streams {
            let mut echo = [0; 9];
            stream.read_exact(&mut echo).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    }
}

#[test]
fn client_accepts_an_echo_sent_while_it_was_stopped() {
    let (received, line_was_received) = mpsc::channel();
    let (stopped, client_is_stopped) = mpsc::channel();
    let (address, server) = serve_once(move |mut stream| {
        let mut line = [0; 6];
        stream.read_exact(&mut line).unwrap();
        received.send(()).unwrap();
        client_is_stopped.recv_timeout(PATIENCE).unwrap();
        stream.write_all(&line).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let mut command = client_command();
    command.args(["--timeout", "1", &address]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Process::spawn(&mut command);
    let mut stdin = client.child.stdin.take().unwrap();
    let out = common::Lines::of(client.child.stdout.take().unwrap());
    stdin.write_all(b"hello\n").unwrap();
    drop(stdin);
    line_was_received.recv_timeout(PATIENCE).unwrap();
    client.stop();
    stopped.send(()).unwrap();
    thread::sleep(Duration::from_millis(1200)); // the thing under test: time passes while it is stopped
    client.signal(Signal::CONT);
    assert_eq!(out.next(), "hello");
    assert_eq!(client.wait_code(), 0);
    server.join().unwrap();
}

#[test]
fn user_timer_wakes_the_protocol_and_keeps_the_idle_timeout() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, peer) = connection_with_timeout(&mut reactor);
    for number in 1..=5 {
        reactor.wake_at(start + number * LIMIT / 10, handle.id());
    }
    for number in 1..=5 {
        reactor.set_now(start + number * LIMIT / 10);
        turn_until_quiet(&mut reactor);
        assert_eq!(*log.0.borrow(), vec!["woken"; number as usize]);
        assert_eq!(
            reactor.timer_count(),
            6 - number as usize,
            "the remaining user timers and the idle timeout"
        );
    }
    reactor.set_now(start + LIMIT);
    turn_until(&mut reactor, "the connection ended", |_| log.0.borrow().len() == 6);
    assert_eq!((log.0.borrow()[5].as_str(), reactor.timer_count()), ("idle", 0));
    drop(peer);
}

#[test]
fn user_timer_does_not_end_a_lingering_connection() {
    let mut reactor = Reactor::new().unwrap();
    reactor.set_now(Instant::now());
    let (handle, log, mut peer) = connection_with_timeout(&mut reactor);
    handle.enter(&mut reactor, |_, transport| transport.close()).unwrap();
    reactor.wake_at(reactor.now(), handle.id());
    turn_until_quiet(&mut reactor);
    assert!(log.0.borrow().is_empty(), "{:?}", log.0.borrow());
    assert_eq!(reactor.timer_count(), 1);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "our side is shut down without a reset");
    drop(peer);
    turn_until(&mut reactor, "the connection ended", |_| !log.0.borrow().is_empty());
    assert_eq!(*log.0.borrow(), ["closed"]);
}

#[test]
fn event_of_a_queued_source_comes_before_a_timer() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, log, mut peer) = connection_with_timeout(&mut reactor);
    let note = log.clone();
    reactor.call_later(LIMIT / 10, move |_| note.push("deadline"));
    reactor.wake_at(reactor.now() + LIMIT / 10, handle.id());
    peer.write_all(b"in time").unwrap();
    reactor.wake(handle.id());
    suspend();
    turn_until(&mut reactor, "event and timer", |_| log.0.borrow().len() >= 3);
    assert_eq!(log.0.borrow()[0], "data", "{:?}", log.0.borrow());
}

#[test]
fn delay_set_between_two_turns_counts_from_the_call() {
    let mut reactor = Reactor::new().unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let _ = reactor.now();
    suspend();
    let (began, ran) = (Instant::now(), Rc::new(Cell::new(None)));
    let note = ran.clone();
    reactor.call_later(LIMIT, move |_| note.set(Some(Instant::now())));
    turn_until(&mut reactor, "the timer ran", |_| ran.get().is_some());
    assert!(ran.get().unwrap() >= began + LIMIT, "the timer was early");
}

#[test]
fn stop_before_a_run_does_not_make_it_spin() {
    let mut reactor = Reactor::new().unwrap();
    reactor.stop();
    assert!(!reactor.run_until(LIMIT, |_| false).unwrap());
    assert!(reactor.turn_count() < 10, "{} turns", reactor.turn_count());
}

#[test]
fn closing_connection_waits_only_while_the_peer_reads() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
    let protocol = Lingering::default();
    let log = protocol.0.clone();
    let handle = Connection::from_socket(&mut reactor, ours, protocol).unwrap();
    handle
        .enter(&mut reactor, |_, transport| {
            transport.write(&[0; 1 << 22]);
            transport.close();
        })
        .unwrap();
    for minute in 1..=3 {
        reactor.set_now(start + Duration::from_secs(60 * minute));
        peer.read_exact(&mut vec![0; 100_000]).unwrap(); // the peer reads slowly
        turn_until_quiet(&mut reactor);
        assert!(log.0.borrow().is_empty(), "after {minute} minutes: {:?}", log.0.borrow());
    }
    for minute in 4..=5 {
        reactor.set_now(start + Duration::from_secs(60 * minute));
        turn_until_quiet(&mut reactor);
    }
    assert_eq!(*log.0.borrow(), ["the peer did not end its side in time"]);
    assert_eq!((reactor.timer_count(), reactor.source_count()), (0, 0));
}

#[derive(Default)]
struct Lingering(Log);

impl Protocol for Lingering {
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.0.push(lost.reason.to_string());
    }
}

#[test]
fn peer_that_only_sends_does_not_extend_the_linger_timeout() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, mut peer) = connection_with_timeout(&mut reactor);
    handle
        .enter(&mut reactor, |_, transport| {
            transport.set_idle_timeout(Some(Duration::from_secs(5)));
            transport.write(&[0; 1 << 22]);
            transport.close();
        })
        .unwrap();
    for second in 1..=12 {
        let _ = peer.write(b"x"); // the peer sends but does not read
        reactor.set_now(start + Duration::from_secs(second));
        turn_until_quiet(&mut reactor);
    }
    assert_eq!(*log.0.borrow(), ["the peer did not end its side in time"]);
    assert_eq!((reactor.timer_count(), reactor.source_count()), (0, 0));
}

#[test]
fn source_that_returned_again_runs_before_a_due_timer() {
    struct Reads(Log, u32);
    impl Source for Reads {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            self.0.push("read");
            self.1 -= 1;
            if self.1 == 0 { Next::Wait } else { Next::Again }
        }
    }
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let reader = reactor.insert(Reads(log.clone(), 2));
    reactor.wake(reader.id());
    reactor.turn(Some(Duration::ZERO)).unwrap(); // the source stops before `WouldBlock`
    let timer = log.clone();
    reactor.call_later(Duration::ZERO, move |_| timer.push("timer"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(*log.0.borrow(), ["read", "read", "timer"]);
}

#[test]
fn idle_timeout_that_is_set_after_close_shortens_the_linger_timeout() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, _peer) = connection_with_timeout(&mut reactor);
    handle.enter(&mut reactor, |_, transport| transport.set_idle_timeout(None)).unwrap();
    handle.enter(&mut reactor, |_, transport| transport.close()).unwrap();
    handle.enter(&mut reactor, |_, transport| transport.set_idle_timeout(Some(LIMIT))).unwrap();
    reactor.set_now(start + LIMIT);
    turn_until_quiet(&mut reactor);
    assert_eq!(*log.0.borrow(), ["the peer did not end its side in time"]);
}

#[test]
fn idle_timeout_of_zero_does_not_keep_the_loop_busy() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, log, mut peer) = connection_with_timeout(&mut reactor);
    handle.enter(&mut reactor, |_, transport| transport.pause_reading()).unwrap();
    peer.write_all(b"it waits").unwrap(); // so the peer is not idle
    handle.enter(&mut reactor, |_, transport| transport.set_idle_timeout(Some(Duration::ZERO))).unwrap();
    let (began, turns) = (Instant::now(), reactor.turn_count());
    reactor.run_until(Duration::from_millis(20), |_| false).unwrap();
    let turns = u128::from(reactor.turn_count() - turns);
    assert!(turns < 2 * began.elapsed().as_millis() + 10, "{turns} turns");
    assert!(log.0.borrow().is_empty(), "{:?}", log.0.borrow());
}

#[test]
fn nothing_extends_the_linger_timeout() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, _peer) = connection_with_timeout(&mut reactor);
    handle.enter(&mut reactor, |_, transport| transport.close()).unwrap();
    for (part, limit) in [(0.4, Some(LIMIT * 9)), (0.8, None), (1.0, Some(LIMIT))] {
        reactor.set_now(start + LIMIT.mul_f64(part));
        let _ = handle.enter(&mut reactor, |_, transport| transport.set_idle_timeout(limit));
        turn_until_quiet(&mut reactor);
        assert_eq!(log.0.borrow().len(), usize::from(part == 1.0), "after {part} of the limit");
    }
    assert_eq!(*log.0.borrow(), ["the peer did not end its side in time"]);
}

#[test]
fn run_until_does_the_io_that_came_in_time_before_it_gives_up() {
    let mut reactor = Reactor::new().unwrap();
    let (_, log, mut peer) = connection_with_timeout(&mut reactor);
    let note = log.clone();
    reactor.call_soon(move |_| {
        peer.write_all(b"in time").unwrap();
        thread::sleep(Duration::from_millis(20)); // a slow callback, longer than the limit
        std::mem::forget(peer);
    });
    let received = reactor.run_until(Duration::from_millis(10), move |_| !note.0.borrow().is_empty());
    assert!(received.unwrap(), "{:?}", log.0.borrow());
}

/// Blocks in a callback, in a turn whose time is known, and then calls `then`.
struct Blocks<F>(Option<F>, Log);

impl<F: FnOnce(&mut Transport) + 'static> Protocol for Blocks<F> {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(LIMIT));
    }
    fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
        let _ = transport.reactor().now();
        suspend();
        if let Some(then) = self.0.take() {
            then(transport);
        }
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.1.push(lost.reason.to_string());
    }
}

/// Runs a callback that blocks and then calls `then`, until `log` has an entry.
fn block_then(log: &Log, then: impl FnOnce(&mut Transport) + 'static) {
    let mut reactor = Reactor::new().unwrap();
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, Blocks(Some(then), log.clone())).unwrap();
    turn_until_quiet(&mut reactor);
    let mut peer = UnixStream::from(std::os::fd::OwnedFd::from(peer));
    peer.write_all(b"question").unwrap();
    peer.set_nonblocking(true).unwrap();
    turn_until(&mut reactor, "the limit has ended", |_| {
        let _ = peer.read(&mut [0; 16]); // what waits in the kernel would extend the limit
        !log.0.borrow().is_empty()
    });
}

#[test]
fn callback_that_blocks_does_not_use_up_the_idle_limit() {
    let (log, answered) = (Log::default(), Rc::new(Cell::new(None)));
    let when = answered.clone();
    block_then(&log, move |transport| {
        when.set(Some(Instant::now()));
        transport.write(b"answer"); // the last byte that moves
    });
    assert!(answered.get().unwrap().elapsed() >= LIMIT);
    assert_eq!(*log.0.borrow(), ["idle for too long"]);
}

#[test]
fn callback_that_blocks_does_not_use_up_the_linger_limit() {
    let (log, closed) = (Log::default(), Rc::new(Cell::new(None)));
    let when = closed.clone();
    block_then(&log, move |transport| {
        when.set(Some(Instant::now()));
        transport.close(); // the peer does not end its side
    });
    assert!(closed.get().unwrap().elapsed() >= LIMIT);
    assert_eq!(*log.0.borrow(), ["the peer did not end its side in time"]);
}

#[test]
fn callback_that_blocks_does_not_use_up_the_connect_timeout() {
    struct Waiting(Log);
    impl Protocol for Waiting {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
            self.0.push(lost.reason.to_string());
        }
    }
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap(); // fills the backlog
    let (log, began) = (Log::default(), Rc::new(Cell::new(None)));
    let (lost, when) = (log.clone(), began.clone());
    block_then(&log, move |transport| {
        when.set(Some(Instant::now()));
        transport.set_idle_timeout(None);
        let mut options = ConnectOptions::default();
        options.timeout = LIMIT;
        create_connection(transport.reactor(), &[Address::Unix(path)], &options, Waiting(lost));
    });
    assert!(began.get().unwrap().elapsed() >= LIMIT, "{:?}", log.0.borrow());
}

#[test]
fn timeout_that_is_set_in_the_call_of_an_expired_one_replaces_it() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (ours, _peer) = mio::net::UnixStream::pair().unwrap();
    struct SetsAgain;
    impl Protocol for SetsAgain {
        fn connection_made(&mut self, transport: &mut Transport) {
            transport.set_idle_timeout(Some(LIMIT));
        }
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn woken(&mut self, transport: &mut Transport) {
            transport.set_idle_timeout(Some(10 * LIMIT));
        }
    }
    let handle = Connection::from_socket(&mut reactor, ours, SetsAgain).unwrap();
    turn_until_quiet(&mut reactor);
    // Both are due in one turn, so the timeout is merged into the call that calls `woken`.
    reactor.call_at(start + LIMIT / 2, move |reactor| _ = reactor.wake(handle.id()));
    reactor.set_now(start + LIMIT);
    turn_until_quiet(&mut reactor);
    assert!(reactor.contains(handle.id()));
    assert_eq!(reactor.timer_count(), 1);
    reactor.remove(handle.id());
    assert_eq!(reactor.timer_count(), 0);
}

#[test]
fn peer_whose_bytes_wait_because_reading_is_paused_is_not_idle() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, log, mut peer) = connection_with_timeout(&mut reactor);
    handle.enter(&mut reactor, |_, transport| transport.pause_reading()).unwrap();
    peer.write_all(b"waits").unwrap();
    for number in 1..5 {
        turn_until_quiet(&mut reactor);
        reactor.set_now(start + number * LIMIT);
    }
    handle.enter(&mut reactor, |_, transport| transport.resume_reading()).unwrap();
    turn_until_quiet(&mut reactor);
    assert_eq!(*log.0.borrow(), ["data"]);
    reactor.set_now(start + 6 * LIMIT);
    turn_until(&mut reactor, "the connection is idle", |_| log.0.borrow().len() == 2);
}
