//! What `--ping` knows of its messages: which were sent, and what became of them.
//!
//! Invariant: each message is sent once, and its outcome is decided once: it was echoed in time, or it is
//! lost. The next one is sent only then. The echoes of a connection come in the order of its messages, so
//! a late echo is known by its place.
//!
//! Read next: `tally.rs`.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use echo_reactor::cli::counted;
use echo_reactor::{Address, Connection, Flow, Handle, Output, Reactor, Timer, Transport};

use super::statistics::milliseconds;
use super::tally::Tally;
use super::{Ping, PingOptions};
use crate::Ending;
use crate::options::Options;

/// How many messages a server may leave unanswered. It bounds the memory.
const MAX_OUTSTANDING: usize = 1000;

pub struct Session {
    pub options: Options,
    pub ping: PingOptions,
    pub output: Handle<Output>,
    pub ending: Ending,
    pub stage: Stage,
    pub link: Option<Handle<Connection<Ping>>>,
    /// Connection attempts since an echo last came.
    pub attempt: u32,
    /// When the next message is due.
    pub next: Instant,
    pub timer: Option<Timer>,
    /// The messages of this connection whose echo is not complete. Only the last may be undecided.
    outstanding: VecDeque<Message>,
    /// How much of the echo of the first of them has come.
    echoed: usize,
    pub tally: Tally,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Running,
    /// A signal came. The last echo may come until then.
    Stopping(i32, Instant),
    /// The summary is printed.
    Ended,
}

struct Message {
    sequence: u64,
    sent_at: Instant,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Undecided,
    TimedOut,
    Wrong,
}

impl Session {
    pub fn new(options: Options, ping: PingOptions, output: Handle<Output>, ending: Ending) -> Self {
        Session {
            options,
            ping,
            output,
            ending,
            stage: Stage::Running,
            link: None,
            attempt: 0,
            next: Instant::now(),
            timer: None,
            outstanding: VecDeque::new(),
            echoed: 0,
            tally: Tally::new(),
        }
    }

    fn undecided(&self) -> Option<&Message> {
        self.outstanding.back().filter(|message| message.fate == Fate::Undecided)
    }

    /// When the echo of a message that was sent then is lost.
    fn deadline(&self, sent_at: Instant) -> Option<Instant> {
        let timeout = self.options.timeout.and_then(|timeout| sent_at.checked_add(timeout));
        match self.stage {
            Stage::Stopping(_, end) => Some(timeout.map_or(end, |timeout| timeout.min(end))),
            Stage::Running | Stage::Ended => timeout,
        }
    }

    fn has_next(&self) -> bool {
        self.stage == Stage::Running && self.ping.count.is_none_or(|count| self.tally.sent < count)
    }

