//! However a source ends, its `removed` is called, so that it leaves no timer, no callback and no
//! counted connection behind.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{DeadPort, Echo, ping, pipe, turn_until, turn_until_quiet};
use echo_reactor::observe::{IoStats, Observer};
use echo_reactor::{
    Chunk, ConnectOptions, Connection, ConnectionLost, Flow, Framing, Id, Input, ListenOptions, Listener,
    Mailbox, Next, Output, Protocol, Reactor, Reader, Ready, Source, Transport, TryRecv, Writer,
    create_connection, create_server, start_server,
};

/// Counts the calls of `removed`; its `ready` returns a value that the test chooses.
struct Leaving {
    removed: Rc<Cell<u32>>,
    next: Next,
}

impl Source for Leaving {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        if ready.intersects(Ready::READABLE) {
            reactor.remove(id);
        }
        self.next
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        assert!(!reactor.contains(id), "the source is still in its slot");
        self.removed.set(self.removed.get() + 1);
    }
}

/// Records why its connection was lost.
#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Vec<String>>>);

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(Duration::from_secs(3600)));
        self.0.borrow_mut().push("made".into());
    }
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.0.borrow_mut().push(lost.reason.to_string());
    }
}

struct Woken(Rc<Cell<u32>>);

impl Source for Woken {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        self.0.set(self.0.get() + 1);
        Next::Wait
    }
}

#[test]
fn removed_is_called_once_however_a_source_ends() {
    let mut reactor = Reactor::new().unwrap();
    let counts: [Rc<Cell<u32>>; 4] = Default::default();
    let mut insert =
        |index: usize, next| reactor.insert(Leaving { removed: counts[index].clone(), next }).id();
    let done = insert(0, Next::Done);
    let removed = insert(1, Next::Wait);
    insert(2, Next::Wait); // this source stays until the reactor is dropped
    reactor.wake(done);
    assert!(reactor.remove(removed));
    assert!(!reactor.remove(removed), "it is already removed");
    let (end, _other) = mio::net::UnixStream::pair().unwrap();
    let running = reactor.insert(Leaving { removed: counts[3].clone(), next: Next::Again }).id();
    reactor.register(running, &end, mio::Interest::READABLE).unwrap();
    drop(_other); // its source removes itself while it runs
    turn_until(&mut reactor, "only one source is left", |reactor| reactor.source_count() == 1);
    assert_eq!([1, 1, 0, 1], [0, 1, 2, 3].map(|index| counts[index].get()));
    drop(reactor);
    assert_eq!([1, 1, 1, 1], [0, 1, 2, 3].map(|index| counts[index].get()));
}

#[test]
fn source_that_another_source_removes_has_released_everything_when_remove_returns() {
    let mut reactor = Reactor::new().unwrap();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), || Echo).unwrap();
    let addresses = listener.addresses(&reactor).unwrap();
    let (ours, _peer) = mio::net::UnixStream::pair().unwrap();
    reactor
        .watch(ours, move |_, reactor| {
            assert!(reactor.remove(listener.id()));
            create_server(reactor, &addresses, &ListenOptions::default(), || Echo)?;
            Ok(())
        })
        .unwrap();
    turn_until_quiet(&mut reactor);
    assert_eq!(reactor.handles::<Listener>().len(), 1);
}

