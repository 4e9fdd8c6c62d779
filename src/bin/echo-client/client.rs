//! The client's protocol: a transfer on a connection, and what becomes of it when that ends.
//!
//! Invariant: there is one transfer, and at most one connection that has it.
//!
//! Read next: `transfer.rs`.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use echo_reactor::cli;
use echo_reactor::{Address, CloseReason, ConnectionLost, Protocol, Reactor, Transport, create_connection};

use crate::Ending;
use crate::options::Options;
use crate::transfer::Transfer;

/// How long until the next attempt: first, and at most.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// What stays the same from one connection to the next.
pub struct Plan {
    pub options: Options,
    pub addresses: Vec<Address>,
    pub ending: Ending,
}

pub struct Client {
    plan: Rc<Plan>,
    /// Leaves when the connection ends.
    transfer: Option<Box<Transfer>>,
    /// Attempts since a byte last came back.
    attempt: u32,
    connected: bool,
}

impl Client {
    /// Connects, and does the transfer.
    pub fn connect(reactor: &mut Reactor, plan: Rc<Plan>, transfer: Box<Transfer>, attempt: u32) {
        let (addresses, options) = (plan.addresses.clone(), plan.options.connect.clone());
        let client = Client { plan, transfer: Some(transfer), attempt, connected: false };
        create_connection(reactor, &addresses, &options, client);
    }

    fn connect_again(self, reactor: &mut Reactor, transfer: Box<Transfer>, reason: &CloseReason) {
        let delay = delay_before(self.attempt);
        let server = &self.plan.options.address;
        let what = match reason {
            CloseReason::Closed | CloseReason::Aborted | CloseReason::LingerTimeout => {
                format!("{server} closed the connection")
            }
            CloseReason::Unreachable(_) => format!("cannot connect to {reason}"),
            other => format!("lost the connection to {server}: {other}"),
        };
        let text = format!("{what}; connecting again in {} ms", delay.as_millis());
        if self.connected || self.attempt == 0 {
            log::warn!("{text}");
        } else {
            log::info!("{text}");
        }
        let Client { plan, attempt, .. } = self;
        reactor.call_later(delay, move |reactor| Client::connect(reactor, plan, transfer, attempt + 1));
    }
}

/// Exponential, with jitter: many clients of one server do not come back at the same moment.
fn delay_before(attempt: u32) -> Duration {
    let whole = FIRST_DELAY.saturating_mul(1 << attempt.min(16)).min(LAST_DELAY);
    let random = u32::try_from(RandomState::new().hash_one(attempt) >> 32).unwrap_or(0);
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.connected = true;
        transport.set_idle_timeout(self.plan.options.timeout);
        if let Some(transfer) = &mut self.transfer {
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
        if let Some(transfer) = &mut self.transfer {
            transfer.server_ended(transport);
        }
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
                connected: self.connected,
            };
            return client.connect_again(reactor, transfer, &reason);
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
