//! A call on a source that is running, removed or not yet connected takes effect later, or returns
//! the reason why it cannot.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::TcpStream;
use std::rc::Rc;

use common::{DeadPort, Echo, turn_until, turn_until_quiet};
use echo_reactor::{
    Address, ConnectOptions, Connection, Flow, Handle, Id, ListenOptions, Listener, Mailbox, Output,
    Protocol, Reactor, Transport, Unavailable, create_connection, create_server,
};

/// Runs a closure in `connection_made`.
struct Making<F>(Option<F>);

impl<F: FnOnce(&mut Transport) + 'static> Protocol for Making<F> {
    fn connection_made(&mut self, transport: &mut Transport) {
        if let Some(act) = self.0.take() {
            act(transport);
        }
    }
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
}

/// A server whose connections call `act` with its listener when they are made.
fn serve<F>(reactor: &mut Reactor, act: F) -> (Handle<Listener>, String)
where
    F: Fn(Handle<Listener>, &mut Transport) + Clone + 'static,
{
    let own = Rc::new(RefCell::new(None::<Handle<Listener>>));
    let (found, any) = (own.clone(), ["127.0.0.1:0".parse().unwrap()]);
    let factory = move || {
        let (found, act) = (found.clone(), act.clone());
        Making(Some(move |transport: &mut Transport| {
            let listener = found.borrow().unwrap();
            act(listener, transport);
        }))
    };
    let listener = create_server(reactor, &any, &ListenOptions::default(), factory).unwrap();
    *own.borrow_mut() = Some(listener);
    let address = listener.addresses(reactor).unwrap()[0].to_string();
    (listener, address)
}

#[test]
fn listener_can_be_closed_in_connection_made() {
    let mut reactor = Reactor::new().unwrap();
    let (listener, address) = serve(&mut reactor, |listener, transport| {
        listener.close(transport.reactor()).unwrap();
    });
    let _peer = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "one connection is accepted", |reactor| {
        listener.stats(reactor).unwrap().open == 1
    });
    turn_until(&mut reactor, "the listener is closed", |reactor| {
        listener.addresses(reactor).unwrap().is_empty()
    });
}

#[test]
fn listener_can_be_queried_in_connection_made() {
    let mut reactor = Reactor::new().unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let note = log.clone();
    let (_, address) = serve(&mut reactor, move |listener, transport| {
        let reactor = transport.reactor();
        note.borrow_mut().push(listener.addresses(reactor).unwrap()[0].to_string());
        assert_eq!(listener.stats(reactor).unwrap().open, 1);
        for _ in 0..2 {
            let note = note.clone();
            listener.on_closed(reactor, move |_| note.borrow_mut().push("closed".into())).unwrap();
        }
        listener.close(reactor).unwrap();
        transport.abort();
    });
    let _peer = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "the callbacks are called", |_| log.borrow().len() == 3);
    assert_eq!(*log.borrow(), [address.as_str(), "closed", "closed"]);
}

#[test]
fn enter_reports_running_connecting_or_gone() {
    let mut reactor = Reactor::new().unwrap();
    let seen = Rc::new(RefCell::new(None));
    let note = seen.clone();
    type Act = Box<dyn FnOnce(&mut Transport)>;
    let act: Act = Box::new(move |transport| {
        let own = transport.handle::<Making<Act>>();
        *note.borrow_mut() = Some(own.enter(transport.reactor(), |_, _| ()));
    });
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    let handle = Connection::from_socket(&mut reactor, ours, Making(Some(act))).unwrap();
    turn_until(&mut reactor, "the connection is made", |_| seen.borrow().is_some());
    assert_eq!(*seen.borrow(), Some(Err(Unavailable::Running)));
    assert_eq!(handle.enter(&mut reactor, |_, _| 7), Ok(7));
    drop(peer);
    turn_until(&mut reactor, "the connection is removed", |reactor| reactor.source_count() == 0);
    assert_eq!(handle.enter(&mut reactor, |_, _| ()), Err(Unavailable::Gone));

    let dead = DeadPort::new();
    let silent: Act = Box::new(|_| ());
    let protocol = Making(Some(silent));
    let connecting = create_connection(&mut reactor, &[dead.1.into()], &ConnectOptions::default(), protocol);
    assert_eq!(connecting.enter(&mut reactor, |_, _| ()), Err(Unavailable::Connecting));
    turn_until(&mut reactor, "connecting has failed", |reactor| reactor.source_count() == 0);
    assert_eq!(connecting.enter(&mut reactor, |_, _| ()), Err(Unavailable::Gone));
}

