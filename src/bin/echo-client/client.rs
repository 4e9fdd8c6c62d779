//! The client's protocol: runs the transfer on a connection. When the connection ends, continues
//! the transfer on another one, or ends it.
//!
//! Invariant: there is one transfer, and at most one connection owns it.
//!
//! Read next: `transfer.rs`.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, mem};

use echo_reactor::cli::{self, AddressArgument, ErrorText, report};
use echo_reactor::{Address, CloseReason, ConnectionLost, Protocol, Reactor, Transport, create_connection};
use log::Level;

use crate::options::Options;
use crate::transfer::Transfer;
use crate::{NAME, Outcome};

/// The longest delay before the first retry. It doubles with each attempt, up to [`MAX_DELAY`]. The
/// actual delay is random: between half of the longest delay and all of it.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// How long a server that sends nothing may delay the close of a connection.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state that all connections of one run share.
pub struct Session {
    pub options: Options,
    pub outcome: Outcome,
}

pub struct Client {
    session: Rc<Session>,
    /// `None` after the connection has ended.
    transfer: Option<Box<Transfer>>,
    failures: Failures,
    /// When this attempt began.
    began: Instant,
}

/// The failed attempts since the last byte was received, and what was reported about them.
///
/// Invariant: the last report is true, except that a connection may be established after a failure
/// was reported. A proxy may accept each attempt and close it. So after two connections in a row on
/// which nothing was received, the next one is not reported before its first byte.
#[derive(Default)]
pub struct Failures {
    count: u32,
    /// How many connections in a row were lost before anything was received.
    silent: u32,
    /// Whether there is a connection, and nothing was received on it yet.
    is_silent: bool,
    reported: Reported,
}

/// The last report, apart from those of `-v`.
#[derive(Default)]
enum Reported {
    #[default]
    Nothing,
    Connected,
    /// An attempt failed for this reason.
    Failure(String),
}

impl Failures {
    /// Logs a failure: as a warning, unless that was the last report. Returns the delay before the
    /// next attempt.
    pub fn add(&mut self, reason: String) -> Duration {
        let delay = retry_delay(self.count);
        let level = match &self.reported {
            Reported::Failure(last) if *last == reason => Level::Info,
            _ => Level::Warn,
        };
        let when = if log::log_enabled!(Level::Info) {
            format!("in {} ms", delay.as_millis())
        } else {
            String::from("until it succeeds")
        };
        log::log!(level, "{reason}; reconnecting {when}");
        let silent = if self.is_silent { self.silent.saturating_add(1) } else { 0 };
        let reported = Reported::Failure(reason);
        *self = Failures { count: self.count.saturating_add(1), silent, is_silent: false, reported };
        delay
    }

    /// Records that a connection is established. Returns whether to report it: after a failure, and
    /// the first one if `is_first_reported` is set.
    pub fn connected(&mut self, is_first_reported: bool) -> bool {
        self.is_silent = true;
        let is_news = match self.reported {
            Reported::Nothing => is_first_reported,
            Reported::Connected => false,
            Reported::Failure(_) => self.silent < 2,
        };
        if is_news {
            self.reported = Reported::Connected;
        }
        is_news
    }

    /// Records that data was received. Returns whether to report the connection now.
    pub fn received(&mut self) -> bool {
        (self.count, self.silent, self.is_silent) = (0, 0, false);
        let is_news = matches!(self.reported, Reported::Failure(_));
        if is_news {
            self.reported = Reported::Connected;
        }
        is_news
    }
}

impl Client {
    /// Connects to the first of `addresses` that accepts, and runs the transfer. With
    /// `--reconnect`, a failed name lookup counts as a failed attempt.
    pub fn connect(
        reactor: &mut Reactor,
        session: Rc<Session>,
        transfer: Box<Transfer>,
        failures: Failures,
        addresses: io::Result<Vec<Address>>,
    ) {
        let options = session.options.connect.clone();
        let mut client = Client { session, transfer: None, failures, began: Instant::now() };
        match addresses {
            Ok(addresses) => {
                client.transfer = Some(transfer);
                create_connection(reactor, &addresses, &options, client);
            }
            Err(error) => client.reconnect(reactor, transfer, ErrorText(&error).to_string()),
        }
    }

    /// Connects again after a delay. Resolves the name again, because the server may have moved.
    fn reconnect(self, reactor: &mut Reactor, transfer: Box<Transfer>, reason: String) {
        let Client { session, mut failures, .. } = self;
        let delay = failures.add(reason);
        transfer.prompt(reactor);
        reactor.call_later(delay, move |reactor| {
            let address = session.options.address.clone();
            cli::look_up(reactor, &address, move |reactor, addresses| {
                Client::connect(reactor, session, transfer, failures, addresses);
            });
        });
    }
}

/// Closes a connection with a FIN. If the server does not read what is buffered, or does not close
/// its side, the connection is reset after [`CLOSE_TIMEOUT`].
pub fn close_gracefully(transport: &mut Transport) {
    transport.set_idle_timeout(Some(CLOSE_TIMEOUT));
    transport.close();
}

