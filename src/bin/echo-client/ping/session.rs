//! The state of a `--ping` session: the messages that were sent, and their results.
//!
//! Invariant: each message is sent at most once, and has one result: its echo was received in time,
//! or it is lost. The next message is sent only when the result is known. The echoes of a
//! connection arrive in the order of its messages, so the order identifies a late echo.
//!
//! Read next: `tally.rs`.

use std::collections::VecDeque;
use std::fmt::Display;
use std::mem;
use std::time::{Duration, Instant};

use echo_reactor::cli::counted;
use echo_reactor::{Address, Connection, Flow, Handle, Output, Reactor, Timer, Transport};
use log::Level;

use super::statistics::milliseconds;
use super::tally::Tally;
use super::{Ping, PingOptions};
use crate::Outcome;
use crate::client::{Failures, log_bytes};
use crate::options::Options;

/// How many messages a server may leave unanswered. This limit bounds the memory.
const MAX_OUTSTANDING: usize = 1000;

/// How late a timer may be.
const TIMER_DELAY: Duration = Duration::from_millis(10);

pub struct Session {
    pub options: Options,
    pub ping: PingOptions,
    pub output: Handle<Output>,
    pub outcome: Outcome,
    pub stage: Stage,
    /// The last signal that ended the session, or tried to.
    pub signal: Option<i32>,
    pub connection: Option<Handle<Connection<Ping>>>,
    /// The failed attempts since the last echo.
    pub failures: Failures,
    /// When the next message is due.
    pub next_send: Instant,
    pub timer: Option<Timer>,
    /// The messages of this connection whose echo is incomplete. Only the last one may be pending.
    outstanding: VecDeque<Message>,
    /// How many bytes of the first message's echo were received.
    echoed: usize,
    /// The last message before the surplus bytes that were last reported.
    surplus_after: u64,
    /// How many bytes were received.
    received: u64,
    pub tally: Tally,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Running,
    /// A signal arrived. The session waits for the last echo until this time.
    Stopping(Instant),
    /// Every message has its result. The connection is closing.
    Closing,
    /// The summary was printed.
    Ended,
}

struct Message {
    sequence: u64,
    sent_at: Instant,
    state: MessageState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MessageState {
    Pending,
    TimedOut,
    Wrong,
}

impl Session {
    pub fn new(options: Options, ping: PingOptions, output: Handle<Output>, outcome: Outcome) -> Self {
        Session {
            options,
            ping,
            output,
            outcome,
            stage: Stage::Running,
            signal: None,
            connection: None,
            failures: Failures::default(),
            next_send: Instant::now(),
            timer: None,
            outstanding: VecDeque::new(),
            echoed: 0,
            surplus_after: 0,
            received: 0,
            tally: Tally::new(),
        }
    }

    fn pending(&self) -> Option<&Message> {
        self.outstanding.back().filter(|message| message.state == MessageState::Pending)
    }

    /// Returns when a message that was sent at `sent_at` counts as lost.
    fn deadline(&self, sent_at: Instant) -> Option<Instant> {
        let timeout = self.options.timeout.and_then(|timeout| sent_at.checked_add(timeout));
        match self.stage {
            Stage::Stopping(end) => Some(timeout.map_or(end, |timeout| timeout.min(end))),
            Stage::Running | Stage::Closing | Stage::Ended => timeout,
        }
    }

    fn has_next(&self) -> bool {
        self.stage == Stage::Running && self.ping.count.is_none_or(|count| self.tally.sequence < count)
    }

    /// Returns whether the next message is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.pending().is_none() && self.has_next() && self.next_send <= now
    }

