//! Errors of the program that uses the library: panics, invalid calls and stale handles do limited
//! damage.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{cpu_time, panics, turn_until, turn_until_quiet};
use echo_reactor::observe::{CallbackEnd, DispatchEnd, IoStats, Observer, Phase, PollEnd, TurnEnd};
use echo_reactor::{
    Address, Cancelled, ConnectError, Connection, ConnectionLost, CopyError, Elapsed, Handle, Id,
    LineTooLong, ListenOptions, Listener, ListeningSocket, Mailbox, Next, Protocol, Reactor, Ready, Source,
    Stopped, Transport, TrySendError, Unavailable, create_server, start_server,
};

/// Panics at its first byte.
#[derive(Clone)]
struct Panicking(Rc<Cell<u32>>);

impl Protocol for Panicking {
    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        if data[0] == b'!' {
            panic!("the thing under test");
        }
    }
    fn connection_lost(&mut self, _: &mut Reactor, _: ConnectionLost) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn caught_panic_removes_only_the_panicking_source() {
    let mut reactor = Reactor::new().unwrap();
    let lost = Rc::new(Cell::new(0));
    let (protocol, any) = (Panicking(lost.clone()), ["127.0.0.1:0".parse().unwrap()]);
    let listener =
        create_server(&mut reactor, &any, &ListenOptions::default(), move || protocol.clone()).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut peers = [(); 2].map(|()| TcpStream::connect(&address).unwrap());
    turn_until(&mut reactor, "both connections are accepted", |reactor| {
        listener.stats(reactor).unwrap().open == 2
    });
    std::io::Write::write_all(&mut peers[0], b"!").unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| reactor.run_until(common::PATIENCE, |_| false)));
    assert!(panicked.is_err());
    turn_until(&mut reactor, "the place is freed", |reactor| listener.stats(reactor).unwrap().open == 1);
    assert_eq!((lost.get(), reactor.handles::<Connection<Panicking>>().len()), (1, 1));
    assert!(std::io::Read::read(&mut peers[0], &mut [0]).is_err(), "its connection was reset");
}

/// Runs a server that panics for its first connection, and catches the panic. The second one has to
/// be accepted, and only that one counts as open.
fn assert_second_connection_is_accepted(mut reactor: Reactor, listener: Handle<Listener>) {
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut first = TcpStream::connect(&address).unwrap();
    assert!(panics(|| drop(reactor.run_until(common::PATIENCE, |_| false))));
    turn_until_quiet(&mut reactor);
    assert!(std::io::Read::read(&mut first, &mut [0]).is_err(), "its connection was reset");
    let _second = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "the second one is open", |reactor| {
        listener.stats(reactor).is_ok_and(|stats| stats.open == 1)
    });
}

/// Panics at the first call.
fn panic_once(has_panicked: &mut bool) {
    assert!(std::mem::replace(has_panicked, true), "the thing under test");
}

#[test]
fn caught_panic_of_a_stream_handler_leaves_the_listener() {
    let (mut reactor, mut has_panicked) = (Reactor::new().unwrap(), false);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let handler = move |reader, writer| {
        panic_once(&mut has_panicked); // before there is a future
        async move {
            std::future::pending::<()>().await;
            drop((reader, writer));
            Ok(())
        }
    };
    let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
    assert_second_connection_is_accepted(reactor, listener);
}

#[test]
fn caught_panic_of_a_factory_leaves_the_listener() {
    let (mut reactor, mut has_panicked) = (Reactor::new().unwrap(), false);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let factory = move || {
        panic_once(&mut has_panicked);
        Panicking(Rc::default())
    };
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), factory).unwrap();
    assert_second_connection_is_accepted(reactor, listener);
}

