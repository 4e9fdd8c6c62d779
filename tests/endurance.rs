//! For minutes, connections come, go, stall and die at random, and every byte is checked. After
//! each round all of them close. Then nothing may be left behind, and nothing may still run.
//!
//! It runs for `ENDURANCE` seconds, and only on request. Both sides are this library:
//! `ENDURANCE=600 cargo test --release --test endurance -- --ignored --nocapture`.

#![cfg(target_os = "linux")] // it reads /proc
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{Random, Server, assert_same_bytes, eventually, noise};
use echo_reactor::{
    Address, CloseReason, ConnectOptions, ConnectionLost, Flow, Protocol, Reactor, Transport,
    create_connection,
};

/// The number of simultaneous clients. With many more, the kernel runs out of TCP memory, and
/// resets some connections itself.
const CLIENTS: usize = 100;

/// The time between two checks for leaks.
const ROUND: Duration = Duration::from_secs(60);

/// The idle timeout of a client. Bursts of this size overflow the kernel's buffers: it drops
/// packets and retransmits them with exponential backoff. So a timeout has to exceed that backoff.
const IDLE: Duration = Duration::from_secs(40);

/// How long the last clients may take to close: to wake up after a stall, and then to time out.
const LEAVING: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Behaviour {
    /// Sends a message, and the next one when the echo is complete.
    Talks,
    /// Sends as fast as possible.
    Streams,
    /// Sends as fast as possible, and stops reading for a while.
    Stalls,
    /// Sends one byte at a time.
    Trickles,
    /// Resets in the middle of its transfer.
    Dies,
    /// Closes before it sends anything.
    Leaves,
    /// Sends without reading for so long that the server may time out.
    Abandons,
}

const BEHAVIOURS: [Behaviour; 7] = [
    Behaviour::Talks,
    Behaviour::Streams,
    Behaviour::Stalls,
    Behaviour::Trickles,
    Behaviour::Dies,
    Behaviour::Leaves,
    Behaviour::Abandons,
];

/// The state that all clients share.
struct Shared {
    server: Address,
    source: Vec<u8>,
    random: RefCell<Random>,
    present: RefCell<BTreeMap<Behaviour, u64>>,
    is_open: Cell<bool>,
    bytes: Cell<u64>,
    ended: RefCell<BTreeMap<Behaviour, u64>>,
}

impl Shared {
    fn random(&self, limit: u64) -> u64 {
        self.random.borrow_mut().below(limit)
    }

    fn start_client(self: &Rc<Self>, reactor: &mut Reactor) {
        let behaviour = BEHAVIOURS[self.random(if self.random(4) == 0 { 7 } else { 5 }) as usize];
        let total = match behaviour {
            Behaviour::Trickles => 1 + self.random(50),
            Behaviour::Leaves => 0,
            Behaviour::Abandons => 4 << 20,
            _ => 1 + self.random(1 << self.random(21)),
        };
        let start = self.random(self.source.len() as u64);
        let client = Client { shared: self.clone(), behaviour, total, start, sent: 0, received: 0 };
        *self.present.borrow_mut().entry(behaviour).or_default() += 1;
        create_connection(reactor, std::slice::from_ref(&self.server), &ConnectOptions::default(), client);
    }
}

struct Client {
    shared: Rc<Shared>,
    behaviour: Behaviour,
    /// The bytes to send in total.
    total: u64,
    /// The offset of its first byte in the source.
    start: u64,
    sent: u64,
    received: u64,
}

impl Client {
    /// At most `limit` of its bytes, starting at `offset`.
    fn piece(&self, offset: u64, limit: u64) -> &[u8] {
        let source = &self.shared.source;
        let from = ((self.start + offset) % source.len() as u64) as usize;
        let length = limit.min(self.total - offset) as usize;
        &source[from..source.len().min(from + length)]
    }

    fn send(&mut self, transport: &mut Transport) {
        let piece = match self.behaviour {
            Behaviour::Trickles => 1,
            _ => 1 + self.shared.random(100_000),
        };
        let in_turn = matches!(self.behaviour, Behaviour::Talks | Behaviour::Trickles);
        while self.sent < self.total && transport.flow() == Flow::Open {
            if in_turn && self.sent > self.received {
                return;
            }
            let bytes = self.piece(self.sent, piece);
            transport.write(bytes);
            self.sent += bytes.len() as u64;
        }
        if self.sent == self.total {
            transport.write_eof();
        }
    }

