//! The client's protocol: a transfer on a connection, and what becomes of it when that ends.
//!
//! Invariant: there is one transfer, and at most one connection that has it.
//!
//! Read next: `transfer.rs`.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::cli::{self, AddressArgument, ErrorText};
use echo_reactor::{Address, CloseReason, ConnectionLost, Protocol, Reactor, Transport, create_connection};
use log::Level;

use crate::Ending;
use crate::options::Options;
use crate::transfer::Transfer;

/// The delay before the next attempt is random, between half of this and all of it. It doubles with each
/// attempt.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// How long a server may hold up the end of its connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What stays the same from one connection to the next.
pub struct Plan {
    pub options: Options,
    pub ending: Ending,
}

pub struct Client {
    plan: Rc<Plan>,
    /// Leaves when the connection ends.
    transfer: Option<Box<Transfer>>,
    /// Attempts since a byte last came back.
    attempt: u32,
    /// When this attempt began.
    began: Instant,
    connected: bool,
}

impl Client {
    /// Connects to one of `addresses`, and does the transfer. With `--reconnect`, a failed lookup of
    /// the name is a failed attempt.
    pub fn connect(
        reactor: &mut Reactor,
        plan: Rc<Plan>,
        transfer: Box<Transfer>,
        attempt: u32,
        addresses: io::Result<Vec<Address>>,
    ) {
        let options = plan.options.connect.clone();
        let began = Instant::now();
        let mut client = Client { plan, transfer: None, attempt, began, connected: false };
        match addresses {
            Ok(addresses) => {
                client.transfer = Some(transfer);
                create_connection(reactor, &addresses, &options, client);
            }
            Err(error) => client.connect_again(reactor, transfer, &ErrorText(&error)),
        }
    }

    /// Connects again later. The name is looked up again, because the server may have moved.
    fn connect_again(self, reactor: &mut Reactor, transfer: Box<Transfer>, why: &dyn Display) {
        let delay = delay_before(self.attempt);
        let level = if self.connected || self.attempt == 0 { Level::Warn } else { Level::Info };
        log::log!(level, "{why}; connecting again in {} ms", delay.as_millis());
        let Client { plan, attempt, .. } = self;
        reactor.call_later(delay, move |reactor| {
            let address = plan.options.address.clone();
            cli::look_up(reactor, &address, move |reactor, addresses| {
                Client::connect(reactor, plan, transfer, attempt.saturating_add(1), addresses);
            });
        });
    }
}

/// Ends a connection without a reset, unless the server takes nothing of what is buffered, or does not end
/// its side.
pub fn close_in_order(transport: &mut Transport) {
    transport.set_idle_timeout(Some(CLOSE_TIMEOUT));
    transport.close();
}

/// Logs both ends of a new connection, and how long the connect took.
pub fn log_connected(transport: &Transport, took: Duration) {
    let Some(peer) = transport.peer_addr() else { return };
    let from = match transport.local_addr() {
        Ok(Address::Tcp(local)) => format!(" from {local}"),
        _ => String::new(), // our end of a Unix socket has no name
    };
    log::info!("connected to {peer}{from} in {:.3} ms", took.as_secs_f64() * 1e3);
}

/// What ended a connection, for a person.
pub fn describe(server: &AddressArgument, reason: &CloseReason) -> String {
    match reason {
        CloseReason::Closed | CloseReason::Aborted | CloseReason::LingerTimeout => {
            format!("{server} closed the connection")
        }
        CloseReason::Unreachable(_) => format!("cannot connect to {reason}"),
        other => format!("lost the connection to {server}: {other}"),
    }
}

/// Exponential backoff with jitter, so that many clients of one server do not come back at the same
/// moment: 100 to 200 ms at first, 2.5 to 5 s in the end.
pub fn delay_before(attempt: u32) -> Duration {
    let whole = FIRST_DELAY.saturating_mul(1 << attempt.min(16)).min(MAX_DELAY);
    let random = u32::try_from(RandomState::new().hash_one(attempt) >> 32).unwrap_or(0);
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.connected = true;
        transport.set_idle_timeout(self.plan.options.timeout);
        if let Some(transfer) = &mut self.transfer {
            if !transfer.display.is_interactive() {
                log_connected(transport, self.began.elapsed()); // a terminal shows the greeting
            }
            transfer.greet(transport);
            transfer.begin(transport);
        }
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.attempt = 0;
        if let Some(transfer) = &mut self.transfer {
            transfer.receive(transport, data);
        }
    }

    fn woken(&mut self, transport: &mut Transport) {
        if let Some(transfer) = &mut self.transfer {
            transfer.woken(transport);
        }
    }

    /// Reading goes on: an echo server stops reading while its echo is not read.
    fn pause_writing(&mut self, _: &mut Transport) {}

    fn resume_writing(&mut self, transport: &mut Transport) {
        if let Some(transfer) = &mut self.transfer {
            transfer.send(transport);
        }
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        close_in_order(transport);
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let reason = lost.reason;
        let Some(mut transfer) = self.transfer.take() else { return };
        let options = &self.plan.options;
        if options.reconnect && transfer.is_mendable() && !transfer.is_complete() {
            let client = Client {
                plan: self.plan.clone(),
                transfer: None,
                attempt: self.attempt,
                began: self.began,
                connected: self.connected,
            };
            let why = describe(&self.plan.options.address, &reason);
            return client.connect_again(reactor, transfer, &why);
        }
        let complaint = if options.reconnect && transfer.is_complete() {
            None // whatever became of the connection after that
        } else {
            transfer.complaint(options, &reason)
        };
        let status = if complaint.is_none() { cli::DONE } else { cli::FAILURE };
        let ending = self.plan.ending.clone();
        // Only now is it known what becomes of the bytes that stdout has yet to take.
        transfer.finish(reactor, move |reactor| {
            ending.set(status, complaint);
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
            let delays: Vec<u128> = (0..50).map(|_| delay_before(attempt).as_millis()).collect();
            assert!(delays.iter().all(|&delay| delay >= whole / 2 && delay <= whole), "{delays:?}");
            assert!(delays.iter().any(|&delay| delay != delays[0]), "there is no jitter: {delays:?}");
        }
    }
}
