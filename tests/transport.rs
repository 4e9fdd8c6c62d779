//! What a protocol can rely on: the order of its callbacks, half-close in both directions,
//! backpressure, and an end that is reported once.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{assert_same_bytes, debug, noise, turn_until, turn_until_quiet};
use echo_reactor::{
    Address, ConnectOptions, Connection, ConnectionLost, Flow, Handle, ListenOptions, Protocol, Reactor,
    Transport, create_connection, create_server,
};

#[derive(Default)]
struct Log {
    calls: Vec<&'static str>,
    data: Vec<u8>,
    reason: Option<String>,
}

type Record = Rc<RefCell<Log>>;

/// Records its callbacks, and passes each to a closure of the test.
struct Recorder<F> {
    record: Record,
    act: F,
}

impl<F: FnMut(&'static str, &mut Transport) + 'static> Recorder<F> {
    fn call(&mut self, what: &'static str, transport: &mut Transport) {
        self.record.borrow_mut().calls.push(what);
        (self.act)(what, transport);
    }
}

impl<F: FnMut(&'static str, &mut Transport) + 'static> Protocol for Recorder<F> {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.call("made", transport);
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        assert!(!data.is_empty());
        self.record.borrow_mut().data.extend_from_slice(data);
        self.call("data", transport);
    }
    fn eof_received(&mut self, transport: &mut Transport) {
        self.call("eof", transport);
    }
    fn pause_writing(&mut self, transport: &mut Transport) {
        self.call("pause", transport);
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        self.call("resume", transport);
    }
    fn woken(&mut self, transport: &mut Transport) {
        self.call("woken", transport);
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        let mut seen = self.record.borrow_mut();
        seen.calls.push("lost");
        seen.reason = Some(debug(lost.reason));
    }
}

/// A connection on one end of a socket pair. The other end is the peer's.
fn connection<F: FnMut(&'static str, &mut Transport) + 'static>(
    reactor: &mut Reactor,
    act: F,
) -> (Handle<Connection<Recorder<F>>>, Record, StdUnixStream) {
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    let peer = StdUnixStream::from(std::os::fd::OwnedFd::from(peer));
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let record = Record::default();
    let handle = Connection::from_socket(reactor, ours, Recorder { record: record.clone(), act }).unwrap();
    (handle, record, peer)
}

fn close_at_eof(what: &str, transport: &mut Transport) {
    if what == "eof" {
        transport.close();
    }
}

fn turn_until_lost(reactor: &mut Reactor, record: &Record) {
    turn_until(reactor, "connection_lost", |_| record.borrow().reason.is_some());
}

#[test]
fn callbacks_come_in_order_and_connection_lost_once() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, mut peer) = connection(&mut reactor, close_at_eof);
    peer.write_all(b"hello").unwrap();
    turn_until(&mut reactor, "the data was received", |_| record.borrow().data == b"hello");
    reactor.wake(handle.id());
    turn_until(&mut reactor, "the protocol was woken", |_| record.borrow().calls.contains(&"woken"));
    drop(peer);
    turn_until_lost(&mut reactor, &record);
    turn_until_quiet(&mut reactor);
    assert_eq!(record.borrow().calls, ["made", "data", "woken", "eof", "lost"]);
    assert_eq!(record.borrow().reason.as_deref(), Some("Closed"));
    assert!(!reactor.contains(handle.id()));
}

#[test]
fn data_and_fin_in_one_event_are_both_delivered() {
    let mut reactor = Reactor::new().unwrap();
    let (_, record, mut peer) = connection(&mut reactor, close_at_eof);
    // Both arrive before the first turn, so one event reports both.
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().data, b"last words");
    assert_eq!(record.borrow().calls, ["made", "data", "eof", "lost"]);
}

#[test]
fn urgent_data_neither_stops_nor_reorders_the_stream() {
    use rustix::net::{SendFlags, send};
    let mut reactor = Reactor::new().unwrap();
    let record = Record::default();
    let factory_record = record.clone();
    let any = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let factory = move || Recorder { record: factory_record.clone(), act: close_at_eof };
    let listener = create_server(&mut reactor, &[any], &ListenOptions::default(), factory).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut peer = common::connect(&address);
    // A read stops at the urgent mark. More bytes follow it, but no further event.
    peer.write_all(b"before").unwrap();
    assert_eq!(send(&peer, b"!", SendFlags::OOB).unwrap(), 1);
    peer.write_all(b"after").unwrap();
    turn_until(&mut reactor, "all bytes were received", |_| record.borrow().data.len() == 12);
    assert_eq!(record.borrow().data, b"before!after");
}

