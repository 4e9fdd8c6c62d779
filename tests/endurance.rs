//! For minutes: connections that come, go, stall and die at random. Every byte is checked, and again and again
//! everybody leaves: then nothing may be left behind, and nothing may go on.
//!
//! It takes as long as it is told to, so it runs only when asked for; both sides are this library:
//! `ENDURANCE=600 cargo test --release --test endurance -- --ignored --nocapture`.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{Server, assert_same_bytes, eventually, noise};
use echo_reactor::{
    Address, CloseReason, ConnectOptions, ConnectionLost, Flow, Protocol, Reactor, Transport,
    create_connection,
};

/// Visitors at a time. With many more the kernel runs out of memory for TCP, and resets some itself.
const CROWD: usize = 100;

/// From one rest to the next.
const ROUND: Duration = Duration::from_secs(60);

/// When a visitor gives up. So many bytes at once are more than the kernel has room for: it drops packets, and
/// sends them again after a time that it doubles each time. Whoever is meant to get through has to be waited for.
const IDLE: Duration = Duration::from_secs(40);

/// How long the last of them may take to leave: to wake up after a stall, and then to give up.
const LEAVING: Duration = Duration::from_secs(120);

/// A small generator of numbers (xorshift), the same at each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Manner {
    /// A message at a time; the next one when the echo is complete.
    Talks,
    /// As fast as it goes.
    Streams,
    /// As fast as it goes, but stops reading for a while.
    Stalls,
    /// One byte at a time.
    Trickles,
    /// Resets in the middle.
    Dies,
    /// Is gone before it said anything.
    Leaves,
    /// Sends and does not read, for so long that the server may have had enough.
    Abandons,
}

const MANNERS: [Manner; 7] = [
    Manner::Talks,
    Manner::Streams,
    Manner::Stalls,
    Manner::Trickles,
    Manner::Dies,
    Manner::Leaves,
    Manner::Abandons,
];

/// What all visitors have in common.
struct World {
    server: Address,
    source: Vec<u8>,
    chance: RefCell<Chance>,
    present: RefCell<BTreeMap<Manner, u64>>,
    is_open: Cell<bool>,
    bytes: Cell<u64>,
    ended: RefCell<BTreeMap<Manner, u64>>,
}

impl World {
    fn chance(&self, limit: u64) -> u64 {
        self.chance.borrow_mut().below(limit)
    }

    fn invite(self: &Rc<Self>, reactor: &mut Reactor) {
        let manner = MANNERS[self.chance(if self.chance(4) == 0 { 7 } else { 5 }) as usize];
        let total = match manner {
            Manner::Trickles => 1 + self.chance(50),
            Manner::Leaves => 0,
            Manner::Abandons => 4 << 20,
            _ => 1 + self.chance(1 << self.chance(21)),
        };
        let start = self.chance(self.source.len() as u64);
        let visitor = Visitor { world: self.clone(), manner, total, start, sent: 0, received: 0 };
        *self.present.borrow_mut().entry(manner).or_default() += 1;
        create_connection(reactor, std::slice::from_ref(&self.server), &ConnectOptions::default(), visitor);
    }
}

struct Visitor {
    world: Rc<World>,
    manner: Manner,
    /// To be sent.
    total: u64,
    /// Where in the source its bytes begin.
    start: u64,
    sent: u64,
    received: u64,
}

impl Visitor {
    /// At most `most` of its bytes from `offset` on.
    fn piece(&self, offset: u64, most: u64) -> &[u8] {
        let source = &self.world.source;
        let from = ((self.start + offset) % source.len() as u64) as usize;
        let most = most.min(self.total - offset) as usize;
        &source[from..source.len().min(from + most)]
    }

    fn send(&mut self, transport: &mut Transport) {
        let piece = match self.manner {
            Manner::Trickles => 1,
            _ => 1 + self.world.chance(100_000),
        };
        let in_turn = matches!(self.manner, Manner::Talks | Manner::Trickles);
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
        let delay = Duration::from_millis(1 + self.world.chance(milliseconds));
        let id = transport.id();
        let when = transport.reactor().now() + delay;
        transport.reactor().wake_at(when, id);
    }
}