#[test]
fn panic_in_removed_does_not_keep_the_others_from_being_removed() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("the destructor of a panic");
        }
    }
    struct Panicking;
    impl Source for Panicking {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            Next::Wait
        }
        fn removed(&mut self, _: Id, _: &mut Reactor) {
            std::panic::panic_any(Payload);
        }
    }
    struct Removing([Id; 2]);
    impl Source for Removing {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            Next::Wait
        }
        fn removed(&mut self, _: Id, reactor: &mut Reactor) {
            self.0.iter().for_each(|id| _ = reactor.remove(*id));
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let removed = Rc::new(Cell::new(0));
    for _ in 0..2 {
        reactor.insert(Leaving { removed: removed.clone(), next: Next::Wait });
        reactor.insert(Panicking);
    }
    let ids = [reactor.insert(Panicking).id(), reactor.insert(Panicking).id()];
    let removing = reactor.insert(Removing(ids)).id();
    let panic = catch_unwind(AssertUnwindSafe(|| reactor.remove(removing))).unwrap_err();
    std::mem::forget(panic);
    assert!(!ids.iter().any(|id| reactor.contains(*id)) && reactor.turn(Some(Duration::ZERO)).is_ok());
    for _ in 0..20 {
        let source = reactor.insert(Leaving { removed: removed.clone(), next: Next::Wait });
        let panics = |reactor: &mut Reactor| reactor.with(source, |_, _| panic!("a panic in with"));
        catch_unwind(AssertUnwindSafe(|| panics(&mut reactor))).unwrap_err(); // removed with the reactor
        let source = reactor.insert(Panicking);
        let panics = |reactor: &mut Reactor| reactor.with(source, |_, _| panic!("a panic in with"));
        catch_unwind(AssertUnwindSafe(|| panics(&mut reactor))).unwrap_err();
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(reactor))).unwrap_err();
    assert_eq!((removed.get(), panic.is::<Payload>()), (22, true));
    std::mem::forget(panic);
}

#[test]
fn destructor_that_panics_does_not_keep_the_others_from_being_removed() {
    struct Panicking;
    impl Drop for Panicking {
        fn drop(&mut self) {
            panic!("the thing under test");
        }
    }
    impl Source for Panicking {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            Next::Done
        }
    }
    let (mut reactor, removed) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let panicking = reactor.insert(Panicking).id();
    reactor.insert(Leaving { removed: removed.clone(), next: Next::Wait });
    reactor.wake(panicking);
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.turn(None))).is_err());
    reactor.turn(Some(Duration::ZERO)).unwrap(); // the loop goes on
    reactor.insert(Panicking);
    reactor.insert(Leaving { removed: removed.clone(), next: Next::Wait });
    assert!(catch_unwind(AssertUnwindSafe(|| drop(reactor))).is_err());
    assert_eq!(removed.get(), 2);
}

#[test]
fn panic_of_a_dropped_remote_call_does_not_keep_sources_from_being_removed() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("a panic in drop");
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let removed = Rc::new(Cell::new(0));
    reactor.insert(Leaving { removed: removed.clone(), next: Next::Wait });
    let value = PanicsOnDrop;
    reactor.remote().unwrap().call(move |_| drop(value)).unwrap();
    catch_unwind(AssertUnwindSafe(|| drop(reactor))).unwrap_err();
    assert_eq!(removed.get(), 1);
}

#[test]
fn source_whose_description_panics_is_removed_too() {
    struct Undescribed(Rc<Cell<u32>>);
    impl Source for Undescribed {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            Next::Wait
        }
        fn removed(&mut self, _: Id, _: &mut Reactor) {
            self.0.set(self.0.get() + 1);
        }
        fn type_name(&self) -> &'static str {
            panic!("a panic in type_name");
        }
    }
    struct Observing;
    impl Observer for Observing {}
    let mut reactor = Reactor::new().unwrap();
    reactor.add_observer(Observing);
    let removed = Rc::new(Cell::new(0));
    let source = Undescribed(removed.clone());
    let insert = AssertUnwindSafe(|| reactor.insert(source));
    catch_unwind(insert).unwrap_err();
    drop(reactor);
    assert_eq!(removed.get(), 1);
}

#[test]
fn removed_connection_frees_its_place_and_leaves_no_timer() {
    let mut reactor = Reactor::new().unwrap();
    let log = Recorder::default();
    let factory = log.clone();
    let mut options = ListenOptions::default();
    options.max_connections = Some(1);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = create_server(&mut reactor, &any, &options, move || factory.clone()).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut first = TcpStream::connect(&address).unwrap();
    let _second = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "one connection is accepted", |_| log.0.borrow().len() == 1);
    let served = reactor.handles::<Connection<Recorder>>()[0];
    reactor.remove(served.id());
    assert_eq!(*log.0.borrow(), ["made", "aborted"]);
    assert_eq!(reactor.timer_count(), 0);
    assert!(first.read(&mut [0]).is_err(), "the connection was reset");
    turn_until(&mut reactor, "the next connection is accepted", |_| log.0.borrow().len() == 3);
    let stats = listener.stats(&reactor).unwrap();
    assert_eq!((stats.open, stats.accepted), (1, 2));
}

