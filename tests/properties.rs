//! Property tests: peer and protocol act in random order, with tiny socket buffers and spurious
//! events. The bytes received are always the bytes sent.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use echo_reactor::{
    CloseReason, Connection, ConnectionLost, Flow, Handle, Id, Next, Protocol, Reactor, Ready, SCRATCH_SIZE,
    Source, Transport,
};
use proptest::prelude::*;

use common::{assert_same_bytes, noise};

// ---- a connection

#[derive(Clone, Debug)]
enum Step {
    PeerWrites(usize),
    PeerReads(usize),
    PeerEnds,
    PeerResets,
    Write(usize),
    WriteEof,
    Close,
    Abort,
    Pause,
    Resume,
    Wake,
    /// A spurious event.
    Spurious(u8),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_000_usize).prop_map(Step::PeerWrites),
        6 => (1..40_000_usize).prop_map(Step::PeerReads),
        1 => Just(Step::PeerEnds),
        1 => Just(Step::WriteEof),
        1 => Just(Step::Close),
        6 => (1..40_000_usize).prop_map(Step::Write),
        3 => Just(Step::Pause),
        4 => Just(Step::Resume),
        2 => Just(Step::Wake),
        3 => (0..16_u8).prop_map(Step::Spurious),
        12 => Just(Step::Turn),
    ]
}

fn step_with_resets() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step(), 1 => Just(Step::PeerResets), 1 => Just(Step::Abort)]
}

#[derive(Default)]
struct Log {
    calls: Vec<&'static str>,
    data: Vec<u8>,
    reason: Option<CloseReason>,
}

struct Recorder(Rc<RefCell<Log>>);

impl Recorder {
    fn record(&self, what: &'static str) {
        let mut log = self.0.borrow_mut();
        assert!(log.reason.is_none(), "{what} after connection_lost");
        log.calls.push(what);
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, _: &mut Transport) {
        self.record("made");
    }
    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        self.record("data");
        self.0.borrow_mut().data.extend_from_slice(data);
    }
    fn eof_received(&mut self, _: &mut Transport) {
        self.record("eof"); // the connection stays half-open until a step ends it
    }
    fn pause_writing(&mut self, _: &mut Transport) {
        self.record("pause");
    }
    fn resume_writing(&mut self, _: &mut Transport) {
        self.record("resume");
    }
    fn woken(&mut self, _: &mut Transport) {
        self.record("woken");
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.record("lost");
        self.0.borrow_mut().reason = Some(lost.reason);
    }
}

/// Checks the documented order of the callbacks.
fn assert_documented_order(calls: &[&str]) {
    assert_eq!(calls.first(), Some(&"made"));
    if let Some(at) = calls.iter().position(|&call| call == "(close)") {
        let later: Vec<_> = calls[at..].iter().filter(|&&call| call != "(close)").collect();
        assert!(later.is_empty() || later == [&"lost"], "a callback after close");
    }
    let (mut ended, mut paused) = (false, false);
    for &call in &calls[1..] {
        match call {
            "made" => panic!("made twice: {calls:?}"),
            "data" => assert!(!ended, "data after eof: {calls:?}"),
            "eof" => assert!(!std::mem::replace(&mut ended, true), "eof twice: {calls:?}"),
            "pause" => assert!(!std::mem::replace(&mut paused, true), "paused twice: {calls:?}"),
            "resume" => assert!(std::mem::replace(&mut paused, false), "resumed unpaused: {calls:?}"),
            _ => {}
        }
    }
}

const HIGH: usize = 20_000;

/// Both sides write pieces of these bytes.
static SOURCE: OnceLock<Vec<u8>> = OnceLock::new();

/// A connection, its peer, and the model: the bytes that each side has written and received.
struct Fixture {
    reactor: Reactor,
    handle: Handle<Connection<Recorder>>,
    log: Rc<RefCell<Log>>,
    peer: Option<UnixStream>,
    peer_ended: bool,
    /// The protocol called `close`: bytes that arrive now are discarded.
    closed: bool,
    /// What the peer wrote and received.
    to_us: Vec<u8>,
    from_us: Vec<u8>,
    /// What the protocol wrote successfully.
    written: Vec<u8>,
    source: &'static [u8],
}

impl Fixture {
    fn new() -> Self {
        let mut reactor = Reactor::new().unwrap();
        let (ours, peer) = mio::net::UnixStream::pair().unwrap();
        let peer = UnixStream::from(OwnedFd::from(peer));
        for socket in [&ours as &dyn std::os::fd::AsFd, &peer] {
            rustix::net::sockopt::set_socket_send_buffer_size(socket.as_fd(), 1).unwrap();
        }
        let log = Rc::new(RefCell::new(Log::default()));
        let handle = Connection::from_socket(&mut reactor, ours, Recorder(log.clone())).unwrap();
        handle.enter(&mut reactor, |_, transport| transport.set_write_marks(HIGH, HIGH / 4)).unwrap();
        Fixture {
            reactor,
            handle,
            log,
            peer: Some(peer),
            peer_ended: false,
            closed: false,
            to_us: Vec::new(),
            from_us: Vec::new(),
            written: Vec::new(),
            source: SOURCE.get_or_init(|| noise(1 << 20, 61)),
        }
    }