#[test]
fn every_error_says_what_is_wrong() {
    let failed = || std::io::Error::other("broken");
    let mut unreachable = ConnectError::default();
    unreachable.attempts.push(("127.0.0.1:7".parse().unwrap(), failed()));
    unreachable.attempts.push(("unix:/x".parse().unwrap(), failed()));
    let errors: [(Box<dyn Error>, &str); 15] = [
        (ConnectError::default().into(), "no address to connect to"),
        (unreachable.into(), "127.0.0.1:7: broken; unix:/x: broken"),
        (Unavailable::Gone.into(), "the source is gone"),
        (Unavailable::Running.into(), "the source is running"),
        (Unavailable::Connecting.into(), "the connection is not established yet"),
        (Unavailable::WrongType.into(), "the source is of another type"),
        (TrySendError::Full(()).into(), "the mailbox is full"),
        (TrySendError::Closed(()).into(), "the mailbox is closed"),
        (Stopped.into(), "the reactor is gone"),
        (Cancelled.into(), "the task was cancelled"),
        (Elapsed.into(), "the time is up"),
        (CopyError::Read(failed()).into(), "broken"),
        (CopyError::Write(failed()).into(), "broken"),
        (LineTooLong { limit: 4 }.into(), "the line is longer than 4 bytes"),
        ("7".parse::<Address>().unwrap_err().into(), "'7' is not an address: expected IP:PORT or unix:PATH"),
    ];
    for (error, text) in errors {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn loop_continues_after_a_caught_panic_in_a_call() {
    let mut reactor = Reactor::new().unwrap();
    reactor.call_soon(|_| panic!("the thing under test"));
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.turn(None))).is_err());
    reactor.call_soon(Reactor::stop);
    reactor.run().unwrap();
}

#[test]
fn failed_signal_handler_leaves_signals_to_other_reactors() {
    let mut first = Reactor::new().unwrap();
    for signal in [9, 11, 8, -1, 1000] {
        let error = first.on_signal(signal, |_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signal}");
        assert_eq!(first.source_count(), 0);
    }
    let mut second = Reactor::new().unwrap();
    second.on_signal(12, Reactor::stop).unwrap();
    let busy = first.on_signal(12, |_| ()).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    assert!(second.on_signal(9, |_| ()).is_err());
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR2).unwrap();
    second.run().unwrap(); // the earlier handler still works
    drop(second);
    first.on_signal(12, |_| ()).unwrap();
}

#[test]
fn timers_that_set_earlier_timers_take_linear_time() {
    let mut reactor = Reactor::new().unwrap();
    let now = Instant::now();
    reactor.set_now(now);
    for number in 0..50_000 {
        reactor.call_at(now - Duration::from_nanos(number), move |reactor| {
            reactor.call_at(now - Duration::from_secs(1), |_| ());
        });
    }
    let before = cpu_time();
    reactor.turn(None).unwrap();
    let took = cpu_time() - before;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(reactor.timer_count(), 50_000);
}

/// The next test runs this in a separate process, where descriptor 3 is free.
#[test]
#[ignore = "part of safe_code_cannot_own_one_descriptor_twice"]
fn child_process_uses_the_number_of_an_inherited_socket() {
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&own), 3);
    let passed = [(); 2].map(|()| ListeningSocket::from_listen_fds().unwrap());
    assert_eq!(passed.map(|sockets| sockets.len()), [1, 1]);
    // If there were two owners of descriptor 3, std would abort here: "IO Safety violation".
    TcpStream::connect(own.local_addr().unwrap()).unwrap();
}

#[test]
fn safe_code_cannot_own_one_descriptor_twice() {
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 exec {} --exact --ignored --test-threads 1 \
         child_process_uses_the_number_of_an_inherited_socket 3<&-",
        program.display(),
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn callback_can_remove_other_sources() {
    let mut reactor = Reactor::new().unwrap();
    for _ in 0..10 {
        let (ours, _) = mio::net::UnixStream::pair().unwrap();
        Connection::from_socket(&mut reactor, ours, Panicking(Rc::default())).unwrap();
    }
    reactor.call_soon(|reactor| {
        for handle in reactor.handles::<Connection<Panicking>>() {
            reactor.remove(handle.id());
        }
    });
    turn_until_quiet(&mut reactor);
    assert_eq!(reactor.source_count(), 0);
}

/// Records what happens to a connection, and panics at `!`.
#[derive(Clone, Default)]
struct Recorder(Rc<std::cell::RefCell<Vec<String>>>);

impl Protocol for Recorder {
    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.0.borrow_mut().push(String::from_utf8_lossy(data).into_owned());
        assert!(data[0] != b'!', "the thing under test");
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.0.borrow_mut().push(lost.reason.to_string());
    }
}