impl Protocol for Visitor {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(IDLE));
        match self.manner {
            Manner::Leaves if self.world.chance(2) == 0 => return transport.abort(),
            Manner::Leaves => return transport.close(),
            Manner::Abandons => transport.pause_reading(),
            _ => {}
        }
        match self.manner {
            Manner::Stalls => self.wake_later(transport, 20),
            Manner::Dies => self.wake_later(transport, 100),
            Manner::Abandons => self.wake_later(transport, 30_000),
            _ => {}
        }
        self.send(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, mut data: &[u8]) {
        self.world.bytes.set(self.world.bytes.get() + data.len() as u64);
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

    fn pause_writing(&mut self, _: &mut Transport) {} // a client goes on reading

    fn resume_writing(&mut self, transport: &mut Transport) {
        self.send(transport);
    }

    fn woken(&mut self, transport: &mut Transport) {
        match self.manner {
            Manner::Dies => transport.abort(),
            Manner::Stalls if self.world.chance(2) == 0 => {
                transport.pause_reading();
                self.wake_later(transport, 1000);
            }
            _ => {
                if self.manner == Manner::Abandons {
                    self.total = self.sent; // and looks what became of it
                }
                transport.resume_reading();
                self.send(transport);
            }
        }
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        match self.manner {
            Manner::Dies | Manner::Leaves | Manner::Abandons => {}
            _ => {
                let reason = &lost.reason;
                assert!(matches!(reason, CloseReason::Closed), "{:?}: {reason}", self.manner);
                assert_eq!(self.received, self.total, "{:?}", self.manner);
            }
        }
        let world = &self.world;
        *world.present.borrow_mut().entry(self.manner).or_default() -= 1;
        *world.ended.borrow_mut().entry(self.manner).or_default() += 1;
        if world.is_open.get() {
            let world = world.clone();
            let pause = Duration::from_millis(world.chance(50));
            reactor.call_later(pause, move |reactor| {
                if world.is_open.get() {
                    world.invite(reactor);
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
    let world = Rc::new(World {
        server: Address::Tcp(server.address().parse().unwrap()),
        source: noise(1 << 20, 71),
        chance: RefCell::new(Chance(0x5eed)),
        present: RefCell::default(),
        is_open: Cell::new(false),
        bytes: Cell::new(0),
        ended: RefCell::default(),
    });
    let descriptors = process.descriptors();
    let mut first = None;
    while Instant::now() < end {
        world.is_open.set(true);
        (0..CROWD).for_each(|_| world.invite(&mut reactor));
        reactor.run_until(ROUND.min(end.saturating_duration_since(Instant::now())), |_| false).unwrap();
        let (busiest, buffered) = (process.resident(), server.statistics()[5]);
        world.is_open.set(false);
        let have_left = reactor
            .run_until(LEAVING, |reactor| {
                world.present.borrow().values().sum::<u64>() == 0 && reactor.source_count() == 0
            })
            .unwrap();
        assert!(have_left, "still there: {:?}", world.present.borrow());
        reactor.run_until(Duration::from_millis(100), |_| false).unwrap(); // those who were about to come
        assert_eq!((reactor.source_count(), reactor.timer_count()), (0, 0));

        eventually("the server is alone", || server.open_connections() == 0);
        assert_eq!(process.descriptors(), descriptors);
        assert_eq!(server.statistics()[5], 0, "nothing is owed to anybody");
        process.comes_to_rest();
        let resident = process.resident();
        let first = *first.get_or_insert(resident);
        println!(
            "{} visitors {:?}, {} MiB echoed; the server: {busiest} KiB with {} KiB buffered, {resident} KiB at rest",
            world.ended.borrow().values().sum::<u64>(),
            world.ended.borrow(),
            world.bytes.get() >> 20,
            buffered >> 10,
        );
        // The allocator keeps some of what was freed, once more and once less; a leak grows with each visitor.
        assert!(resident < first + (16 << 10), "{resident} KiB at rest, {first} KiB after the first round");
    }
}