    /// Takes all steps and finishes the connection.
    fn after(steps: &[Step]) -> Self {
        let mut world = Fixture::new();
        for step in steps {
            world.take(step);
        }
        world.finish();
        world
    }

    fn enter<R>(&mut self, f: impl FnOnce(&mut Transport) -> R) -> Option<R> {
        self.handle.enter(&mut self.reactor, |_, transport| f(transport)).ok()
    }

    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::PeerWrites(count) => self.peer_writes(count),
            Step::PeerReads(count) => self.peer_reads(count),
            Step::PeerEnds => {
                if let Some(peer) = &self.peer {
                    self.peer_ended = true;
                    let _ = peer.shutdown(Shutdown::Write);
                }
            }
            Step::PeerResets => drop(self.peer.take()),
            Step::Write(count) => {
                let start = self.written.len() % (self.source.len() - count);
                let bytes = self.source[start..start + count].to_vec();
                if self.enter(|transport| transport.write(&bytes)).is_some_and(|flow| flow != Flow::Closed) {
                    self.written.extend_from_slice(&bytes);
                }
            }
            Step::WriteEof => drop(self.enter(|transport| transport.write_eof())),
            Step::Close => {
                if self.enter(|transport| transport.close()).is_some() {
                    self.closed = true;
                    self.log.borrow_mut().calls.push("(close)");
                }
            }
            Step::Abort => drop(self.enter(|transport| transport.abort())),
            Step::Pause => drop(self.enter(|transport| transport.pause_reading())),
            Step::Resume => drop(self.enter(|transport| transport.resume_reading())),
            Step::Wake => drop(self.reactor.wake(self.handle.id())),
            Step::Spurious(bits) => self.spurious(bits),
            Step::Turn => self.turn(),
        }
        let buffered = self.enter(|transport| transport.buffered()).unwrap_or(0);
        assert!(buffered <= self.written.len() - self.from_us.len(), "more is buffered than was written");
    }

    fn peer_writes(&mut self, count: usize) {
        let Some(peer) = self.peer.as_mut().filter(|_| !self.peer_ended) else { return };
        let start = self.to_us.len() % (self.source.len() - count);
        if let Ok(count) = peer.write(&self.source[start..start + count]) {
            self.to_us.extend_from_slice(&self.source[start..start + count]);
        }
    }

    fn peer_reads(&mut self, count: usize) {
        let Some(peer) = &mut self.peer else { return };
        let mut bytes = vec![0; count];
        if let Ok(count) = peer.read(&mut bytes) {
            self.from_us.extend_from_slice(&bytes[..count]);
        }
    }

    fn spurious(&mut self, bits: u8) {
        let all = [Ready::READABLE, Ready::WRITABLE, Ready::READ_CLOSED, Ready::PRIORITY];
        let chosen = all.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
        let ready = chosen.fold(Ready::NONE, |ready, (_, &bit)| ready | bit);
        let id = self.handle.id();
        let next = self.reactor.with(self.handle, |connection, reactor| connection.ready(id, ready, reactor));
        match next {
            Ok(Next::Done) => drop(self.reactor.remove(id)),
            Ok(Next::Again) => drop(self.reactor.wake(id)),
            Ok(Next::Wait) | Err(_) => {}
        }
    }

    /// Reads and ends both sides until the connection is closed.
    fn finish(&mut self) {
        self.enter(|transport| transport.resume_reading());
        self.take(&Step::PeerEnds);
        let deadline = Instant::now() + common::PATIENCE;
        while self.log.borrow().reason.is_none() {
            assert!(Instant::now() < deadline, "the connection never ended: {:?}", self.log.borrow().calls);
            self.turn();
            self.peer_reads(1 << 16);
            if self.log.borrow().calls.contains(&"eof") {
                self.enter(|transport| transport.close());
            }
        }
        if let Some(peer) = &mut self.peer {
            let mut bytes = vec![0; 1 << 16];
            loop {
                match peer.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(count) => self.from_us.extend_from_slice(&bytes[..count]),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        self.turn();
        assert_eq!(self.reactor.source_count(), 0);
        assert_eq!(self.reactor.timer_count(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connection_delivers_all_bytes_and_calls_back_in_order(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let world = Fixture::after(&steps);
        let log = world.log.borrow();
        assert_documented_order(&log.calls);
        assert_same_bytes(&world.from_us, &world.written);
        if world.closed {
            assert_same_bytes(&log.data, &world.to_us[..log.data.len()]);
        } else {
            assert_same_bytes(&log.data, &world.to_us);
        }
        assert!(matches!(log.reason, Some(CloseReason::Closed)), "{:?}", log.reason);
    }

    #[test]
    fn resets_and_aborts_deliver_a_prefix_of_the_bytes(
        steps in prop::collection::vec(step_with_resets(), 1..60),
    ) {
        let world = Fixture::after(&steps);
        let log = world.log.borrow();
        assert_documented_order(&log.calls);
        assert_same_bytes(&world.from_us, &world.written[..world.from_us.len()]);
        assert_same_bytes(&log.data, &world.to_us[..log.data.len()]);
    }

    #[test]
    fn echo_buffers_at_most_the_high_water_mark_and_one_read(
        writes in prop::collection::vec((1..200_000_usize, 0..50_000_usize), 1..40),
    ) {
        let mut reactor = Reactor::new().unwrap();
        let (ours, mut peer) = mio::net::UnixStream::pair().unwrap();
        let handle = Connection::from_socket(&mut reactor, ours, common::Echo).unwrap();
        handle.enter(&mut reactor, |_, transport| transport.set_write_marks(HIGH, HIGH / 4)).unwrap();
        let bytes = noise(200_000, 62);
        for (write, read) in writes {
            let _ = peer.write(&bytes[..write]);
            reactor.turn(Some(Duration::ZERO)).unwrap();
            let _ = peer.read(&mut vec![0; read]);
            let buffered = handle.enter(&mut reactor, |_, transport| transport.buffered());
            assert!(buffered.unwrap_or(0) <= HIGH + SCRATCH_SIZE);
        }
    }
}

// ---- timers

#[derive(Clone, Debug)]
enum TimerStep {
    Set(u64),
    Cancel(usize),
    Advance(u64),
}

fn timer_step() -> impl Strategy<Value = TimerStep> {
    prop_oneof![
        (0..50_u64).prop_map(TimerStep::Set),
        (0..40_usize).prop_map(TimerStep::Cancel),
        (0..20_u64).prop_map(TimerStep::Advance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn timers_behave_like_a_sorted_map(steps in prop::collection::vec(timer_step(), 1..80)) {
        let mut reactor = Reactor::new().unwrap();
        let start = Instant::now();
        let mut now = 0;
        reactor.set_now(start);
        let ran = Rc::new(RefCell::new(Vec::new()));
        let mut model = BTreeMap::new();
        let mut set = Vec::new();
        for step in steps {
            match step {
                TimerStep::Set(delay) => {
                    let number = set.len();
                    let record = ran.clone();
                    let timer = reactor
                        .call_later(Duration::from_millis(delay), move |_| record.borrow_mut().push(number));
                    model.insert((now + delay, number), ());
                    set.push((timer, (now + delay, number)));
                }
                TimerStep::Cancel(index) => {
                    if let Some(&(timer, key)) = set.get(index) {
                        prop_assert_eq!(reactor.cancel(timer), model.remove(&key).is_some());
                    }
                }
                TimerStep::Advance(by) => {
                    now += by;
                    reactor.set_now(start + Duration::from_millis(now));
                    reactor.turn(Some(Duration::ZERO)).unwrap();
                    let later = model.split_off(&(now + 1, 0));
                    let due: Vec<usize> = std::mem::replace(&mut model, later).into_keys().map(|key| key.1).collect();
                    prop_assert_eq!(ran.take(), due);
                }
            }
            prop_assert_eq!(reactor.timer_count(), model.len());
        }
    }
}

// ---- slots

struct Number(u32);

impl Source for Number {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_behave_like_a_map(steps in prop::collection::vec((any::<bool>(), 0..60_usize), 1..120)) {
        let mut reactor = Reactor::new().unwrap();
        let mut model: HashMap<Id, u32> = HashMap::new();
        let mut all: Vec<Handle<Number>> = Vec::new();
        for (number, (insert, index)) in (0..).zip(steps) {
            if insert {
                let handle = reactor.insert(Number(number));
                prop_assert!(model.insert(handle.id(), number).is_none(), "an id was used twice");
                all.push(handle);
            } else if let Some(handle) = all.get(index) {
                reactor.remove(handle.id());
                model.remove(&handle.id());
            }
            for &handle in &all {
                let found = reactor.get(handle).map(|number| number.0).ok();
                prop_assert_eq!(found, model.get(&handle.id()).copied());
                prop_assert_eq!(reactor.contains(handle.id()), found.is_some());
            }
            prop_assert_eq!(reactor.source_count(), model.len());
            prop_assert_eq!(reactor.handles::<Number>().len(), model.len());
        }
    }
}