#[test]
fn protocol_can_write_after_eof() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, mut peer) = connection(&mut reactor, |_, _| ());
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "the end of file was reported", |_| record.borrow().calls.contains(&"eof"));
    turn_until_quiet(&mut reactor);
    handle
        .enter(&mut reactor, |_, transport| {
            transport.write(b"the answer");
            transport.write_eof();
        })
        .unwrap();
    turn_until_lost(&mut reactor, &record);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"the answer");
    assert_eq!(record.borrow().calls, ["made", "eof", "lost"]);
}

#[test]
fn protocol_can_read_after_ending_its_own_side() {
    let mut reactor = Reactor::new().unwrap();
    let (_, record, mut peer) = connection(&mut reactor, |what, transport| match what {
        "made" => {
            transport.write(b"question");
            transport.write_eof();
            assert_eq!(transport.write(b"too late"), Flow::Closed);
        }
        _ => close_at_eof(what, transport),
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let mut question = Vec::new();
    peer.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    peer.write_all(b"answer").unwrap();
    drop(peer);
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().data, b"answer");
    assert_eq!(record.borrow().calls, ["made", "data", "eof", "lost"]);
}

#[test]
fn writing_pauses_above_the_high_mark_and_resumes_at_the_low_mark() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, mut peer) = connection(&mut reactor, |_, _| ());
    let bytes = noise(1 << 20, 1);
    let flow = handle.enter(&mut reactor, |_, transport| {
        transport.set_write_marks(10_000, 2_000);
        transport.write(&bytes)
    });
    assert_eq!(flow, Ok(Flow::Full));
    assert_eq!(record.borrow().calls, ["made", "pause"]);
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        let buffered = handle.enter(&mut reactor, |_, transport| transport.buffered()).unwrap();
        let resumed = record.borrow().calls.contains(&"resume");
        assert_eq!(resumed, buffered <= 2_000, "{buffered} bytes are buffered");
        let mut chunk = [0; 5000];
        let count = peer.read(&mut chunk).unwrap();
        got.extend_from_slice(&chunk[..count]);
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_same_bytes(&got, &bytes);
    assert_eq!(record.borrow().calls, ["made", "pause", "resume"], "each is called once");
}

#[test]
fn notification_comes_after_the_callback_that_caused_it() {
    let mut reactor = Reactor::new().unwrap();
    let inside = Rc::new(RefCell::new(Vec::new()));
    let note = inside.clone();
    let (_, record, _peer) = connection(&mut reactor, move |what, transport| {
        note.borrow_mut().push(("enter", what));
        if what == "made" {
            transport.write(&vec![0; 4 << 20]);
        }
        note.borrow_mut().push(("leave", what));
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(record.borrow().calls, ["made", "pause"]);
    assert_eq!(
        *inside.borrow(),
        [("enter", "made"), ("leave", "made"), ("enter", "pause"), ("leave", "pause")]
    );
}

#[test]
fn resume_reading_delivers_everything_held_back() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, mut peer) = connection(&mut reactor, |what, transport| {
        if what == "made" {
            transport.pause_reading();
        }
    });
    peer.write_all(b"wait").unwrap();
    turn_until_quiet(&mut reactor);
    assert!(record.borrow().data.is_empty());
    // No new event arrives: the readiness was remembered.
    handle.enter(&mut reactor, |_, transport| transport.resume_reading()).unwrap();
    turn_until(&mut reactor, "the data was received", |_| record.borrow().data == b"wait");
}

#[test]
fn close_flushes_the_buffer_and_discards_input_until_eof() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, mut peer) = connection(&mut reactor, |_, _| ());
    let bytes = noise(2 << 20, 2);
    handle
        .enter(&mut reactor, |_, transport| {
            transport.write(&bytes);
            transport.close();
        })
        .unwrap();
    peer.write_all(b"to be discarded!").unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        (got, peer)
    });
    turn_until(&mut reactor, "the buffer is flushed", |_| reader.is_finished());
    let (got, peer) = reader.join().unwrap();
    assert_same_bytes(&got, &bytes);
    assert!(record.borrow().reason.is_none(), "the peer has not ended its side");
    drop(peer);
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().calls, ["made", "lost"], "only connection_lost follows close");
    assert_eq!(record.borrow().reason.as_deref(), Some("Closed"));
}