    /// Returns whether every message was echoed.
    pub fn is_answered(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Returns whether a message may still be sent, or get its result.
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Stopping(_))
    }

    pub fn is_done(&self) -> bool {
        self.is_active() && self.pending().is_none() && !self.has_next()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.pending() {
            _ if !self.is_active() => None,
            Some(message) => self.deadline(message.sent_at),
            None if self.connection.is_none() && self.ping.interval.is_zero() => None, // wait for a connection
            None => Some(self.next_send),
        }
    }

    /// Returns the summary so far, for a person. An empty line separates it from the lines of the
    /// messages, if there are any.
    pub fn summary(&self) -> String {
        let summary = self.tally.to_text(&self.options.address.to_string());
        if log::log_enabled!(Level::Warn) { format!("\n{summary}") } else { summary }
    }

    pub fn log_bytes(&self) {
        log_bytes(self.tally.sent() * self.ping.size as u64, self.received, self.tally.took());
    }

    /// Returns the size of a message for a person.
    pub fn size(&self) -> String {
        counted(self.ping.size, "byte")
    }

    pub fn print(&self, reactor: &mut Reactor, line: impl Display) {
        if !self.ping.json && log::log_enabled!(Level::Warn) {
            self.output.write(reactor, self.output.id(), format!("{line}\n").as_bytes());
        }
    }

    /// Counts the pending message as lost if its echo is too late.
    pub fn check_deadline(&mut self, reactor: &mut Reactor, now: Instant) {
        let Some(&Message { sequence, sent_at, .. }) = self.pending() else { return };
        if self.deadline(sent_at).is_some_and(|deadline| deadline <= now) {
            self.outstanding
                .back_mut()
                .into_iter()
                .for_each(|message| message.state = MessageState::TimedOut);
            self.tally.lost += 1;
            let waited = (now - sent_at).as_millis();
            let part = match self.echoed {
                echoed @ 1.. if self.outstanding.len() == 1 => format!(", only {echoed} of {}", self.size()),
                _ => String::new(),
            };
            self.print(reactor, format_args!("no echo: seq={sequence} after {waited} ms{part}"));
        }
    }

    /// Counts a message that is due while there is no connection as lost. With an interval of zero,
    /// one message is due for each attempt, when the attempt has failed. If the output is full,
    /// postpones the message instead.
    pub fn skip_unconnected(&mut self, reactor: &mut Reactor, has_attempt_failed: bool) {
        let now = Instant::now();
        if !self.is_due(now) || (self.ping.interval.is_zero() && !has_attempt_failed) {
            return;
        }
        if self.output.flow(reactor, self.output.id()) == Flow::Full {
            self.next_send = now + self.ping.interval;
        } else {
            self.skip(reactor, self.ping.interval, "not connected");
        }
    }

    /// Counts a message that cannot be sent as lost. The next one is due after `pause`.
    pub fn skip(&mut self, reactor: &mut Reactor, pause: Duration, why: &str) {
        self.tally.sequence += 1;
        self.tally.unsent += 1;
        self.tally.lost += 1;
        self.schedule_next(pause, Instant::now());
        self.print(reactor, format_args!("lost: seq={} {why}", self.tally.sequence));
    }

    /// Returns why no message can be sent now, if there is a reason.
    pub fn why_stalled(&self, transport: &Transport) -> Option<&'static str> {
        if transport.buffered() > 0 {
            Some("it was not sent: an earlier message is still on its way")
        } else if self.outstanding.len() >= MAX_OUTSTANDING {
            Some("it was not sent: too many earlier messages have no echo yet")
        } else {
            None
        }
    }

    /// Forgets the messages of a connection that has ended.
    pub fn lose_connection(&mut self, reactor: &mut Reactor) {
        if let Some(&Message { sequence, .. }) = self.pending() {
            self.tally.lost += 1;
            self.print(reactor, format_args!("lost: seq={sequence} the connection ended"));
        }
        self.outstanding.clear();
        self.echoed = 0;
    }

    pub fn send(&mut self, transport: &mut Transport) {
        self.tally.sequence += 1;
        let sequence = self.tally.sequence;
        let message: Vec<u8> = (0..self.ping.size).map(|offset| byte_at(sequence, offset)).collect();
        let sent_at = Instant::now();
        transport.write(&message);
        self.outstanding.push_back(Message { sequence, sent_at, state: MessageState::Pending });
        self.schedule_next(self.ping.interval, sent_at);
    }

    /// Schedules the next message. A message that a timer has delayed does not delay those after
    /// it. But if the last echo has delayed it, or a full output, the whole interval follows.
    fn schedule_next(&mut self, interval: Duration, now: Instant) {
        let is_late = now.saturating_duration_since(self.next_send) > TIMER_DELAY;
        self.next_send = if is_late { now } else { self.next_send } + interval;
    }

    /// Compares received data with the messages that were sent. `now` is when the data was
    /// received.
    pub fn receive(&mut self, transport: &mut Transport, mut data: &[u8], now: Instant) {
        let peer = transport.peer_addr().map(Address::to_string).unwrap_or_default();
        self.received += data.len() as u64;
        while !data.is_empty() {
            let Some(message) = self.outstanding.front_mut() else {
                self.report_surplus(transport.reactor(), data.len(), &peer);
                return;
            };
            let (piece, rest) = data.split_at(data.len().min(self.ping.size - self.echoed));
            let (sequence, offset) = (message.sequence, self.echoed);
            let expected = (offset..).map(|offset| byte_at(sequence, offset));
            let difference = expected.zip(piece).position(|(sent, &received)| sent != received);
            let was = message.state;
            if difference.is_some() {
                message.state = MessageState::Wrong;
            }
            // A message has one result, so print nothing more about a message that is lost already.
            if let Some(at) = difference.filter(|_| was == MessageState::Pending) {
                self.tally.lost += 1;
                self.tally.wrong += 1;
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

    /// Counts bytes that are not the echo of any message. Prints at most one line per message, so
    /// that a server that floods cannot fill the output buffer.
    fn report_surplus(&mut self, reactor: &mut Reactor, count: usize, peer: &str) {
        self.tally.surplus += count as u64;
        let sequence = self.tally.sequence;
        if mem::replace(&mut self.surplus_after, sequence) != sequence {
            // More bytes may follow, so the summary has their number.
            self.print(reactor, format_args!("surplus bytes from {peer} after seq={sequence}"));
        }
    }

    fn echo_completed(&mut self, reactor: &mut Reactor, peer: &str, now: Instant) {
        let Some(Message { sequence, sent_at, state }) = self.outstanding.pop_front() else { return };
        let (size, time) = (self.size(), now - sent_at);
        match state {
            MessageState::Pending => {
                self.failures.received();
                self.tally.round_trips.add(time);
                let time = milliseconds(time);
                self.print(reactor, format_args!("{size} from {peer}: seq={sequence} time={time:.3} ms"));
            }
            MessageState::TimedOut => {
                self.tally.late += 1;
                let time = milliseconds(time);
                self.print(reactor, format_args!("late echo: seq={sequence} time={time:.3} ms"));
            }
            MessageState::Wrong => {}
        }
    }
}

/// Returns a byte of a message. Consecutive messages differ in every byte, so a lost or repeated
/// message is detected.
#[allow(clippy::cast_possible_truncation)] // the value wraps around on purpose
fn byte_at(sequence: u64, offset: usize) -> u8 {
    (offset as u64).wrapping_add(sequence.wrapping_mul(31)) as u8
}