#[test]
fn panic_loses_no_other_event_and_no_remote_call() {
    let mut reactor = Reactor::new().unwrap();
    let log = Recorder::default();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (ours, peer) = mio::net::UnixStream::pair().unwrap();
        Connection::from_socket(&mut reactor, ours, log.clone()).unwrap();
        peers.push(peer);
    }
    turn_until_quiet(&mut reactor);
    let remote = reactor.remote().unwrap();
    for (peer, text) in peers.iter_mut().zip(["one", "!", "three"]) {
        std::io::Write::write_all(peer, text.as_bytes()).unwrap();
    }
    remote.call(|_| ()).unwrap(); // in the same batch of events
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.turn(None))).is_err());
    let (sender, receiver) = std::sync::mpsc::channel();
    remote.call(move |_| sender.send(()).unwrap()).unwrap();
    turn_until(&mut reactor, "the call from the other thread", |_| receiver.try_recv().is_ok());
    turn_until_quiet(&mut reactor);
    let mut log = log.0.take();
    log.sort();
    assert_eq!(
        log,
        ["!", "aborted", "one", "three"],
        "each event once, and only the panicking source is lost"
    );
}

#[test]
fn panicked_source_is_removed_even_if_no_turn_follows() {
    let mut reactor = Reactor::new().unwrap();
    let log = Recorder::default();
    let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, log.clone()).unwrap();
    std::io::Write::write_all(&mut peer, b"!").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.run_until(common::PATIENCE, |_| false))).is_err());
    drop(reactor);
    assert_eq!(log.0.take(), ["!", "aborted"]);
}

#[test]
fn panic_in_connection_lost_still_frees_the_place() {
    struct PanicsAtLoss;
    impl Protocol for PanicsAtLoss {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn connection_lost(&mut self, _: &mut Reactor, _: ConnectionLost) {
            panic!("the thing under test");
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), || PanicsAtLoss).unwrap();
    let peer = TcpStream::connect(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap();
    turn_until(&mut reactor, "the peer is accepted", |reactor| listener.stats(reactor).unwrap().open == 1);
    drop(peer);
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.run_until(common::PATIENCE, |_| false))).is_err());
    assert_eq!(listener.stats(&reactor).unwrap().open, 0);
}

#[test]
fn id_of_another_reactor_never_names_a_vacant_slot() {
    let (mut one, mut other) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let gone = echo_reactor::Mailbox::<u8>::new(&mut one, 1).id();
    one.remove(gone);
    let next = echo_reactor::Mailbox::<u8>::new(&mut one, 1).id(); // an id of the second generation
    let vacant = echo_reactor::Mailbox::<u8>::new(&mut other, 1).id();
    other.remove(vacant);
    assert!(!other.contains(next) && !other.wake(next) && !other.remove(next));
    assert_eq!(other.source_count(), 0);
}

#[test]
fn panic_while_a_panicked_source_is_removed_repeats_no_event() {
    struct PanicsTwice;
    impl Protocol for PanicsTwice {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {
            panic!("the thing under test");
        }
        fn connection_lost(&mut self, _: &mut Reactor, _: ConnectionLost) {
            panic!("the thing under test, again");
        }
    }
    struct Counting(Rc<Cell<u32>>);
    impl Source for Counting {
        fn ready(&mut self, _: echo_reactor::Id, ready: Ready, _: &mut Reactor) -> Next {
            self.0.set(self.0.get() + u32::from(ready.intersects(Ready::READABLE)));
            Next::Wait
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let (end, mut other) = mio::net::UnixStream::pair().unwrap();
    let source = reactor.insert(Counting(count.clone())).id();
    reactor.register(source, &end, mio::Interest::READABLE).unwrap();
    let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, PanicsTwice).unwrap();
    turn_until_quiet(&mut reactor);
    std::io::Write::write_all(&mut other, b"x").unwrap();
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| reactor.turn(Some(Duration::ZERO)))).is_err());
    }
    turn_until_quiet(&mut reactor);
    assert_eq!((count.get(), reactor.source_count()), (1, 1));
}

/// At its first byte, swaps the reactor that runs it with another reactor.
struct Swapping {
    other: Rc<RefCell<Reactor>>,
    lost: Rc<Cell<u32>>,
}

impl Protocol for Swapping {
    fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
        std::mem::swap(transport.reactor(), &mut self.other.borrow_mut());
    }
    fn connection_lost(&mut self, _: &mut Reactor, _: ConnectionLost) {
        self.lost.set(self.lost.get() + 1);
    }
}

/// Creates a reactor with a server. The listener has the same id in each of these reactors.
fn swapping_server(other: &Rc<RefCell<Reactor>>, lost: &Rc<Cell<u32>>) -> (Reactor, Handle<Listener>) {
    let (mut reactor, any) = (Reactor::new().unwrap(), ["127.0.0.1:0".parse().unwrap()]);
    let (other, lost) = (other.clone(), lost.clone());
    let protocol = move || Swapping { other: other.clone(), lost: lost.clone() };
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), protocol).unwrap();
    (reactor, listener)
}