#[test]
fn linger_timeout_ends_the_wait_for_eof() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, record, _peer) = connection(&mut reactor, |_, _| ());
    handle.enter(&mut reactor, |_, transport| transport.close()).unwrap();
    turn_until_quiet(&mut reactor);
    assert!(record.borrow().reason.is_none());
    reactor.set_now(start + Duration::from_secs(31));
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().reason.as_deref(), Some("LingerTimeout"));
    assert_eq!(reactor.timer_count(), 0);
}

#[test]
fn abort_drops_the_buffer_and_resets() {
    let mut reactor = Reactor::new().unwrap();
    let (address, server) = common::serve_once(|mut stream| {
        std::thread::sleep(common::A_WHILE); // until the peer has stalled
        stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
    });
    let record = Record::default();
    let act = |what: &'static str, transport: &mut Transport| {
        if what == "made" {
            assert_eq!(transport.write(&vec![0; 32 << 20]), Flow::Full);
            transport.abort();
            assert_eq!(transport.write(b"x"), Flow::Closed);
        }
    };
    let to = Address::from(address.parse::<std::net::SocketAddr>().unwrap());
    create_connection(
        &mut reactor,
        &[to],
        &ConnectOptions::default(),
        Recorder { record: record.clone(), act },
    );
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().calls, ["made", "lost"]);
    assert_eq!(record.borrow().reason.as_deref(), Some("Aborted"));
    assert_eq!(server.join().unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn reset_ends_the_connection_with_its_reason() {
    let mut reactor = Reactor::new().unwrap();
    let (address, server) = common::serve_once(|mut stream| {
        // If the reset arrived before the first turn, the connection would fail without being made.
        stream.read_exact(&mut [0; 1]).unwrap();
        common::reset_on_close(&stream);
    });
    let record = Record::default();
    let to = Address::from(address.parse::<std::net::SocketAddr>().unwrap());
    let act = |what: &'static str, transport: &mut Transport| {
        if what == "made" {
            transport.write(b"x");
        }
    };
    create_connection(
        &mut reactor,
        &[to],
        &ConnectOptions::default(),
        Recorder { record: record.clone(), act },
    );
    turn_until_lost(&mut reactor, &record);
    server.join().unwrap();
    let reason = record.borrow().reason.clone().unwrap();
    assert!(reason.starts_with("Failed") && reason.contains("ConnectionReset"), "{reason}");
    assert_eq!(record.borrow().calls, ["made", "lost"], "no end of file is reported");
}

#[test]
fn data_received_before_a_failed_write_is_still_delivered() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, mut peer) = connection(&mut reactor, |_, _| ());
    peer.write_all(b"goodbye").unwrap();
    drop(peer);
    // The write fails before the connection has read.
    handle.enter(&mut reactor, |_, transport| transport.write(b"hello?")).unwrap();
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().data, b"goodbye");
    assert!(record.borrow().reason.as_deref().unwrap().contains("BrokenPipe"));
}

#[test]
fn idle_timeout_counts_bytes_in_both_directions() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let at = |seconds| start + Duration::from_secs(seconds);
    let (_, record, mut peer) = connection(&mut reactor, |what, transport| {
        if what == "made" {
            transport.set_idle_timeout(Some(Duration::from_secs(10)));
        }
    });
    reactor.set_now(at(9));
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the byte was received", |_| !record.borrow().data.is_empty());
    reactor.set_now(at(18));
    turn_until_quiet(&mut reactor);
    assert!(record.borrow().reason.is_none(), "a byte moved nine seconds ago");
    reactor.set_now(at(19));
    turn_until_lost(&mut reactor, &record);
    assert_eq!(record.borrow().reason.as_deref(), Some("IdleTimeout"));
}

#[test]
fn idle_timeout_counts_bytes_that_only_the_kernel_moves() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, record, mut peer) = connection(&mut reactor, |what, transport| {
        if what == "made" {
            transport.set_idle_timeout(Some(Duration::from_secs(8)));
        }
    });
    for _ in 0..2 {
        handle.enter(&mut reactor, |_, transport| transport.write(&[7; 100])).unwrap();
    }
    let at = |reactor: &mut Reactor, seconds| {
        reactor.set_now(start + Duration::from_secs(seconds));
        turn_until_quiet(reactor);
        record.borrow().reason.is_none()
    };
    assert!(at(&mut reactor, 8), "the first check finds bytes in the kernel's buffer");
    assert_eq!(reactor.timers().next().unwrap().0, start + Duration::from_secs(10));
    peer.read_exact(&mut [0; 100]).unwrap(); // only the kernel's buffer shrinks
    assert!(at(&mut reactor, 10), "the buffer is checked four times per timeout");
    for second in 11..18 {
        assert!(at(&mut reactor, second), "a byte moved at most eight seconds ago: {second}");
    }
    assert!(!at(&mut reactor, 18));
    assert_eq!(record.borrow().reason.as_deref(), Some("IdleTimeout"));
}