#[test]
fn get_takes_a_shared_reference_and_returns_the_reason() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::<u8>::new(&mut reactor, 1);
    let shared: &Reactor = &reactor;
    assert!(shared.get(mailbox).is_ok());
    let wrong = Handle::<Mailbox<u16>>::new(mailbox.id());
    assert_eq!(shared.get(wrong).err(), Some(Unavailable::WrongType));
    let inside = reactor.with(mailbox, |_, reactor| reactor.get(mailbox).err()).unwrap();
    assert_eq!(inside, Some(Unavailable::Running));
    reactor.remove(mailbox.id());
    assert_eq!(reactor.get(mailbox).err(), Some(Unavailable::Gone));
    assert_eq!(std::io::Error::from(Unavailable::Gone).to_string(), "the source is gone");
}

#[test]
fn calls_on_a_removed_source_report_failure() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::<u8>::new(&mut reactor, 1);
    let id: Id = mailbox.id();
    assert!(reactor.wake(id));
    assert!(reactor.remove(id));
    assert!(!reactor.wake(id) && !reactor.remove(id));
    let (end, _other) = mio::net::UnixStream::pair().unwrap();
    let error = reactor.register(id, &end, mio::Interest::READABLE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn wake_while_connecting_reaches_the_protocol() {
    struct Woken(Rc<RefCell<Vec<&'static str>>>);
    impl Protocol for Woken {
        fn connection_made(&mut self, _: &mut Transport) {
            self.0.borrow_mut().push("made");
        }
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn woken(&mut self, _: &mut Transport) {
            self.0.borrow_mut().push("woken");
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let address = Address::from(listening.local_addr().unwrap());
    let handle = create_connection(&mut reactor, &[address], &ConnectOptions::default(), Woken(log.clone()));
    assert!(reactor.wake(handle.id()));
    turn_until(&mut reactor, "the protocol was woken", |_| log.borrow().len() == 2);
    turn_until_quiet(&mut reactor);
    assert_eq!(*log.borrow(), ["made", "woken"]);
}

#[test]
fn empty_address_list_is_an_error() {
    let mut reactor = Reactor::new().unwrap();
    let factory = || Making(Some(|_: &mut Transport| ()));
    let error = create_server(&mut reactor, &[], &ListenOptions::default(), factory).unwrap_err();
    assert_eq!(error.to_string(), "no address to listen on");

    struct Lost(Rc<RefCell<String>>);
    impl Protocol for Lost {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn connection_lost(&mut self, _: &mut Reactor, lost: echo_reactor::ConnectionLost) {
            *self.0.borrow_mut() = lost.reason.to_string();
        }
    }
    let reason = Rc::new(RefCell::new(String::new()));
    create_connection(&mut reactor, &[], &ConnectOptions::default(), Lost(reason.clone()));
    turn_until_quiet(&mut reactor);
    assert_eq!(*reason.borrow(), "no address to connect to");
}

#[test]
fn nested_turn_is_an_error_and_loses_no_event() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
    let connection = Connection::from_socket(&mut reactor, ours, common::Echo).unwrap();
    turn_until_quiet(&mut reactor);
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    connection.enter(&mut reactor, |_, transport| assert!(transport.reactor().turn(None).is_err())).unwrap();
    turn_until(&mut reactor, "the byte was echoed", |_| std::io::Read::read(&mut peer, &mut [0]).is_ok());
}

#[test]
fn stop_in_the_condition_of_run_until_does_not_end_the_next_run() {
    let mut reactor = Reactor::new().unwrap();
    let stop = |reactor: &mut Reactor| {
        reactor.stop();
        true
    };
    assert!(reactor.run_until(common::PATIENCE, stop).unwrap());
    assert!(reactor.run_until(std::time::Duration::ZERO, stop).unwrap());
    reactor.call_soon(Reactor::stop);
    reactor.run().unwrap();
    assert_eq!(reactor.turn_count(), 1);
}

#[test]
fn nested_run_until_is_an_error_and_does_not_take_the_stop_of_the_run_around_it() {
    let mut reactor = Reactor::new().unwrap();
    reactor.call_soon(|reactor| {
        reactor.stop();
        assert!(reactor.run_until(common::PATIENCE, |_| true).is_err());
    });
    reactor.call_later(common::PATIENCE, |_| panic!("the stop is lost"));
    reactor.run().unwrap();
}

#[test]
fn connection_removed_while_its_listener_runs_frees_its_place() {
    let mut reactor = Reactor::new().unwrap();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), || common::Echo).unwrap();
    let _peer = TcpStream::connect(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap();
    turn_until(&mut reactor, "the peer is accepted", |reactor| listener.stats(reactor).unwrap().open == 1);
    let connection = reactor.handles::<Connection<common::Echo>>()[0];
    reactor.with(listener, |_, reactor| reactor.remove(connection.id())).unwrap();
    turn_until(&mut reactor, "the place is freed", |reactor| listener.stats(reactor).unwrap().open == 0);
}

#[test]
fn calls_on_a_running_mailbox_take_effect_later() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 2);
    let waiter = mailbox.id();
    mailbox.try_send(&mut reactor, waiter, 1).unwrap();
    reactor
        .with(mailbox, |_, reactor| {
            assert_eq!(mailbox.try_recv(reactor, waiter), echo_reactor::TryRecv::Empty);
            assert_eq!(mailbox.flow(reactor, waiter), echo_reactor::Flow::Full);
            mailbox.close(reactor);
        })
        .unwrap();
    turn_until_quiet(&mut reactor);
    assert_eq!(mailbox.try_recv(&mut reactor, waiter), echo_reactor::TryRecv::Item(1));
    assert_eq!(mailbox.try_recv(&mut reactor, waiter), echo_reactor::TryRecv::Closed);
}