#[test]
fn reactor_swapped_out_by_a_callback_fails_and_the_other_one_works() {
    let (lost, unused) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Reactor::new().unwrap())));
    let other = Rc::new(RefCell::new(swapping_server(&unused, &lost).0));
    let (mut reactor, listener) = swapping_server(&other, &lost);
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut peer = TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    turn_until(&mut reactor, "the connection is lost", |_| lost.get() == 1);
    assert!(other.borrow_mut().turn(Some(Duration::ZERO)).is_err(), "a source had swapped it out");
    // The reactor that has taken its place works.
    reactor.call_soon(Reactor::stop);
    reactor.run().unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let _peer = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "a connection is accepted", |reactor| {
        listener.stats(reactor).unwrap().open == 1
    });
    drop((reactor, other.replace(Reactor::new().unwrap())));
    assert_eq!(lost.get(), 2);
}

#[test]
fn reactor_swapped_out_by_a_closure_or_a_panicking_source_fails() {
    let other = Rc::new(RefCell::new(Reactor::new().unwrap()));
    let mut reactor = Reactor::new().unwrap();
    let swapped = other.clone();
    reactor.call_soon(move |reactor| std::mem::swap(reactor, &mut swapped.borrow_mut()));
    reactor.turn(None).unwrap();
    assert!(other.borrow_mut().turn(None).is_err());
    let mailbox = Mailbox::<u8>::new(&mut reactor, 1);
    let entered = catch_unwind(AssertUnwindSafe(|| {
        reactor.with(mailbox, |_, reactor| {
            *reactor = Reactor::new().unwrap(); // drops the reactor that runs this closure
            panic!("the thing under test");
        })
    }));
    assert!(entered.is_err());
    turn_until_quiet(&mut reactor);
}

#[test]
fn stale_id_gets_no_registration_and_no_timer() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _peer) = mio::net::UnixStream::pair().unwrap();
    let interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);
    let (live, stale) = (Mailbox::<u8>::new(&mut reactor, 1).id(), Mailbox::<u8>::new(&mut reactor, 1).id());
    reactor.register(live, &ours, interest).unwrap();
    reactor.remove(stale);
    assert_eq!(reactor.reregister(stale, &ours, interest).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(reactor.wake_at(Instant::now(), stale), None);
    assert_eq!(reactor.timer_count(), 0);
}

#[test]
fn panic_in_as_fd_leaves_no_source() {
    struct Bad;
    impl std::os::fd::AsFd for Bad {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            panic!("the thing under test");
        }
    }
    impl Source for Bad {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            Next::Wait
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let added = catch_unwind(AssertUnwindSafe(|| reactor.add(Bad, mio::Interest::READABLE).map(drop)));
    assert!(added.is_err());
    assert_eq!(reactor.source_count(), 0);
}

/// A source that calls a closure when it is removed, also because the reactor is dropped.
struct Late<F: FnMut(&mut Reactor)>(F);

impl<F: FnMut(&mut Reactor) + 'static> Source for Late<F> {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait
    }
    fn removed(&mut self, _: Id, reactor: &mut Reactor) {
        (self.0)(reactor);
    }
}

#[test]
fn reactor_that_is_dropped_runs_no_turn_and_accepts_no_calls() {
    let refused = Rc::new(Cell::new(0));
    let note = refused.clone();
    let mut reactor = Reactor::new().unwrap();
    reactor.insert(Late(move |reactor| {
        note.set(note.get() + u32::from(reactor.run_until(Duration::ZERO, |_| false).is_err()));
        note.set(note.get() + u32::from(reactor.remote().unwrap().call(|_| ()).is_err()));
    }));
    drop(reactor);
    assert_eq!(refused.get(), 2);
}

#[test]
fn connection_is_reset_if_the_loop_ends_by_a_panic() {
    struct Half;
    impl Protocol for Half {
        fn connection_made(&mut self, transport: &mut Transport) {
            transport.write(b"half an ans");
        }
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    }
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
    let ours = mio::net::TcpStream::from_std(listening.accept().unwrap().0);
    let ended = catch_unwind(move || {
        let mut reactor = Reactor::new().unwrap();
        Connection::from_socket(&mut reactor, ours, Half).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        reactor.call_soon(|_| panic!("the thing under test"));
        reactor.run()
    });
    assert!(ended.is_err());
    let error = std::io::Read::read_to_end(&mut peer, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "not a clean end");
}