#[test]
fn closed_connection_leaves_no_timer() {
    let mut reactor = Reactor::new().unwrap();
    let (_, record, peer) = connection(&mut reactor, |what, transport| {
        if what == "made" {
            transport.set_idle_timeout(Some(Duration::from_secs(3600)));
        }
        close_at_eof(what, transport);
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.timer_count(), 1);
    drop(peer);
    turn_until_lost(&mut reactor, &record);
    assert_eq!((reactor.timer_count(), reactor.source_count()), (0, 0));
}

#[test]
fn flooding_peer_does_not_starve_others() {
    let mut reactor = Reactor::new().unwrap();
    let (_, flood, flooder) = connection(&mut reactor, |_, _| ());
    let (_, quiet, mut other) = connection(&mut reactor, |_, _| ());
    let mut writer = flooder.try_clone().unwrap();
    let thread = std::thread::spawn(move || while writer.write_all(&[0; 65536]).is_ok() {});
    turn_until(&mut reactor, "the flood has started", |_| flood.borrow().data.len() > 1 << 20);
    for round in 1..=20 {
        other.write_all(b"x").unwrap();
        let before = flood.borrow().data.len();
        // One turn delivers the byte, however long the flood is.
        turn_until(&mut reactor, "the byte was received", |_| quiet.borrow().data.len() == round);
        let meanwhile = flood.borrow().data.len() - before;
        assert!(meanwhile <= 4 * echo_reactor::SCRATCH_SIZE, "{meanwhile} bytes of flood came first");
        flood.borrow_mut().data.clear();
    }
    drop(reactor); // this closes the connection
    thread.join().unwrap();
}

#[test]
fn connection_yields_after_its_read_budget() {
    let mut reactor = Reactor::new().unwrap();
    let order = Rc::new(RefCell::new(Vec::new()));
    let mut peers = Vec::new();
    for name in ["a", "b"] {
        let order = order.clone();
        let (_, _, peer) = connection(&mut reactor, move |what, _| {
            if what == "data" {
                order.borrow_mut().push(name);
            }
        });
        // More than one read budget arrives before the first turn.
        rustix::net::sockopt::set_socket_send_buffer_size(&peer, 4 << 20).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = (&peer).write(&[0; 16384]) {
            sent += count;
        }
        assert!(sent > echo_reactor::SCRATCH_SIZE, "only {sent} bytes fit into the socket");
        peers.push(peer);
    }
    turn_until(&mut reactor, "both connections were read", |_| order.borrow().len() >= 4);
    let order = order.borrow();
    assert!(order[0] != order[1] && order[2] != order[3], "{order:?}");
}

#[test]
fn callback_can_enter_and_end_another_connection() {
    let mut reactor = Reactor::new().unwrap();
    let (victim, victims, mut victim_peer) = connection(&mut reactor, |_, _| ());
    let (own, record, mut peer) = connection(&mut reactor, move |what, transport| {
        if what == "data" {
            let reactor = transport.reactor();
            let entered = victim.enter(reactor, |_, transport| {
                transport.write(b"bye");
                transport.abort();
            });
            assert_eq!(entered, Ok(()));
            assert!(!reactor.contains(victim.id()));
        }
    });
    peer.write_all(b"x").unwrap();
    victim_peer.write_all(b"y").unwrap(); // in the same batch
    turn_until(&mut reactor, "the callback ran", |_| !record.borrow().data.is_empty());
    assert_eq!(victims.borrow().calls.last(), Some(&"lost"));
    assert!(reactor.contains(own.id()));
    let mut got = Vec::new();
    let _ = victim_peer.read_to_end(&mut got);
    assert_eq!(got, b"bye");
}

/// Writes to all others when it is slow, and aborts all others when it is lost.
#[derive(Clone, Default)]
struct Chain {
    depth: Rc<Cell<u32>>,
    deepest: Rc<Cell<u32>>,
    paused: Rc<Cell<u32>>,
}

static MORE_THAN_A_SOCKET_TAKES: [u8; 512 * 1024] = [0; 512 * 1024];

impl Chain {
    fn act_on_others(&self, reactor: &mut Reactor, act: impl Fn(&mut Transport)) {
        self.depth.set(self.depth.get() + 1);
        self.deepest.set(self.deepest.get().max(self.depth.get()));
        for other in reactor.handles::<Connection<Chain>>() {
            let _ = other.enter(reactor, |_, transport| act(transport));
        }
        self.depth.set(self.depth.get() - 1);
    }
}

impl Protocol for Chain {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        if data == b"write" {
            transport.write(&MORE_THAN_A_SOCKET_TAKES);
        } else {
            transport.abort();
        }
    }
    fn pause_writing(&mut self, transport: &mut Transport) {
        self.paused.set(self.paused.get() + 1);
        self.act_on_others(transport.reactor(), |transport| {
            transport.write(&MORE_THAN_A_SOCKET_TAKES);
        });
    }
    fn connection_lost(&mut self, reactor: &mut Reactor, _: ConnectionLost) {
        self.act_on_others(reactor, |transport| transport.abort());
    }
}