    /// Whether the next message is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.undecided().is_none() && self.has_next() && self.next <= now
    }

    pub fn is_done(&self) -> bool {
        self.stage != Stage::Ended && self.undecided().is_none() && !self.has_next()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.undecided() {
            _ if self.stage == Stage::Ended => None,
            Some(message) => self.deadline(message.sent_at),
            None if self.link.is_none() && self.ping.interval.is_zero() => None, // until there is a connection
            None => Some(self.next),
        }
    }

    /// The size of a message, for a person.
    pub fn size(&self) -> String {
        counted(self.ping.size, "byte")
    }

    pub fn print(&self, reactor: &mut Reactor, line: impl Display) {
        if !self.ping.json {
            self.output.write(reactor, self.output.id(), format!("{line}\n").as_bytes());
        }
    }

    /// Gives up the message that is undecided, if it is too late.
    pub fn check_deadline(&mut self, reactor: &mut Reactor, now: Instant) {
        let Some(&Message { sequence, sent_at, .. }) = self.undecided() else { return };
        if self.deadline(sent_at).is_some_and(|deadline| deadline <= now) {
            self.outstanding.back_mut().into_iter().for_each(|message| message.fate = Fate::TimedOut);
            self.tally.lost += 1;
            let waited = (now - sent_at).as_millis();
            self.print(reactor, format_args!("no echo: seq={sequence} after {waited} ms"));
        }
    }

    /// Counts a message that is due while there is no connection. It waits while the output is full.
    pub fn skip_unconnected(&mut self, reactor: &mut Reactor) {
        let now = Instant::now();
        if !self.is_due(now) || self.ping.interval.is_zero() {
            return;
        }
        if self.output.flow(reactor, self.output.id()) == Flow::Full {
            self.next = now + self.ping.interval;
        } else {
            self.skip(reactor, self.ping.interval, "not connected");
        }
    }

    /// Counts a message that cannot be sent. The next one is due at this pace.
    pub fn skip(&mut self, reactor: &mut Reactor, pace: Duration, why: &str) {
        self.tally.sent += 1;
        self.tally.lost += 1;
        self.next = (self.next + pace).max(Instant::now());
        self.print(reactor, format_args!("lost: seq={} {why}", self.tally.sent));
    }

    /// Whether the server has left so many messages unanswered that it gets no more.
    pub fn is_stalled(&self) -> bool {
        self.outstanding.len() >= MAX_OUTSTANDING
    }

    /// Forgets what was sent on a connection that is gone.
    pub fn lose_connection(&mut self, reactor: &mut Reactor, why: &dyn Display) {
        if let Some(&Message { sequence, .. }) = self.undecided() {
            self.tally.lost += 1;
            self.print(reactor, format_args!("lost: seq={sequence} {why}"));
        }
        self.outstanding.clear();
        self.echoed = 0;
    }

    pub fn send(&mut self, transport: &mut Transport) {
        self.tally.sent += 1;
        let sequence = self.tally.sent;
        let message: Vec<u8> = (0..self.ping.size).map(|offset| byte_at(sequence, offset)).collect();
        let sent_at = Instant::now();
        transport.write(&message);
        self.outstanding.push_back(Message { sequence, sent_at, fate: Fate::Undecided });
        self.next = (self.next + self.ping.interval).max(sent_at);
    }

    /// Compares what came with what was sent. `now` is when it was seen.
    pub fn receive(&mut self, transport: &mut Transport, mut data: &[u8], now: Instant) {
        let peer = transport.peer_addr().map(Address::to_string).unwrap_or_default();
        while !data.is_empty() {
            let Some(message) = self.outstanding.front_mut() else {
                let count = data.len();
                if self.tally.surplus == 0 {
                    self.print(
                        transport.reactor(),
                        format_args!("surplus: {count} B from {peer} are no echo"),
                    );
                }
                self.tally.surplus += count as u64;
                return;
            };
            let (piece, rest) = data.split_at(data.len().min(self.ping.size - self.echoed));
            let (sequence, offset) = (message.sequence, self.echoed);
            let expected = (offset..).map(|offset| byte_at(sequence, offset));
            let difference = expected.zip(piece).position(|(sent, &received)| sent != received);
            if let Some(at) = difference.filter(|_| message.fate != Fate::Wrong) {
                self.tally.lost += u64::from(message.fate == Fate::Undecided);
                self.tally.wrong += 1;
                message.fate = Fate::Wrong;
                let (sent, received) = (byte_at(sequence, offset + at), piece[at]);
                let line = format!(
                    "wrong echo: seq={sequence} differs at offset {}: sent {sent:#04x}, received {received:#04x}",
                    offset + at
                );
                self.print(transport.reactor(), line);
            }
            self.echoed += piece.len();
            data = rest;
            if self.echoed == self.ping.size {
                self.echoed = 0;
                self.echo_completed(transport.reactor(), &peer, now);
            }
        }
    }

    fn echo_completed(&mut self, reactor: &mut Reactor, peer: &str, now: Instant) {
        let Some(Message { sequence, sent_at, fate }) = self.outstanding.pop_front() else { return };
        let (size, time) = (self.size(), now - sent_at);
        match fate {
            Fate::Undecided => {
                self.attempt = 0;
                self.tally.round_trips.add(time);
                let time = milliseconds(time);
                self.print(reactor, format_args!("{size} from {peer}: seq={sequence} time={time:.3} ms"));
            }
            Fate::TimedOut => {
                self.tally.late += 1;
                let time = milliseconds(time);
                self.print(reactor, format_args!("late echo: seq={sequence} time={time:.3} ms"));
            }
            Fate::Wrong => {}
        }
    }
}

/// A message differs from its neighbours in each byte, so a lost or repeated one is noticed.
#[allow(clippy::cast_possible_truncation)] // it is to wrap around
fn byte_at(sequence: u64, offset: usize) -> u8 {
    (offset as u64).wrapping_add(sequence.wrapping_mul(31)) as u8
}