#[test]
fn on_flushed_of_a_running_output_waits_for_the_flush() {
    let mut reactor = Reactor::new().unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let output = Output::open(&mut reactor, &writing, |_, _| ()).unwrap();
    assert_eq!(output.write(&mut reactor, output.id(), &[0; 300_000]), Flow::Full);
    let flushed = Rc::new(Cell::new(false));
    let note = flushed.clone();
    reactor
        .with(output, move |_, reactor| {
            assert_eq!(output.write(reactor, output.id(), b"x"), Flow::Closed);
            output.on_flushed(reactor, move |_| note.set(true));
        })
        .unwrap();
    turn_until_quiet(&mut reactor);
    assert!(!flushed.get(), "most of it is buffered");
    let reader = std::thread::spawn(move || reading.read_exact(&mut [0; 300_000]).unwrap());
    turn_until(&mut reactor, "the output is flushed", |_| flushed.get());
    reader.join().unwrap();
}

#[test]
fn connecting_connection_is_reported_by_every_call() {
    let dead = DeadPort::new();
    let mut reactor = Reactor::new().unwrap();
    let handle = create_connection(&mut reactor, &[dead.1.into()], &ConnectOptions::default(), Echo);
    assert_eq!(reactor.get(handle).map(drop), Err(Unavailable::Connecting));
    assert_eq!(reactor.get_mut(handle).map(drop), Err(Unavailable::Connecting));
    assert_eq!(reactor.with(handle, |_, _| ()), Err(Unavailable::Connecting));
    assert_eq!(handle.enter(&mut reactor, |_, _| ()), Err(Unavailable::Connecting));
    let wrong = Handle::<Output>::new(Mailbox::<u8>::new(&mut reactor, 1).id());
    assert_eq!(reactor.get(wrong).map(drop), Err(Unavailable::WrongType));
}

#[test]
fn output_returns_why_it_cannot_count_or_write() {
    let mut reactor = Reactor::new().unwrap();
    let (reading, writing) = std::io::pipe().unwrap();
    let output = Output::open(&mut reactor, &writing, |_, _| ()).unwrap();
    let inside = reactor.with(output, |_, reactor| output.buffered(reactor)).unwrap();
    assert_eq!(inside, Err(Unavailable::Running));
    assert_eq!(output.buffered(&reactor), Ok(0));
    drop(reading);
    assert_eq!(output.write(&mut reactor, output.id(), b"lost"), Flow::Closed, "the write that fails");
    reactor.remove(output.id());
    assert_eq!(output.buffered(&reactor), Err(Unavailable::Gone));
}