#[test]
fn callbacks_that_enter_other_connections_do_not_nest() {
    let (mut reactor, chain) = (Reactor::new().unwrap(), Chain::default());
    let mut peers = Vec::new();
    for _ in 0..5 {
        let (ours, peer) = mio::net::UnixStream::pair().unwrap();
        Connection::from_socket(&mut reactor, ours, chain.clone()).unwrap();
        peers.push(peer);
    }
    turn_until_quiet(&mut reactor);
    peers[0].write_all(b"write").unwrap();
    turn_until_quiet(&mut reactor);
    assert_eq!((chain.deepest.replace(0), chain.paused.get()), (1, 5));
    peers[1].write_all(b"abort").unwrap();
    turn_until_quiet(&mut reactor);
    assert_eq!((chain.deepest.get(), reactor.source_count()), (1, 0));
}

#[test]
fn unix_read_that_stops_at_a_passed_descriptor_is_continued() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut reactor = Reactor::new().unwrap();
    let (_, record, mut peer) = connection(&mut reactor, |_, _| ());
    turn_until_quiet(&mut reactor);
    // The kernel ends a read before and after bytes that carry a descriptor.
    peer.write_all(b"before ").unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [std::os::fd::AsFd::as_fd(&peer)];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&peer, &[std::io::IoSlice::new(b"with ")], &mut control, SendFlags::empty()).unwrap();
    peer.write_all(b"after").unwrap();
    // The protocol answers nothing, so no further event arrives.
    turn_until(&mut reactor, "all bytes were received", |_| record.borrow().data == b"before with after");
}