#[test]
fn run_inside_a_run_is_an_error_and_does_not_take_its_stop() {
    let mut reactor = Reactor::new().unwrap();
    let turns = Rc::new(Cell::new(0));
    let after = turns.clone();
    reactor.call_soon(move |reactor| {
        reactor.stop();
        assert!(reactor.run().is_err());
        reactor.call_soon(move |_| after.set(1));
    });
    reactor.run().unwrap();
    assert_eq!(turns.get(), 0, "the run ended after that turn");
}

#[test]
fn stop_that_run_until_ignores_does_not_end_the_next_run() {
    let mut reactor = Reactor::new().unwrap();
    reactor.call_soon(Reactor::stop);
    assert!(!reactor.run_until(Duration::from_millis(1), |_| false).unwrap());
    assert_eq!(reactor.run_until_complete(async { 7 }).unwrap(), 7);
}

#[test]
fn blocking_socket_does_not_block_the_loop() {
    struct Silent;
    impl Protocol for Silent {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    }
    let (ours, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let duplicate = ours.try_clone().unwrap();
    let mut reactor = Reactor::new().unwrap();
    Connection::from_socket(&mut reactor, mio::net::UnixStream::from_std(ours), Silent).unwrap();
    assert!(common::is_nonblocking(&duplicate));
}

/// Panics at the notification of this name.
struct PanicsAt(&'static str);

impl PanicsAt {
    fn notified(&self, name: &str) {
        assert!(name != self.0, "the thing under test");
    }
}

impl Observer for PanicsAt {
    fn on_poll(&mut self, _: &PollEnd) {
        self.notified("poll");
    }
    fn on_event(&mut self, _: Option<Id>, _: Ready) {
        self.notified("event");
    }
    fn on_dispatch(&mut self, _: &DispatchEnd) {
        self.notified("dispatch");
    }
    fn on_callback(&mut self, _: &CallbackEnd) {
        self.notified("callback");
    }
    fn on_added(&mut self, _: Id, _: &'static str, _: Option<IoStats>, _: Instant) {
        self.notified("added");
    }
    fn on_removed(&mut self, _: Id, _: Instant) {
        self.notified("removed");
    }
    fn on_turn_end(&mut self, _: &TurnEnd) {
        self.notified("turn end");
    }
    fn on_step(&mut self, phase: Phase, _: &Reactor) {
        self.notified(&format!("{phase:?}"));
    }
}

#[test]
fn observer_that_panics_is_removed_and_does_no_damage() {
    struct Steps(Rc<Cell<u32>>);
    impl Observer for Steps {
        fn on_step(&mut self, _: Phase, _: &Reactor) {
            self.0.set(self.0.get() + 1);
        }
    }
    let notifications = ["poll", "event", "dispatch", "callback", "added", "removed", "turn end"];
    for name in notifications.into_iter().chain(["Timeout", "Poll", "Events", "Queue", "Timers"]) {
        let (mut reactor, steps) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
        let (lost, any) = (Rc::new(Cell::new(0)), ["127.0.0.1:0".parse().unwrap()]);
        let protocol = Panicking(lost.clone());
        let options = ListenOptions::default();
        let listener = create_server(&mut reactor, &any, &options, move || protocol.clone()).unwrap();
        reactor.add_observer(PanicsAt(name));
        reactor.add_observer(Steps(steps.clone()));
        reactor.call_soon(|_| ());
        reactor.call_later(Duration::ZERO, |_| ());
        drop(TcpStream::connect(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap());

        let (mut panicked, deadline) = (0, Instant::now() + common::PATIENCE);
        while lost.get() == 0 || reactor.source_count() > 1 || panicked == 0 {
            assert!(Instant::now() < deadline, "{name}: {} sources are left", reactor.source_count());
            panicked += u32::from(panics(|| reactor.turn(Some(Duration::from_millis(10))).unwrap()));
        }
        let before = steps.get();
        turn_until_quiet(&mut reactor);
        assert!(steps.get() > before, "{name}: the other observer is still called");
        assert_eq!((panicked, lost.get()), (1, 1), "{name}");
        assert_eq!(listener.stats(&reactor).unwrap().open, 0, "{name}");
    }
}