/// Notes the connection that was added last.
struct LastConnection(Rc<Cell<Option<Id>>>);

impl Observer for LastConnection {
    fn on_added(&mut self, id: Id, _: &'static str, stats: Option<IoStats>, _: Instant) {
        if stats.is_some() {
            self.0.set(Some(id));
        }
    }
}

#[test]
fn removed_stream_frees_its_place_and_leaves_no_timer() {
    let mut reactor = Reactor::new().unwrap();
    let served = Rc::new(Cell::new(None));
    reactor.add_observer(LastConnection(served.clone()));
    let mut options = ListenOptions::default();
    options.max_connections = Some(1);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = start_server(&mut reactor, &any, &options, |_, _| async { Ok(()) }).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let _first = TcpStream::connect(&address).unwrap();
    let _second = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "the first one lingers", |reactor| reactor.timer_count() == 1);
    assert!(reactor.remove(served.get().unwrap()));
    assert_eq!((reactor.timer_count(), listener.stats(&reactor).unwrap().open), (0, 0));
    turn_until(&mut reactor, "the next one is accepted", |reactor| {
        listener.stats(reactor).unwrap().accepted == 2
    });
}

#[test]
fn cancelled_task_drops_its_future_and_frees_its_place() {
    let mut reactor = Reactor::new().unwrap();
    let (alive, tasks) = (Rc::new(()), Rc::new(RefCell::new(Vec::new())));
    let mut options = ListenOptions::default();
    options.max_connections = Some(1);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let (held, noted) = (alive.clone(), tasks.clone());
    let handler = move |reader: Reader, writer: Writer| {
        let (held, handle) = (held.clone(), reader.handle());
        let task = reader.handle().spawn(async move {
            handle.sleep(Duration::from_secs(3600)).await;
            drop((held, reader, writer));
        });
        noted.borrow_mut().push(task);
        async { Ok(()) }
    };
    let listener = start_server(&mut reactor, &any, &options, handler).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    for round in 1..=2 {
        let mut peer = TcpStream::connect(&address).unwrap();
        turn_until(&mut reactor, "the task sleeps", |reactor| {
            (tasks.borrow().len(), reactor.timer_count()) == (round, 1)
        });
        assert_eq!(Rc::strong_count(&alive), 3, "the test, the handler and one future");
        tasks.borrow()[round - 1].cancel();
        assert_eq!(Rc::strong_count(&alive), 2);
        let thread = std::thread::spawn(move || peer.read(&mut [0]));
        turn_until(&mut reactor, "its connection has ended", |reactor| {
            listener.stats(reactor).unwrap().open == 0
        });
        assert_eq!(thread.join().unwrap().unwrap(), 0, "the connection ended without a reset");
        assert_eq!((reactor.timer_count(), reactor.source_count()), (0, 1));
    }
}

#[test]
fn connection_lost_is_called_once_even_if_the_reactor_is_dropped() {
    let log = Recorder::default();
    let mut reactor = Reactor::new().unwrap();
    let (ours, _peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, log.clone()).unwrap();
    let (unmade, _other) = mio::net::UnixStream::pair().unwrap();
    turn_until_quiet(&mut reactor);
    Connection::from_socket(&mut reactor, unmade, log.clone()).unwrap();
    drop(reactor);
    assert_eq!(*log.0.borrow(), ["made", "aborted", "aborted"]);
}

