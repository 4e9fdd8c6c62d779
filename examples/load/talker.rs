//! One connection that talks: it keeps a window of messages under way, and checks the echo byte by byte.

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

/// Bytes under way on one connection in stream mode.
const WINDOW: usize = 256 << 10;

/// Connections that are being made at a time: no more than the queue of any server holds.
const CONNECTING: usize = 100;

/// What is the same for all connections.
pub struct Plan {
    pub addresses: Vec<Address>,
    pub mode: Mode,
    pub size: usize,
    pub pattern: Pattern,
    pub tally: Handle<Tally>,
}

/// Begins to connect all; each one that is made begins with the next.
pub fn connect_all(reactor: &mut Reactor, plan: &Rc<Plan>) {
    for _ in 0..CONNECTING {
        connect_next(reactor, plan);
    }
}

fn connect_next(reactor: &mut Reactor, plan: &Rc<Plan>) {
    if let Ok(Some(role)) = reactor.get_mut(plan.tally).map(Tally::next) {
        connect(reactor, plan, role);
    }
}

fn connect(reactor: &mut Reactor, plan: &Rc<Plan>, role: Role) {
    let begun = Instant::now();
    let talker = Talker { plan: plan.clone(), role, begun, sent: 0, received: 0, under_way: VecDeque::new() };
    create_connection(reactor, &plan.addresses, &ConnectOptions::default(), talker);
}

struct Talker {
    plan: Rc<Plan>,
    role: Role,
    /// When it began to connect.
    begun: Instant,
    sent: u64,
    received: u64,
    /// When the messages were sent whose echo is not complete.
    under_way: VecDeque<Instant>,
}

impl Talker {
    fn size(&self) -> u64 {
        self.plan.size as u64
    }

    /// Sends as many messages as the window has room for.
    fn send(&mut self, transport: &mut Transport) {
        let window = match self.plan.mode {
            Mode::Stream => WINDOW as u64,
            Mode::PingPong | Mode::Churn => 0,
        };
        while self.sent == self.received || self.sent + self.size() <= self.received + window {
            // Not the reactor's time, which stands still within a turn.
            self.under_way.push_back(Instant::now());
            let end = self.sent + self.size();
            while self.sent < end {
                let piece = self.plan.pattern.at(self.sent, (end - self.sent) as usize);
                transport.write(piece);
                self.sent += piece.len() as u64;
            }
        }
    }

    /// The echo of a message is complete.
    fn complete(&mut self, transport: &mut Transport) {
        let Some(sent) = self.under_way.pop_front() else { return };
        let since = if self.plan.mode == Mode::Churn { self.begun } else { sent };
        let (tally, bytes) = (self.plan.tally, self.size());
        if let Ok(tally) = transport.reactor().get_mut(tally) {
            tally.echoed(bytes, since.elapsed());
        }
    }

    fn fail(&self, reactor: &mut Reactor, what: String) {
        if let Ok(tally) = reactor.get_mut(self.plan.tally) {
            tally.failure.get_or_insert(what);
        }
        reactor.stop();
    }
}

impl Protocol for Talker {
    fn connection_made(&mut self, transport: &mut Transport) {
        let reactor = transport.reactor();
        if let Ok(tally) = reactor.get_mut(self.plan.tally) {
            tally.connected();
        }
        connect_next(reactor, &self.plan);
        if self.role == Role::Talk {
            self.send(transport);
        }
    }

    /// Reading goes on: what is sent does not depend on what comes.
    fn pause_writing(&mut self, _: &mut Transport) {}

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let difference = self.plan.pattern.difference(self.received, data);
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
        if self.plan.mode == Mode::Churn && self.received == self.sent {
            transport.abort(); // a FIN would leave the port taken for a minute, and there are 28,000 of them
        } else {
            self.send(transport);
        }
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        match lost.reason {
            CloseReason::Aborted => connect(reactor, &self.plan, self.role),
            CloseReason::Unreachable(error) => self.fail(reactor, format!("cannot connect to {error}")),
            other => self.fail(reactor, format!("lost a connection: {other}")),
        }
    }
}
