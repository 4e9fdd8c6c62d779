//! One client: keeps a window of messages in flight, and checks each byte of the echo.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use echo_reactor::{
    Address, CloseReason, ConnectOptions, ConnectionLost, Handle, Protocol, Reactor, Transport,
    create_connection,
};

use crate::options::Mode;
use crate::pattern::Pattern;
use crate::tally::{Role, Tally};

/// The bytes in flight on each connection in stream mode.
const WINDOW: usize = 256 << 10;

/// The maximum number of simultaneous connection attempts, which fits into the backlog of any
/// server.
const MAX_CONNECTING: usize = 100;

/// The configuration, which all clients share.
pub struct Config {
    pub addresses: Vec<Address>,
    pub mode: Mode,
    pub size: usize,
    pub pattern: Pattern,
    pub tally: Handle<Tally>,
}

/// Starts to connect. Each established connection starts the next attempt.
pub fn connect_all(reactor: &mut Reactor, config: &Rc<Config>) {
    for _ in 0..MAX_CONNECTING {
        connect_next(reactor, config);
    }
}

fn connect_next(reactor: &mut Reactor, config: &Rc<Config>) {
    if let Ok(Some(role)) = reactor.get_mut(config.tally).map(Tally::next) {
        connect(reactor, config, role);
    }
}

fn connect(reactor: &mut Reactor, config: &Rc<Config>, role: Role) {
    let began = Instant::now();
    let client =
        Client { config: config.clone(), role, began, sent: 0, received: 0, in_flight: VecDeque::new() };
    create_connection(reactor, &config.addresses, &ConnectOptions::default(), client);
}

struct Client {
    config: Rc<Config>,
    role: Role,
    /// When the connection attempt began.
    began: Instant,
    sent: u64,
    received: u64,
    /// When each message in flight was sent.
    in_flight: VecDeque<Instant>,
}

impl Client {
    fn size(&self) -> u64 {
        self.config.size as u64
    }

    /// Sends messages until the window is full.
    fn send(&mut self, transport: &mut Transport) {
        let window = match self.config.mode {
            Mode::Stream => WINDOW as u64,
            Mode::PingPong | Mode::Churn => 0,
        };
        while self.sent == self.received || self.sent + self.size() <= self.received + window {
            // The reactor's time would be too coarse: it is constant within a turn.
            self.in_flight.push_back(Instant::now());
            let end = self.sent + self.size();
            while self.sent < end {
                let piece = self.config.pattern.at(self.sent, (end - self.sent) as usize);
                transport.write(piece);
                self.sent += piece.len() as u64;
            }
        }
    }

    /// Counts a message whose echo is complete.
    fn complete(&mut self, transport: &mut Transport) {
        let Some(sent) = self.in_flight.pop_front() else { return };
        let since = if self.config.mode == Mode::Churn { self.began } else { sent };
        let (tally, bytes) = (self.config.tally, self.size());
        if let Ok(tally) = transport.reactor().get_mut(tally) {
            tally.add_echo(bytes, since.elapsed());
        }
    }

    fn fail(&self, reactor: &mut Reactor, error: String) {
        if let Ok(tally) = reactor.get_mut(self.config.tally) {
            tally.failure.get_or_insert(error);
        }
        reactor.stop();
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        let reactor = transport.reactor();
        if let Ok(tally) = reactor.get_mut(self.config.tally) {
            tally.add_connection();
        }
        connect_next(reactor, &self.config);
        if self.role == Role::Active {
            self.send(transport);
        }
    }

    /// Keeps reading, because a full write buffer must not stop the echo.
    fn pause_writing(&mut self, _: &mut Transport) {}

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let difference = self.config.pattern.difference(self.received, data);
        if let Some(offset) =
            difference.or((self.received + data.len() as u64 > self.sent).then_some(self.sent))
        {
            return self.fail(transport.reactor(), format!("an echo is wrong at offset {offset}"));
        }
        let complete = self.received / self.size();
        self.received += data.len() as u64;
        for _ in complete..self.received / self.size() {
            self.complete(transport);
        }
        if self.config.mode == Mode::Churn && self.received == self.sent {
            transport.abort(); // a FIN would leave the port in TIME_WAIT for a minute, and the ports would run out
        } else {
            self.send(transport);
        }
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        match lost.reason {
            CloseReason::Aborted => connect(reactor, &self.config, self.role),
            CloseReason::Unreachable(error) => self.fail(reactor, format!("cannot connect to {error}")),
            other => self.fail(reactor, format!("lost a connection: {other}")),
        }
    }
}