/// A connection whose sends fail although its peer is open and silent.
fn with_a_peer_that_shut_down_reading() -> (Reactor, Handle<Connection<Silent>>, Record, StdUnixStream) {
    let mut reactor = Reactor::new().unwrap();
    let act: fn(&'static str, &mut Transport) = |_, _| ();
    let (ours, peer) = mio::net::UnixStream::pair().unwrap();
    let peer = StdUnixStream::from(std::os::fd::OwnedFd::from(peer));
    let record = Record::default();
    let noting = Recorder { record: record.clone(), act };
    let handle = Connection::from_socket(&mut reactor, ours, noting).unwrap();
    turn_until_quiet(&mut reactor);
    peer.shutdown(Shutdown::Read).unwrap();
    (reactor, handle, record, peer)
}

type Silent = Recorder<fn(&'static str, &mut Transport)>;

#[test]
fn failed_send_ends_the_connection_after_delivering_received_data() {
    let (mut reactor, handle, record, mut peer) = with_a_peer_that_shut_down_reading();
    peer.write_all(b"goodbye").unwrap();
    handle.enter(&mut reactor, |_, transport| transport.write(b"hello?")).unwrap();
    turn_until_lost(&mut reactor, &record); // the peer does not close it
    assert_eq!(record.borrow().data, b"goodbye");
    assert_eq!(record.borrow().calls, ["made", "data", "lost"]);
    assert!(record.borrow().reason.as_deref().unwrap().contains("BrokenPipe"));
}

#[test]
fn failed_send_delivers_received_data_even_if_reading_is_paused() {
    let (mut reactor, handle, record, mut peer) = with_a_peer_that_shut_down_reading();
    peer.write_all(b"goodbye").unwrap();
    handle
        .enter(&mut reactor, |_, transport| {
            transport.pause_reading();
            transport.write(b"hello?");
        })
        .unwrap();
    turn_until_lost(&mut reactor, &record); // otherwise the connection would wait forever
    assert_eq!(record.borrow().data, b"goodbye");
}

#[test]
fn default_protocol_stops_reading_from_a_peer_that_does_not_read() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
    let handle = Connection::from_socket(&mut reactor, ours, common::Echo).unwrap();
    let mut sent = 0;
    for _ in 0..2_000 {
        sent += peer.write(&[7; 10_000]).unwrap_or(0);
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    let buffered = handle.enter(&mut reactor, |_, transport| transport.buffered()).unwrap();
    assert!(buffered <= 64 * 1024 + echo_reactor::SCRATCH_SIZE, "{buffered} bytes are buffered");
    let mut got = 0;
    turn_until(&mut reactor, "the whole echo was received", |_| {
        while let Ok(count) = peer.read(&mut [0; 65536]) {
            got += count;
        }
        got == sent
    });
}

#[test]
fn connection_lost_reports_id_peer_byte_counts_and_reason() {
    struct Lost(Rc<RefCell<Vec<String>>>);
    impl Protocol for Lost {
        fn connection_made(&mut self, transport: &mut Transport) {
            assert!(!transport.is_closing());
            assert_eq!(transport.handle::<Self>().id(), transport.id());
            self.0.borrow_mut().push(transport.id().to_string());
            transport.write(b"four");
        }
        fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
            transport.close();
            assert!(transport.is_closing());
        }
        fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
            let peer = lost.peer.unwrap();
            let (id, received, sent) = (lost.id, lost.bytes_in, lost.bytes_out);
            self.0.borrow_mut().push(format!("{id} {peer} {received} {sent} {}", lost.reason));
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let (note, any) = (log.clone(), ["127.0.0.1:0".parse().unwrap()]);
    let listener =
        create_server(&mut reactor, &any, &ListenOptions::default(), move || Lost(note.clone())).unwrap();
    let mut peer = common::connect(&listener.addresses(&reactor).unwrap()[0].to_string());
    let own = peer.local_addr().unwrap();
    peer.write_all(b"seven77").unwrap();
    drop(peer.shutdown(Shutdown::Write));
    turn_until(&mut reactor, "both connections have ended", |_| log.borrow().len() == 2);
    let id = log.borrow()[0].clone();
    assert_eq!(log.borrow()[1], format!("{id} {own} 7 4 closed"));
}

/// A TCP connection whose protocol passes each callback to a closure of the test.
fn tcp<F: FnMut(&'static str, &mut Transport) + 'static>(
    reactor: &mut Reactor,
    act: F,
) -> (Handle<Connection<Recorder<F>>>, Record, std::net::TcpStream) {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = common::connect(&listening.local_addr().unwrap().to_string());
    let (ours, _) = listening.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    let record = Record::default();
    let noting = Recorder { record: record.clone(), act };
    let handle = Connection::from_socket(reactor, mio::net::TcpStream::from_std(ours), noting).unwrap();
    turn_until_quiet(reactor);
    (handle, record, peer)
}

#[test]
fn reset_ends_a_connection_that_is_not_reading() {
    // The protocol keeps its side open after EOF, or has paused reading.
    for half_closed in [true, false] {
        let mut reactor = Reactor::new().unwrap();
        let (handle, record, peer) = tcp(&mut reactor, |_, _| ());
        if half_closed {
            peer.shutdown(Shutdown::Write).unwrap();
        } else {
            handle.enter(&mut reactor, |_, transport| transport.pause_reading()).unwrap();
        }
        turn_until_quiet(&mut reactor);
        assert!(record.borrow().reason.is_none());
        common::reset_on_close(&peer);
        drop(peer);
        turn_until_lost(&mut reactor, &record);
    }
}

#[test]
fn reset_ends_a_connection_paused_by_backpressure() {
    // By default, a protocol stops reading at the high-water mark, and waits for room before it
    // reads again.
    struct Waiting(Rc<RefCell<bool>>);
    impl Protocol for Waiting {
        fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
            transport.write(&data.repeat(10));
        }
        fn resume_writing(&mut self, transport: &mut Transport) {
            if transport.flow() == Flow::Open {
                transport.resume_reading();
            }
        }
        fn connection_lost(&mut self, _: &mut Reactor, _: ConnectionLost) {
            *self.0.borrow_mut() = true;
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let lost = Rc::new(RefCell::new(false));
    let (note, any) = (lost.clone(), ["127.0.0.1:0".parse().unwrap()]);
    let factory = move || Waiting(note.clone());
    let listener = create_server(&mut reactor, &any, &ListenOptions::default(), factory).unwrap();
    let mut peer = common::connect(&listener.addresses(&reactor).unwrap()[0].to_string());
    peer.set_nonblocking(true).unwrap();
    for _ in 0..200 {
        while peer.write(&[7; 65536]).is_ok() {}
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    common::reset_on_close(&peer);
    drop(peer);
    turn_until(&mut reactor, "the connection is lost", |_| *lost.borrow());
}

#[test]
fn one_callback_sends_a_bounded_amount() {
    const ALL: usize = 64 << 20;
    let mut reactor = Reactor::new().unwrap();
    let written = Rc::new(RefCell::new((0, 0))); // in total, and at most in one call
    let note = written.clone();
    let (handle, _, mut peer) = tcp(&mut reactor, move |what, transport| {
        let before = note.borrow().0;
        while what != "lost" && transport.flow() == Flow::Open && note.borrow().0 < ALL {
            transport.write(&[7; 16384]);
            note.borrow_mut().0 += 16384;
        }
        let mut note = note.borrow_mut();
        note.1 = note.1.max(note.0 - before);
    });
    let reader = std::thread::spawn(move || {
        let mut got = 0;
        while got < ALL {
            got += peer.read(&mut vec![0; 1 << 20]).unwrap();
        }
    });
    reactor.wake(handle.id());
    turn_until(&mut reactor, "all bytes were received", |_| reader.is_finished());
    reader.join().unwrap();
    let most = written.borrow().1;
    assert!(most < 2 * echo_reactor::SCRATCH_SIZE, "{most} bytes in one call, however fast the peer reads");
}

#[test]
fn nothing_is_sent_after_an_abort() {
    let mut reactor = Reactor::new().unwrap();
    let sent = Rc::new(RefCell::new(None));
    let note = sent.clone();
    let (handle, record, mut peer) = tcp(&mut reactor, move |what, transport| match what {
        "made" => drop(transport.write(&vec![0; 16 << 20])),
        "woken" => {
            *note.borrow_mut() = Some(transport.bytes_out());
            transport.abort();
            assert_eq!(transport.buffered(), 0);
        }
        _ => {}
    });
    peer.set_nonblocking(true).unwrap();
    while peer.read(&mut vec![0; 1 << 20]).is_ok() {} // now there is room to write
    reactor.wake(handle.id());
    turn_until_lost(&mut reactor, &record);
    assert!(sent.borrow().is_some());
    assert_eq!(record.borrow().reason.as_deref(), Some("Aborted"));
}

#[test]
fn protocol_that_removes_itself_gets_no_further_callback() {
    for (last, expected) in [
        ("made", &["made", "lost"][..]),
        ("data", &["made", "data", "lost"]),
        ("pause", &["made", "data", "pause", "lost"]),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let (_, record, mut peer) = connection(&mut reactor, move |what, transport| {
            if what == "data" && last == "pause" {
                transport.write(&[0; 1 << 22]);
            }
            if what == last {
                let id = transport.id();
                transport.reactor().remove(id);
            }
        });
        peer.write_all(b"x").unwrap();
        peer.shutdown(Shutdown::Write).unwrap(); // data and EOF arrive together
        turn_until_lost(&mut reactor, &record);
        turn_until_quiet(&mut reactor);
        assert_eq!(record.borrow().calls, expected);
    }
}

#[test]
fn failed_connection_reads_a_bounded_part_of_a_flood() {
    let mut reactor = Reactor::new().unwrap();
    let (_, record, mut peer) = connection(&mut reactor, |what, transport| {
        if what == "data" {
            transport.write(b"x");
            transport.pause_reading(); // has no effect, because the connection is ending
            std::thread::sleep(Duration::from_millis(1)); // the thing under test: slower than the peer
        }
    });
    peer.shutdown(Shutdown::Read).unwrap();
    let flood = std::thread::spawn(move || while peer.write_all(&[7; 65536]).is_ok() {});
    turn_until_lost(&mut reactor, &record);
    let received = record.borrow().data.len();
    assert!(received < 16 << 20, "{received} bytes were delivered");
    flood.join().unwrap();
}

#[test]
fn transport_reports_its_bytes_and_the_process_of_its_peer() {
    let mut reactor = Reactor::new().unwrap();
    let seen = Rc::new(RefCell::new(None));
    let note = seen.clone();
    let (_, _, mut peer) = connection(&mut reactor, move |what, transport| {
        if what == "data" {
            transport.write(b"four");
            let counts = (transport.bytes_in(), transport.bytes_out(), transport.idle_time());
            *note.borrow_mut() = Some((counts, transport.peer_pid()));
        }
    });
    peer.write_all(b"seven77").unwrap();
    turn_until(&mut reactor, "data", |_| seen.borrow().is_some());
    let own = cfg!(target_os = "linux").then(std::process::id);
    let (counts, pid) = seen.borrow_mut().take().unwrap();
    assert_eq!(counts, (7, 4, None), "idle time is only tracked while a timeout is set");
    assert!(own.is_none() || pid == own, "{pid:?}");
    let (_, _, tcp_peer) = tcp(&mut reactor, |_, transport| assert_eq!(transport.peer_pid(), None));
    drop(tcp_peer);
}

#[test]
fn idle_time_counts_from_the_last_byte_and_then_from_close() {
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let (handle, record, mut peer) = connection(&mut reactor, |what, transport| {
        if what == "made" {
            transport.set_idle_timeout(Some(Duration::from_secs(60)));
        }
    });
    let idle_time = |reactor: &mut Reactor| handle.enter(reactor, |_, t| t.idle_time()).unwrap();
    turn_until_quiet(&mut reactor);
    reactor.set_now(start + Duration::from_secs(10));
    assert_eq!(idle_time(&mut reactor), Some(Duration::from_secs(10)));
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the byte was received", |_| !record.borrow().data.is_empty());
    reactor.set_now(start + Duration::from_secs(15));
    assert_eq!(idle_time(&mut reactor), Some(Duration::from_secs(5)));
    handle.enter(&mut reactor, |_, transport| transport.close()).unwrap();
    turn_until_quiet(&mut reactor);
    peer.write_all(b"discarded").unwrap();
    turn_until_quiet(&mut reactor);
    reactor.set_now(start + Duration::from_secs(22));
    assert_eq!(idle_time(&mut reactor), Some(Duration::from_secs(7)));
}

#[test]
fn timeout_that_is_set_after_an_abort_leaves_no_timer() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, _peer) = connection(&mut reactor, |_, _| ());
    let aborted = handle.enter(&mut reactor, |_, transport| {
        transport.abort();
        transport.set_idle_timeout(Some(Duration::from_secs(1)));
    });
    aborted.unwrap();
    turn_until_lost(&mut reactor, &record);
    assert_eq!(reactor.timer_count(), 0);
}

#[test]
fn stalled_peer_is_reset_by_a_timeout_and_a_quiet_one_is_closed() {
    for (bytes, expected) in [(0, None), (32 << 20, Some(ErrorKind::ConnectionReset))] {
        let mut reactor = Reactor::new().unwrap();
        let start = Instant::now();
        reactor.set_now(start);
        let (handle, record, mut peer) = tcp(&mut reactor, |_, _| ());
        handle
            .enter(&mut reactor, |_, transport| {
                transport.set_idle_timeout(Some(Duration::from_secs(1)));
                transport.write(&vec![7; bytes]);
            })
            .unwrap();
        for seconds in 1..9 {
            turn_until_quiet(&mut reactor);
            reactor.set_now(start + Duration::from_secs(seconds));
        }
        turn_until_lost(&mut reactor, &record);
        let read = std::iter::from_fn(|| match peer.read(&mut vec![0; 1 << 20]) {
            Ok(0) => Some(Ok(())),
            Ok(_) => Some(Err(None)),
            Err(error) => Some(Err(Some(error.kind()))),
        });
        let end = read.into_iter().find(|result| *result != Err(None)).unwrap();
        assert_eq!(end.err().flatten(), expected, "{bytes} bytes");
    }
}

#[test]
fn connection_is_not_closing_while_its_own_side_is_open() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, record, peer) = connection(&mut reactor, |_, _| ());
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "end of file", |_| record.borrow().calls.contains(&"eof"));
    assert!(!handle.enter(&mut reactor, |_, transport| transport.is_closing()).unwrap());
    reactor.wake(handle.id());
    turn_until(&mut reactor, "woken", |_| record.borrow().calls.contains(&"woken"));
    assert!(
        handle.enter(&mut reactor, |_, transport| (transport.close(), transport.is_closing()).1).unwrap()
    );
}

#[test]
fn water_marks_are_64_and_16_kib_unless_set() {
    let mut reactor = Reactor::new().unwrap();
    let (handle, ..) = connection(&mut reactor, |_, _| ());
    let state = reactor.slot(handle.id()).unwrap().connection.unwrap();
    assert_eq!((state.high, state.low), (64 * 1024, 16 * 1024));
}
