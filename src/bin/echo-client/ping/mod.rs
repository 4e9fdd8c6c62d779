//! `--ping`: measures round trips through an echo server.
//!
//! ```text
//!   PING 127.0.0.1:7777 (127.0.0.1:7777), 64 bytes: connected in 0.212 ms
//!   64 bytes from 127.0.0.1:7777: seq=1 time=0.153 ms
//!   no echo: seq=2 after 300 ms                      message 2 counts as lost
//!   late echo: seq=2 time=512.104 ms                 its echo arrived after the timeout
//! ```
//!
//! Invariant: there is one session, and at most one connection at a time. The session outlives its
//! connections (`--reconnect`), so they share it. The session is never borrowed while the reactor
//! may run a callback.
//!
//! Read next: `session.rs`, the state of each message; `tally.rs`, the counters.

mod session;
mod statistics;
mod tally;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::cli::{self, ErrorText, Exit, cannot, write_stderr};
use echo_reactor::{
    Address, CloseReason, ConnectError, Connection, ConnectionLost, Flow, Handle, Output, Protocol, Reactor,
    Transport, create_connection,
};

use crate::Outcome;
use crate::client::{close_gracefully, describe, log_connected};
use crate::options::Options;
use session::{Session, Stage};
use statistics::milliseconds;

/// How long the last echo may take after Ctrl-C.
const LAST_ECHO_TIMEOUT: Duration = Duration::from_secs(1);

/// What to measure.
pub struct PingOptions {
    /// The size of a message in bytes.
    pub size: usize,
    /// The time from one message to the next.
    pub interval: Duration,
    pub count: Option<u64>,
    pub json: bool,
}

/// The protocol of one connection, or of one attempt to connect.
pub struct Ping {
    session: Rc<RefCell<Session>>,
    began: Instant,
    /// The addresses to try next, and the errors of those that failed.
    rest: VecDeque<Address>,
    failed: Option<ConnectError>,
}

/// Starts a session. The session stops the reactor when it has ended.
pub fn start(
    reactor: &mut Reactor,
    options: Options,
    ping: PingOptions,
    output: Handle<Output>,
    outcome: Outcome,
    addresses: io::Result<Vec<Address>>,
) -> io::Result<()> {
    let session = Rc::new(RefCell::new(Session::new(options, ping, output, outcome)));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let session = session.clone();
        cli::on_signal(reactor, signal, move |reactor| interrupt(&session, reactor, signal))
            .map_err(cannot("catch signals"))?;
    }
    for signal in [Some(libc::SIGQUIT), cli::SIGINFO].into_iter().flatten() {
        let session = session.clone();
        cli::on_signal(reactor, signal, move |_| write_stderr(session.borrow().summary()))
            .map_err(cannot("catch signals"))?;
    }
    connect(&session, reactor, addresses);
    Ok(())
}

/// Connects to the first address that accepts. Each attempt has its own [`Ping`], so that the
/// connect time does not include the failed attempts.
fn connect(session: &Rc<RefCell<Session>>, reactor: &mut Reactor, addresses: io::Result<Vec<Address>>) {
    match addresses {
        _ if session.borrow().stage != Stage::Running => {} // the session has ended meanwhile
        Ok(addresses) => try_next(session, reactor, addresses.into(), None),
        Err(error) => disconnected(session, reactor, ErrorText(&error).to_string()),
    }
}

fn try_next(
    session: &Rc<RefCell<Session>>,
    reactor: &mut Reactor,
    mut rest: VecDeque<Address>,
    failed: Option<ConnectError>,
) {
    let address: Vec<Address> = rest.pop_front().into_iter().collect();
    let options = session.borrow().options.connect.clone();
    let ping = Ping { session: session.clone(), began: Instant::now(), rest, failed };
    create_connection(reactor, &address, &options, ping);
}

/// Called when a connection has ended, or when an attempt has failed. Reconnects, or ends the
/// session.
fn disconnected(session: &Rc<RefCell<Session>>, reactor: &mut Reactor, why: String) {
    let mut this = session.borrow_mut();
    let output = this.output;
    this.connection = None;
    if this.stage == Stage::Ended {
        return output.on_flushed(reactor, Reactor::stop);
    }
    this.lose_connection(reactor, &why);
    if !this.options.reconnect || this.stage != Stage::Running {
        drop(this);
        return finish(session, reactor, Some(why));
    }
    let delay = this.failures.add(why);
    drop(this);
    let shared = session.clone();
    reactor.call_later(delay, move |reactor| {
        let address = shared.borrow().options.address.clone();
        cli::look_up(reactor, &address, move |reactor, addresses| connect(&shared, reactor, addresses));
    });
    proceed(session, reactor);
}

/// Does what is due: counts a message as lost, sends the next one, or ends the session.
fn proceed(session: &Rc<RefCell<Session>>, reactor: &mut Reactor) {
    let connection = session.borrow().connection;
    if let Some(connection) = connection {
        let _ = connection.enter(reactor, |ping, transport| ping.proceed(transport));
    } else {
        session.borrow_mut().skip_unconnected(reactor);
        end_or_wait(session, reactor);
    }
}

/// Ends the session if it has nothing left to do. Otherwise, sets a timer for the next thing that
/// is due.
fn end_or_wait(session: &Rc<RefCell<Session>>, reactor: &mut Reactor) {
    if session.borrow_mut().is_done() {
        return finish(session, reactor, None);
    }
    let mut this = session.borrow_mut();
    if let Some(timer) = this.timer.take() {
        reactor.cancel(timer);
    }
    if let Some(when) = this.next_deadline() {
        let session = session.clone();
        this.timer = Some(reactor.call_at(when, move |reactor| proceed(&session, reactor)));
    }
}

