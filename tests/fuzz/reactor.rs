//! Fuzzing a whole reactor: bytes are commands, which the driver takes between turns and the
//! protocols take in their callbacks.
//!
//! Both ends of each pair of sockets are connections of one reactor. Every end sends the same
//! endless pattern, so each received byte shows whether one is lost, repeated or out of order.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use echo_reactor::{
    CloseReason, Connection, ConnectionLost, Flow, Handle, Protocol, Reactor, Socket, Timer, Transport, mio,
};

use super::calls::{Call, Calls};
use super::input::Input;

const MOST_CONNECTIONS: usize = 8;
/// More than a connection sends in one call.
const LARGEST_WRITE: usize = 300_000;
const PERIOD: usize = 251;

/// The record of one end.
struct End {
    handle: Option<Handle<Connection<Fuzzed>>>,
    calls: Calls,
    written: usize,
    received: usize,
    /// The high-water mark.
    high: usize,
    reason: Option<CloseReason>,
}

/// What the driver and all protocols share.
struct Script {
    input: Input,
    ends: Vec<End>,
    timers: Vec<Timer>,
    now: Instant,
}

type Shared = Rc<RefCell<Script>>;

struct Fuzzed {
    number: usize,
    script: Shared,
}

impl Fuzzed {
    /// Checks the order of the callbacks, and takes the next command.
    fn called(&self, call: Call, transport: &mut Transport) {
        self.record(call);
        let command = self.script.borrow_mut().input.byte();
        if command.is_multiple_of(4) {
            act(&self.script, self.number, command / 4, transport);
        } else if command % 4 == 1 {
            outside(&self.script, command / 4, transport.reactor());
        }
    }

    fn record(&self, call: Call) {
        self.script.borrow_mut().ends[self.number].calls.record(call);
    }
}

impl Protocol for Fuzzed {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.called(Call::Made, transport);
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let received = self.script.borrow().ends[self.number].received;
        assert_eq!(data, pattern(received, data.len()), "after {received} bytes");
        self.script.borrow_mut().ends[self.number].received += data.len();
        self.called(Call::Data, transport);
    }
    fn eof_received(&mut self, transport: &mut Transport) {
        self.called(Call::Eof, transport);
    }
    fn pause_writing(&mut self, transport: &mut Transport) {
        self.called(Call::PauseWriting, transport);
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        self.called(Call::ResumeWriting, transport);
    }
    fn woken(&mut self, transport: &mut Transport) {
        self.called(Call::Woken, transport);
    }
    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        self.record(Call::Lost);
        let mut script = self.script.borrow_mut();
        script.ends[self.number].reason = Some(lost.reason);
        let command = script.input.byte();
        drop(script);
        if command % 4 == 1 {
            outside(&self.script, command / 4, reactor);
        }
    }
}

/// Returns a part of the pattern. It holds the largest write and the largest read at any offset.
fn pattern(offset: usize, length: usize) -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    let all =
        PATTERN.get_or_init(|| (0..LARGEST_WRITE + PERIOD).map(|index| (index % PERIOD) as u8).collect());
    &all[offset % PERIOD..][..length]
}

/// Takes a command of an end on its own transport.
fn act(script: &Shared, number: usize, command: u8, transport: &mut Transport) {
    let argument = script.borrow_mut().input.byte();
    match command % 12 {
        0..=2 if transport.flow() == Flow::Open => {
            let length = LARGEST_WRITE * usize::from(argument).pow(2) / (255 * 255);
            let written = script.borrow().ends[number].written;
            if transport.write(pattern(written, length)) != Flow::Closed {
                script.borrow_mut().ends[number].written += length;
            }
        }
        3 => transport.pause_reading(),
        4 => transport.resume_reading(),
        5 => transport.write_eof(),
        6 => {
            transport.close();
            script.borrow_mut().ends[number].calls.has_closed = true;
        }
        7 => {
            transport.abort();
            script.borrow_mut().ends[number].calls.has_closed = true;
        }
        8 => {
            let id = transport.id();
            script.borrow_mut().ends[number].calls.has_closed = true; // only `connection_lost` may follow
            transport.reactor().remove(id);
        }
        9 => transport.set_idle_timeout((argument > 0).then(|| Duration::from_secs(argument.into()))),
        10 => {
            let high = usize::from(argument) * 300;
            script.borrow_mut().ends[number].high = high.max(transport.buffered());
            transport.set_write_marks(high, high / 2);
        }
        _ => {}
    }
}