    fn wake_later(&self, transport: &mut Transport, milliseconds: u64) {
        let delay = Duration::from_millis(1 + self.shared.random(milliseconds));
        let id = transport.id();
        let when = transport.reactor().now() + delay;
        transport.reactor().wake_at(when, id);
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(IDLE));
        match self.behaviour {
            Behaviour::Leaves if self.shared.random(2) == 0 => return transport.abort(),
            Behaviour::Leaves => return transport.close(),
            Behaviour::Abandons => transport.pause_reading(),
            _ => {}
        }
        match self.behaviour {
            Behaviour::Stalls => self.wake_later(transport, 20),
            Behaviour::Dies => self.wake_later(transport, 100),
            Behaviour::Abandons => self.wake_later(transport, 30_000),
            _ => {}
        }
        self.send(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, mut data: &[u8]) {
        self.shared.bytes.set(self.shared.bytes.get() + data.len() as u64);
        while !data.is_empty() {
            let expected = self.piece(self.received, data.len() as u64);
            assert!(!expected.is_empty(), "more came back than was sent");
            let (first, rest) = data.split_at(expected.len());
            assert_same_bytes(first, expected);
            self.received += first.len() as u64;
            data = rest;
        }
        assert!(self.received <= self.sent);
        self.send(transport);
    }

    fn pause_writing(&mut self, _: &mut Transport) {} // a client keeps reading

    fn resume_writing(&mut self, transport: &mut Transport) {
        self.send(transport);
    }

    fn woken(&mut self, transport: &mut Transport) {
        match self.behaviour {
            Behaviour::Dies => transport.abort(),
            Behaviour::Stalls if self.shared.random(2) == 0 => {
                transport.pause_reading();
                self.wake_later(transport, 1000);
            }
            _ => {
                if self.behaviour == Behaviour::Abandons {
                    self.total = self.sent; // then checks what arrived
                }
                transport.resume_reading();
                self.send(transport);
            }
        }
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        match self.behaviour {
            Behaviour::Dies | Behaviour::Leaves | Behaviour::Abandons => {}
            _ => {
                let reason = &lost.reason;
                assert!(matches!(reason, CloseReason::Closed), "{:?}: {reason}", self.behaviour);
                assert_eq!(self.received, self.total, "{:?}", self.behaviour);
            }
        }
        let shared = &self.shared;
        *shared.present.borrow_mut().entry(self.behaviour).or_default() -= 1;
        *shared.ended.borrow_mut().entry(self.behaviour).or_default() += 1;
        if shared.is_open.get() {
            let shared = shared.clone();
            let pause = Duration::from_millis(shared.random(50));
            reactor.call_later(pause, move |reactor| {
                if shared.is_open.get() {
                    shared.start_client(reactor);
                }
            });
        }
    }
}

#[test]
#[ignore = "takes minutes"]
fn minutes_of_random_peers_leave_nothing_behind() {
    let seconds = std::env::var("ENDURANCE").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(seconds);
    let server = Server::start(&["--idle-timeout", "20"]);
    let process = &server.process;
    let mut reactor = Reactor::new().unwrap();
    let shared = Rc::new(Shared {
        server: Address::Tcp(server.address().parse().unwrap()),
        source: noise(1 << 20, 71),
        random: RefCell::new(Random(0x5eed)),
        present: RefCell::default(),
        is_open: Cell::new(false),
        bytes: Cell::new(0),
        ended: RefCell::default(),
    });
    let descriptors = process.descriptors();
    let mut first = None;
    while Instant::now() < end {
        shared.is_open.set(true);
        (0..CLIENTS).for_each(|_| shared.start_client(&mut reactor));
        reactor.run_until(ROUND.min(end.saturating_duration_since(Instant::now())), |_| false).unwrap();
        let (busiest, buffered) = (process.resident(), server.statistics()[5]);
        shared.is_open.set(false);
        let have_left = reactor
            .run_until(LEAVING, |reactor| {
                shared.present.borrow().values().sum::<u64>() == 0 && reactor.source_count() == 0
            })
            .unwrap();
        assert!(have_left, "still connected: {:?}", shared.present.borrow());
        reactor.run_until(Duration::from_millis(100), |_| false).unwrap(); // pending reconnects
        assert_eq!((reactor.source_count(), reactor.timer_count()), (0, 0));

        eventually("the server has no connection", || server.open_connections() == 0);
        assert_eq!(process.descriptors(), descriptors);
        assert_eq!(server.statistics()[5], 0, "no byte is buffered");
        process.comes_to_rest();
        let resident = process.resident();
        let first = *first.get_or_insert(resident);
        println!(
            "{} clients {:?}, {} MiB echoed; server: {busiest} KiB with {} KiB buffered, {resident} KiB idle",
            shared.ended.borrow().values().sum::<u64>(),
            shared.ended.borrow(),
            shared.bytes.get() >> 20,
            buffered >> 10,
        );
        // The allocator keeps a varying part of the freed memory. A leak grows with each client.
        assert!(resident < first + (16 << 10), "{resident} KiB idle, {first} KiB after the first round");
    }
}