#[test]
fn removed_connector_calls_connection_lost_and_leaves_no_timer() {
    let queue = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    rustix::net::listen(&queue, 0).unwrap(); // a full backlog drops the next SYN
    let address = queue.local_addr().unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| mio::net::TcpStream::connect(address).unwrap()).collect();
    let log = Recorder::default();
    let mut reactor = Reactor::new().unwrap();
    turn_until_quiet(&mut reactor);
    let addresses = [address.into(), DeadPort::new().1.into()];
    let handle = create_connection(&mut reactor, &addresses, &ConnectOptions::default(), log.clone());
    turn_until(&mut reactor, "the connector tries", |reactor| reactor.timer_count() == 1);
    reactor.remove(handle.id());
    assert_eq!(*log.0.borrow(), ["aborted"]);
    assert_eq!((reactor.timer_count(), reactor.source_count()), (0, 0));
}

#[test]
fn removed_mailbox_or_input_wakes_waiters_as_closed() {
    let mut reactor = Reactor::new().unwrap();
    let woken = Rc::new(Cell::new(0));
    let waiter = reactor.insert(Woken(woken.clone())).id();
    let mailbox = Mailbox::<u8>::new(&mut reactor, 1);
    assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Empty);
    reactor.remove(mailbox.id());
    turn_until(&mut reactor, "the waiter is woken", |_| woken.get() == 1);
    assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Closed);

    let (reading, _writing) = pipe();
    let chunks = Mailbox::<Chunk>::new(&mut reactor, 1);
    let input = Input::open(&mut reactor, &reading, Framing::Bytes, chunks).unwrap();
    assert!(matches!(chunks.try_recv(&mut reactor, waiter), TryRecv::Empty));
    reactor.remove(input.id());
    turn_until(&mut reactor, "the waiter is woken again", |_| woken.get() == 2);
    assert!(matches!(chunks.try_recv(&mut reactor, waiter), TryRecv::Closed));
}

#[test]
fn closed_or_removed_mailbox_ends_its_input_without_a_byte() {
    let mut reactor = Reactor::new().unwrap();
    for is_removed in [false, true] {
        let (reading, writing) = pipe();
        let chunks = Mailbox::<Chunk>::new(&mut reactor, 1);
        let input = Input::open(&mut reactor, &reading, Framing::Bytes, chunks).unwrap();
        drop(reading);
        turn_until_quiet(&mut reactor); // it waits for a byte
        if is_removed {
            reactor.remove(chunks.id());
        } else {
            chunks.close(&mut reactor);
        }
        turn_until(&mut reactor, "the input leaves", |reactor| !reactor.contains(input.id()));
        let error = rustix::io::write(&writing, b"x").unwrap_err();
        assert_eq!(error, rustix::io::Errno::PIPE, "its descriptor is closed");
    }
}

#[test]
fn removed_output_wakes_writers_and_calls_on_flushed() {
    let mut reactor = Reactor::new().unwrap();
    let (_reading, writing) = pipe();
    let (woken, flushed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let waiter = reactor.insert(Woken(woken.clone())).id();
    let output = Output::open(&mut reactor, &writing, |_, _| ()).unwrap();
    assert_eq!(output.write(&mut reactor, waiter, &[0; 1 << 20]), Flow::Full);
    let count = |flushed: &Rc<Cell<u32>>| {
        let flushed = flushed.clone();
        move |_: &mut Reactor| flushed.set(flushed.get() + 1)
    };
    output.on_flushed(&mut reactor, count(&flushed));
    reactor.remove(output.id());
    output.on_flushed(&mut reactor, count(&flushed)); // after the removal, too
    turn_until(&mut reactor, "both callbacks were called", |_| flushed.get() == 2);
    assert_eq!(woken.get(), 1);
    assert_eq!(output.write(&mut reactor, waiter, b"x"), Flow::Closed);
}

#[test]
fn removed_listener_calls_its_callbacks_and_its_connections_stay_open() {
    let mut reactor = Reactor::new().unwrap();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), || Echo).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let peer = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "the peer is accepted", |reactor| listener.stats(reactor).unwrap().open == 1);
    let called = Rc::new(Cell::new(0));
    for _ in 0..2 {
        let (stopped, closed) = (called.clone(), called.clone());
        listener.on_stopped(&mut reactor, move |_| stopped.set(stopped.get() + 1)).unwrap();
        listener.on_closed(&mut reactor, move |_| closed.set(closed.get() + 1)).unwrap();
    }
    reactor.remove(listener.id());
    turn_until(&mut reactor, "all four callbacks were called", |_| called.get() == 4);
    assert!(listener.close(&mut reactor).is_err(), "closing a removed listener is an error");
    let client = std::thread::spawn(move || {
        let mut peer = peer;
        ping(&mut peer, b"still here");
    });
    turn_until(&mut reactor, "the connection has ended", |reactor| reactor.source_count() == 0);
    client.join().unwrap();
}