/// Called for a signal. The first one ends the session after the last echo. The second one does not
/// wait for that echo: `timeout(1)` sends each signal twice. Once the summary was printed, a signal
/// ends the program at once.
fn interrupt(session: &Rc<RefCell<Session>>, reactor: &mut Reactor, signal: i32) {
    let mut this = session.borrow_mut();
    let wait = match this.stage {
        Stage::Running if this.tally.has_started() => LAST_ECHO_TIMEOUT,
        Stage::Stopping(..) => Duration::ZERO,
        Stage::Running | Stage::Ended => {
            this.stage = Stage::Ended;
            let outcome = this.outcome.clone();
            // After the callbacks that are queued: if the summary is on stdout, one of them sets
            // the outcome.
            return reactor.call_soon(move |reactor| {
                outcome.set(Exit::Signal(signal), None);
                reactor.stop();
            });
        }
    };
    this.stage = Stage::Stopping(signal, Instant::now() + wait);
    drop(this);
    end_or_wait(session, reactor);
}

/// Prints the summary, and closes the connection gracefully.
fn finish(session: &Rc<RefCell<Session>>, reactor: &mut Reactor, error: Option<String>) {
    let mut this = session.borrow_mut();
    if this.tally.has_started() || this.ping.json {
        let server = this.options.address.to_string();
        let json = this.ping.json.then(|| this.tally.to_json(&server, this.ping.size));
        let summary = json.unwrap_or_else(|| this.summary());
        this.output.write(reactor, this.output.id(), summary.as_bytes());
    }
    let exit = match this.stage {
        Stage::Stopping(signal @ (libc::SIGTERM | libc::SIGHUP), _) => Exit::Signal(signal),
        _ if error.is_some() || !this.tally.is_success() => cli::FAILURE,
        _ => cli::DONE,
    };
    this.stage = Stage::Ended;
    if let Some(timer) = this.timer.take() {
        reactor.cancel(timer);
    }
    let (connection, output, is_answered) = (this.connection, this.output, this.is_answered());
    // If the summary cannot be written, that error is the outcome.
    let outcome = this.outcome.clone();
    output.on_flushed(reactor, move |_| outcome.set(exit, error));
    reactor.call_soon(move |reactor| {
        let close = |connection: Handle<Connection<Ping>>| {
            connection.enter(reactor, |_, transport| {
                // Do not wait for a server that does not answer.
                if is_answered { close_gracefully(transport) } else { transport.abort() }
            })
        };
        let closing = connection.map(close);
        if !matches!(closing, Some(Ok(()))) {
            output.on_flushed(reactor, Reactor::stop);
        }
    });
}

impl Ping {
    fn proceed(&self, transport: &mut Transport) {
        let now = Instant::now();
        let mut this = self.session.borrow_mut();
        let (id, output) = (transport.id(), this.output);
        this.check_deadline(transport.reactor(), now);
        if this.is_due(now) {
            if this.is_stalled() || transport.buffered() > 0 {
                let pause = this.ping.interval.max(this.options.timeout.unwrap_or_default());
                this.skip(transport.reactor(), pause, "the server does not read");
            } else if output.flow(transport.reactor(), id) == Flow::Full {
                return; // the output wakes this connection when it has room
            } else {
                this.send(transport);
            }
        }
        drop(this);
        end_or_wait(&self.session, transport.reactor());
    }
}

impl Protocol for Ping {
    fn connection_made(&mut self, transport: &mut Transport) {
        let (now, handle) = (Instant::now(), transport.handle::<Ping>());
        let peer = transport.peer_addr().map(Address::to_string).unwrap_or_default();
        let mut this = self.session.borrow_mut();
        let (took, size) = (now - self.began, this.size());
        this.connection = Some(handle);
        this.failures.connected();
        this.next_send = this.next_send.max(now);
        this.tally.connects.add(took);
        let time = milliseconds(took);
        let line = if this.tally.connects.count() == 1 {
            let server = this.options.address.to_string();
            let peer = if peer == server { String::new() } else { format!(" ({peer})") };
            format!("PING {server}{peer}, {size}: connected in {time:.3} ms")
        } else {
            format!("reconnected to {peer} in {time:.3} ms")
        };
        this.print(transport.reactor(), line);
        drop(this);
        log_connected(transport, took);
        self.proceed(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let now = Instant::now();
        self.session.borrow_mut().receive(transport, data, now);
        self.proceed(transport);
    }

    /// Called when the output has room again.
    fn woken(&mut self, transport: &mut Transport) {
        self.proceed(transport);
    }

    /// Keeps reading, because an echo server stops reading while its echo is not read.
    fn pause_writing(&mut self, _: &mut Transport) {}

    fn eof_received(&mut self, transport: &mut Transport) {
        close_gracefully(transport);
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let reason = match lost.reason {
            CloseReason::Unreachable(mut error) => {
                if let Some(mut failed) = self.failed.take() {
                    failed.attempts.append(&mut error.attempts);
                    error = failed;
                }
                if !self.rest.is_empty() {
                    return try_next(&self.session, reactor, std::mem::take(&mut self.rest), Some(error));
                }
                CloseReason::Unreachable(error)
            }
            reason => reason,
        };
        let why = describe(&self.session.borrow().options.address, &reason);
        disconnected(&self.session, reactor, why);
    }
}
