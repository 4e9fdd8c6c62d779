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
    Address, CloseReason, ConnectError, ConnectionLost, Flow, Handle, Output, Protocol, Reactor, Transport,
    create_connection,
};
use log::Level;

use crate::Outcome;
use crate::client::{CLOSE_TIMEOUT, close_gracefully, describe, local_end, log_connected, name_server};
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

/// Starts a session, and returns it. The session stops the reactor when it has ended.
pub fn start(
    reactor: &mut Reactor,
    options: Options,
    ping: PingOptions,
    output: Handle<Output>,
    outcome: Outcome,
    addresses: io::Result<Vec<Address>>,
) -> io::Result<Rc<RefCell<Session>>> {
    let session = Rc::new(RefCell::new(Session::new(options, ping, output, outcome)));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let session = session.clone();
        cli::on_signal(reactor, signal, move |reactor| interrupt(&session, reactor, signal))
            .map_err(cannot("catch signals"))?;
    }
    for signal in [Some(libc::SIGQUIT), cli::SIGINFO].into_iter().flatten() {
        let session = session.clone();
        cli::on_signal(reactor, signal, move |_| {
            cli::end_echoed_row();
            write_stderr(session.borrow().summary());
        })
        .map_err(cannot("catch signals"))?;
    }
    // The first message waits for the first attempt. With `--reconnect`, it waits for at most one
    // interval, so that messages are due during this attempt, as during any other.
    let interval = session.borrow().ping.interval;
    if session.borrow().options.reconnect {
        let shared = session.clone();
        let timer = reactor.call_later(interval, move |reactor| proceed(&shared, reactor));
        session.borrow_mut().timer = Some(timer);
    }
    connect(&session, reactor, addresses);
    Ok(session)
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
    let was_connected = this.connection.take().is_some();
    if !this.is_active() {
        drop(this);
        return conclude(session, reactor, None);
    }
    if was_connected {
        this.lose_connection(reactor);
    } else {
        this.skip_unconnected(reactor, true);
    }
    if !this.options.reconnect || this.stage != Stage::Running {
        drop(this);
        return conclude(session, reactor, Some(why));
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
        session.borrow_mut().skip_unconnected(reactor, false);
        end_or_wait(session, reactor);
    }
}

/// Ends the session if it has nothing left to do. Otherwise, sets a timer for the next thing that
/// is due.
fn end_or_wait(session: &Rc<RefCell<Session>>, reactor: &mut Reactor) {
    if session.borrow_mut().is_done() {
        return close(session, reactor);
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
/// wait for that echo: `timeout(1)` sends each signal twice. The next one does not wait for the
/// server to close. Once the summary was printed, a signal ends the program at once.
fn interrupt(session: &Rc<RefCell<Session>>, reactor: &mut Reactor, signal: i32) {
    let mut this = session.borrow_mut();
    if signal == libc::SIGINT {
        cli::end_echoed_row();
    }
    let wait = match this.stage {
        Stage::Running => {
            if this.connection.is_none() {
                let is_waiting = this.tally.sequence == 0; // the first message, for the first attempt
                this.skip_unconnected(reactor, is_waiting);
            }
            LAST_ECHO_TIMEOUT
        }
        Stage::Stopping(_) => Duration::ZERO,
        Stage::Closing => {
            this.signal = Some(signal);
            drop(this);
            return conclude(session, reactor, None);
        }
        Stage::Ended => {
            let outcome = this.outcome.clone();
            // After the callbacks that are queued: if the summary is on stdout, one of them sets
            // the outcome.
            return reactor.call_soon(move |reactor| {
                outcome.set(Exit::Signal(signal), None);
                reactor.stop();
            });
        }
    };
    this.signal = Some(signal);
    this.stage = Stage::Stopping(Instant::now() + wait);
    drop(this);
    end_or_wait(session, reactor);
}

/// Closes the connection gracefully. Surplus bytes still count until the server has closed its
/// side.
fn close(session: &Rc<RefCell<Session>>, reactor: &mut Reactor) {
    let mut this = session.borrow_mut();
    this.stage = Stage::Closing;
    this.tally.stop();
    let (is_answered, connection) = (this.is_answered(), this.connection);
    drop(this);
    let Some(connection) = connection else { return conclude(session, reactor, None) };
    reactor.call_soon(move |reactor| {
        let _ = connection.enter(reactor, |_, transport| {
            if is_answered {
                transport.set_idle_timeout(Some(CLOSE_TIMEOUT));
                transport.write_eof();
            } else {
                transport.abort(); // do not wait for a server that does not answer
            }
        });
    });
}

/// Prints the summary once, and stops the loop when it is written.
fn conclude(session: &Rc<RefCell<Session>>, reactor: &mut Reactor, error: Option<String>) {
    let mut this = session.borrow_mut();
    if this.stage == Stage::Ended {
        return;
    }
    this.stage = Stage::Ended;
    if let Some(timer) = this.timer.take() {
        reactor.cancel(timer);
    }
    if let (Some(_), None, Some(count)) = (&error, this.signal, this.ping.count) {
        this.tally.lose_rest(count);
    }
    let server = this.options.address.to_string();
    let json = this.ping.json.then(|| this.tally.to_json(&server, this.ping.size));
    let summary = json.unwrap_or_else(|| this.summary());
    this.output.write(reactor, this.output.id(), summary.as_bytes());
    let exit = match this.signal {
        Some(signal @ (libc::SIGTERM | libc::SIGHUP)) => Exit::Signal(signal),
        _ if error.is_some() || !this.tally.is_success() => cli::FAILURE,
        _ => cli::DONE,
    };
    let (output, outcome) = (this.output, this.outcome.clone());
    // If the summary cannot be written, that error is the outcome.
    output.on_flushed(reactor, move |reactor| {
        outcome.set(exit, error);
        reactor.stop();
    });
}

impl Ping {
    fn proceed(&self, transport: &mut Transport) {
        let now = Instant::now();
        let mut this = self.session.borrow_mut();
        let (id, output) = (transport.id(), this.output);
        this.check_deadline(transport.reactor(), now);
        if this.is_due(now) {
            if let Some(why) = this.why_stalled(transport) {
                let pause = this.ping.interval.max(this.options.timeout.unwrap_or_default());
                this.skip(transport.reactor(), pause, why);
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
        let mut this = self.session.borrow_mut();
        if !this.is_active() {
            return transport.abort(); // nothing follows the summary
        }
        let (took, size) = (now - self.began, this.size());
        this.connection = Some(handle);
        this.next_send = this.next_send.max(now);
        this.tally.connects.add(took);
        let (is_first, is_news) = (this.tally.connects.count() == 1, this.failures.connected(true));
        if this.ping.json || !(is_first || is_news) {
            log_connected(&this.options.address, transport, took);
        } else {
            let server = name_server(&this.options.address, transport);
            let from = if log::log_enabled!(Level::Info) { local_end(transport) } else { String::new() };
            let what = if is_first {
                format!("PING {server}, {size}: connected")
            } else {
                format!("reconnected to {server}")
            };
            let time = milliseconds(took);
            this.print(transport.reactor(), format_args!("{what}{from} in {time:.3} ms"));
        }
        drop(this);
        self.proceed(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let now = Instant::now();
        let mut this = self.session.borrow_mut();
        this.receive(transport, data, now);
        if !this.is_active() {
            transport.abort(); // these bytes are surplus, and more may come without end
        }
        drop(this);
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