/// Takes a command that needs only the reactor.
fn outside(script: &Shared, command: u8, reactor: &mut Reactor) {
    let argument = script.borrow_mut().input.byte();
    let count = script.borrow().ends.len();
    let number = usize::from(argument) % count.max(1);
    let handle = script.borrow().ends.get(number).and_then(|end| end.handle);
    match (command % 10, handle) {
        (0, _) if count < MOST_CONNECTIONS => connect(script, argument.is_multiple_of(2), reactor),
        (1..=3, Some(handle)) => {
            let command = script.borrow_mut().input.byte();
            // It fails if the connection runs, or is gone.
            let _ = handle.enter(reactor, |_, transport| act(script, number, command, transport));
        }
        (4, Some(handle)) => drop(reactor.wake(handle.id())),
        (5, Some(handle)) => {
            let when = script.borrow().now + Duration::from_secs(u64::from(argument) / 8);
            let timer = reactor.wake_at(when, handle.id());
            script.borrow_mut().timers.extend(timer);
        }
        (6, _) => {
            let timer = script.borrow_mut().timers.pop();
            timer.map(|timer| reactor.cancel(timer));
        }
        (7, Some(handle)) => {
            let is_gone = reactor.remove(handle.id());
            script.borrow_mut().ends[number].calls.has_closed |= is_gone;
        }
        (8, _) => {
            let (shared, command) = (script.clone(), script.borrow_mut().input.byte());
            reactor.call_soon(move |reactor| outside(&shared, command, reactor));
        }
        (9, _) => {
            let mut script = script.borrow_mut();
            script.now += Duration::from_secs(u64::from(argument) / 4);
            reactor.set_now(script.now);
        }
        _ => {}
    }
}

fn connect(script: &Shared, is_tcp: bool, reactor: &mut Reactor) {
    let ends: [Socket; 2] =
        if is_tcp { tcp_pair() } else { mio::net::UnixStream::pair().unwrap().into_ends() };
    for socket in ends {
        let number = script.borrow().ends.len();
        let end = End {
            handle: None,
            calls: Calls::default(),
            written: 0,
            received: 0,
            high: 64 * 1024,
            reason: None,
        };
        script.borrow_mut().ends.push(end);
        let protocol = Fuzzed { number, script: script.clone() };
        let handle = Connection::from_socket(reactor, socket, protocol).unwrap();
        script.borrow_mut().ends[number].handle = Some(handle);
    }
}

trait IntoEnds {
    fn into_ends(self) -> [Socket; 2];
}

impl<T: Into<Socket>> IntoEnds for (T, T) {
    fn into_ends(self) -> [Socket; 2] {
        [self.0.into(), self.1.into()]
    }
}

/// Connects to another address each time, because a pair of ports is in use for a minute after a
/// connection. (Only Linux has so many local addresses.)
fn tcp_pair() -> [Socket; 2] {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let [_, a, b, c] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let host = if cfg!(target_os = "linux") { Ipv4Addr::new(127, a, b, c | 1) } else { Ipv4Addr::LOCALHOST };
    let listener = TcpListener::bind((host, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _): (TcpStream, SocketAddr) = listener.accept().unwrap();
    (mio::net::TcpStream::from_std(ours), mio::net::TcpStream::from_std(peer)).into_ends()
}

pub fn run(data: &[u8]) {
    let mut reactor = Reactor::new().unwrap();
    let now = Instant::now();
    reactor.set_now(now);
    let input = Input::new(data);
    let script = Rc::new(RefCell::new(Script { input, ends: Vec::new(), timers: Vec::new(), now }));
    connect(&script, data.len().is_multiple_of(2), &mut reactor);
    while !script.borrow().input.is_empty() {
        let command = script.borrow_mut().input.byte();
        if command.is_multiple_of(3) {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        } else {
            outside(&script, command / 3, &mut reactor);
        }
        assert_bounded(&script, &reactor);
    }
    finish(&script, &mut reactor);
}

/// A write that respects the flow leaves at most the high-water mark and one write. When all of it
/// is sent, writing has resumed.
fn assert_bounded(script: &Shared, reactor: &Reactor) {
    for end in &script.borrow().ends {
        let Some(slot) = end.handle.and_then(|handle| reactor.slot(handle.id())) else { continue };
        let connection = slot.connection.unwrap();
        let (stats, is_open) = (connection.stats, connection.write == "open");
        assert!(stats.buffered <= end.high + LARGEST_WRITE, "{} bytes are buffered", stats.buffered);
        assert!(!(stats.backpressured && stats.buffered == 0 && is_open), "no resume_writing");
    }
}

/// Closes every connection. Each must end, and nothing may be left.
fn finish(script: &Shared, reactor: &mut Reactor) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while reactor.source_count() > 0 || !reactor.queue().is_empty() {
        assert!(Instant::now() < deadline, "a connection never ends");
        // A protocol may pause reading or connect in its last callbacks.
        let handles: Vec<_> = script.borrow().ends.iter().filter_map(|end| end.handle).collect();
        for handle in handles {
            let _ = handle.enter(reactor, |_, transport| {
                transport.resume_reading();
                transport.write_eof(); // the other end still receives everything
            });
        }
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    for timer in script.borrow_mut().timers.drain(..) {
        reactor.cancel(timer);
    }
    assert_eq!(reactor.timer_count(), 0, "a timer is left");
    for pair in script.borrow().ends.chunks(2) {
        for (end, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            assert_eq!(end.calls.all.last(), Some(&Call::Lost));
            let is_graceful = |end: &End| matches!(end.reason, Some(CloseReason::Closed));
            if is_graceful(end) && is_graceful(other) && !end.calls.has_closed {
                assert_eq!(end.received, other.written, "bytes are lost");
            }
        }
    }
}