#[test]
fn source_that_leaves_deregisters_no_successor_on_its_descriptor() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let shared = Rc::new(ours);
    let first = reactor.watch(shared.clone(), |_, _| Err(std::io::ErrorKind::WouldBlock.into())).unwrap();
    reactor.deregister(first, &shared).unwrap();
    let successor = reactor
        .watch(shared.clone(), |stream, _| {
            let mut stream: &UnixStream = stream;
            stream.read_exact(&mut [0])
        })
        .unwrap();
    let error = reactor.deregister(first, &shared).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    reactor.remove(first);
    turn_until_quiet(&mut reactor);
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    turn_until(&mut reactor, "the successor has read", |reactor| !reactor.contains(successor));
}

#[test]
fn watch_that_swapped_its_stream_deregisters_no_other_source() {
    let mut reactor = Reactor::new().unwrap();
    let (first, mut other) = UnixStream::pair().unwrap();
    let (second, _kept) = UnixStream::pair().unwrap();
    first.set_nonblocking(true).unwrap();
    let mut next = Some(second);
    let watch = reactor
        .watch(first, move |stream, _| {
            if stream.read(&mut [0]).is_ok()
                && let Some(second) = next.take()
            {
                *stream = second; // this closes the first one
            }
            Err(std::io::ErrorKind::WouldBlock.into())
        })
        .unwrap();
    std::io::Write::write_all(&mut other, b"x").unwrap();
    turn_until_quiet(&mut reactor);
    // This source gets the number of the closed descriptor.
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    Connection::from_socket(&mut reactor, ours, Echo).unwrap();
    turn_until_quiet(&mut reactor);
    reactor.remove(watch);
    let mut peer = UnixStream::from(std::os::fd::OwnedFd::from(peer));
    peer.set_nonblocking(false).unwrap();
    let client = std::thread::spawn(move || ping(&mut peer, b"am I still registered?"));
    turn_until(&mut reactor, "the message was echoed", |_| client.is_finished());
    client.join().unwrap();
}

#[test]
fn connection_made_while_the_reactor_is_dropped_is_lost_too() {
    struct Again(Rc<RefCell<Vec<u32>>>, u32);
    impl Protocol for Again {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn connection_lost(&mut self, reactor: &mut Reactor, _: ConnectionLost) {
            self.0.borrow_mut().push(self.1);
            if self.1 < 3 {
                let next = Again(self.0.clone(), self.1 + 1);
                create_connection(reactor, &[], &ConnectOptions::default(), next);
            }
        }
    }
    let log = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new().unwrap();
    create_connection(&mut reactor, &[], &ConnectOptions::default(), Again(log.clone(), 0));
    drop(reactor);
    assert_eq!(*log.borrow(), [0, 1, 2, 3]);
}

#[test]
fn removed_connection_gets_no_events_if_a_duplicate_keeps_its_socket_open() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let duplicate = ours.try_clone().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let ours = mio::net::UnixStream::from_std(ours);
    let handle = echo_reactor::Connection::from_socket(&mut reactor, ours, Echo).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.remove(handle.id());
    // The same socket can get another connection.
    let again = mio::net::UnixStream::from_std(duplicate.try_clone().unwrap());
    echo_reactor::Connection::from_socket(&mut reactor, again, Echo).unwrap();
    peer.set_nonblocking(true).unwrap();
    std::io::Write::write_all(&mut peer, b"hello").unwrap();
    let mut echo = [0; 5];
    turn_until(&mut reactor, "the echo", |_| peer.read(&mut echo).is_ok_and(|count| count == 5));
    assert_eq!(&echo, b"hello");
}