/// Names the server as the user did. Adds the peer's address if it differs: `:7 (127.0.0.1:7)`.
pub fn name_server(server: &AddressArgument, transport: &Transport) -> String {
    let (server, peer) = (server.to_string(), transport.peer_addr().map(Address::to_string));
    match peer {
        Some(peer) if peer != server => format!("{server} ({peer})"),
        _ => server,
    }
}

/// Reports a new connection, unless `-v` logs it.
fn report_connected(server: &AddressArgument, transport: &Transport) {
    if log::log_enabled!(Level::Warn) && !log::log_enabled!(Level::Info) {
        report(NAME, format_args!("connected to {}", name_server(server, transport)));
    }
}

/// Logs both ends of a new connection, and how long the connect took.
pub fn log_connected(server: &AddressArgument, transport: &Transport, took: Duration) {
    let (server, from) = (name_server(server, transport), local_end(transport));
    log::info!("connected to {server}{from} in {:.3} ms", took.as_secs_f64() * 1e3);
}

/// Returns ` from ADDRESS`, or nothing: a client's Unix socket has no name.
pub fn local_end(transport: &Transport) -> String {
    match transport.local_addr() {
        Ok(Address::Tcp(local)) => format!(" from {local}"),
        _ => String::new(),
    }
}

/// Logs how much was sent and received by all connections.
pub fn log_bytes(sent: u64, received: u64, took: Duration) {
    log::info!("bytes: {sent} sent, {received} received; {:.3} s", took.as_secs_f64());
}

/// Describes why a connection ended.
pub fn describe(server: &AddressArgument, reason: &CloseReason) -> String {
    match reason {
        CloseReason::Closed | CloseReason::Aborted | CloseReason::LingerTimeout => {
            format!("{server} closed the connection")
        }
        CloseReason::Unreachable(_) => format!("cannot connect to {reason}"),
        CloseReason::IdleTimeout => format!("timed out: no data to or from {server}"),
        other => format!("lost the connection to {server}: {other}"),
    }
}

/// Returns the delay before the next attempt: exponential backoff with jitter. The first delay is
/// 100 to 200 ms, and the longest ones are 2.5 to 5 s. The jitter spreads the many clients of a
/// server that has failed.
fn retry_delay(attempt: u32) -> Duration {
    let whole = FIRST_DELAY.saturating_mul(1 << attempt.min(16)).min(MAX_DELAY);
    let random = u32::try_from(RandomState::new().hash_one(attempt) >> 32).unwrap_or(0);
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(self.session.options.timeout);
        if let Some(transfer) = &mut self.transfer {
            let server = &self.session.options.address;
            if self.failures.connected(transfer.display.is_interactive()) {
                report_connected(server, transport);
            }
            log_connected(server, transport, self.began.elapsed());
            transfer.start(transport);
        }
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        if self.failures.received() {
            report_connected(&self.session.options.address, transport);
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.receive(transport, data);
        }
    }

    fn woken(&mut self, transport: &mut Transport) {
        if let Some(transfer) = &mut self.transfer {
            transfer.woken(transport);
        }
    }

    /// Keeps reading, because an echo server stops reading while its echo is not read.
    fn pause_writing(&mut self, _: &mut Transport) {}

    fn resume_writing(&mut self, transport: &mut Transport) {
        if let Some(transfer) = &mut self.transfer {
            transfer.send(transport);
        }
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        close_gracefully(transport);
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let reason = lost.reason;
        let Some(mut transfer) = self.transfer.take() else { return };
        if self.session.outcome.exit().is_some() {
            return; // the loop has stopped, and the reactor is dropped
        }
        let options = &self.session.options;
        if options.reconnect && transfer.can_retry() && !transfer.is_complete() {
            let client = Client {
                session: self.session.clone(),
                transfer: None,
                failures: mem::take(&mut self.failures),
                began: self.began,
            };
            let mut why = describe(&options.address, &reason);
            if lost.bytes_out > 0 && lost.bytes_in == 0 {
                why += ", and nothing came back";
            }
            return client.reconnect(reactor, transfer, why);
        }
        let error = transfer.take_error(options, &reason);
        let exit = if error.is_none() { cli::DONE } else { cli::FAILURE };
        let outcome = self.session.outcome.clone();
        // If a write to stdout fails before this, that error is the outcome.
        transfer.finish(reactor, move |reactor| {
            outcome.set(exit, error);
            reactor.stop();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_100_ms_to_5_s() {
        for (attempt, whole) in [(0, 200), (1, 400), (4, 3200), (5, 5000), (1000, 5000)] {
            let delays: Vec<u128> = (0..50).map(|_| retry_delay(attempt).as_millis()).collect();
            assert!(delays.iter().all(|&delay| delay >= whole / 2 && delay <= whole), "{delays:?}");
            assert!(delays.iter().any(|&delay| delay != delays[0]), "there is no jitter: {delays:?}");
        }
    }
}
