//! The server's protocol: sends back what it receives, and stops reading from a peer that does not
//! read its echo. With `-v`, it logs when a connection begins, and when and why it ends. With
//! `-vv`, it also logs when it stops reading from a peer, and when it goes on.
//!
//! Read next: `console.rs`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::cli::counted;
use echo_reactor::{Address, CloseReason, ConnectionLost, Protocol, Reactor, Transport};

pub struct Echo {
    /// The number that identifies the connection for people: 1, 2, 3, ...
    pub number: u64,
    pub limits: Rc<Limits>,
    /// The process id of a Unix peer without a name.
    pub pid: Option<u32>,
    /// When the connection was established.
    pub since: Option<Instant>,
    pub ended_by: EndedBy,
}

/// The limits, which all connections share.
pub struct Limits {
    pub idle_timeout: Option<Duration>,
    pub high_water: usize,
}

/// The cause of the end of a connection. The initial value is [`EndedBy::Shutdown`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    Shutdown,
    Operator,
    /// The operator aborted it, while it was closing.
    OperatorAbort,
    Peer,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.since = Some(transport.reactor().now());
        let Limits { idle_timeout, high_water } = *self.limits;
        transport.set_write_marks(high_water, high_water / 4);
        transport.set_idle_timeout(idle_timeout);
        if transport.peer_addr().is_some_and(is_unnamed) {
            self.pid = transport.peer_pid();
        }
        log::info!("connection {} from {}", self.number, self.peer_name(transport.peer_addr()));
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn pause_writing(&mut self, transport: &mut Transport) {
        log::debug!("connection {}: reading is paused; unsent: {}", self.number, unsent(transport));
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        log::debug!("connection {}: reading is resumed; unsent: {}", self.number, unsent(transport));
        transport.resume_reading();
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        self.ended_by = EndedBy::Peer;
        transport.close();
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let ConnectionLost { peer, bytes_in, bytes_out, reason, .. } = lost;
        let Some(since) = self.since else { return }; // it was never established
        log::info!(
            "connection {} from {} ended after {:.3} s: {}; bytes: {bytes_in} in, {bytes_out} out",
            self.number,
            self.peer_name(peer.as_ref()),
            (reactor.now() - since).as_secs_f64(),
            describe(&reason, self.ended_by),
        );
    }
}

impl Echo {
    /// Returns the peer's name for messages. A Unix client seldom has an address, so its process id
    /// is shown instead.
    pub fn peer_name(&self, peer: Option<&Address>) -> String {
        match (peer, self.pid) {
            (Some(_), Some(pid)) => format!("unix:pid={pid}"),
            (Some(address), None) => address.to_string(),
            (None, _) => "?".into(),
        }
    }
}

/// Returns how much of the echo is buffered.
fn unsent(transport: &Transport) -> String {
    counted(transport.buffered() as u64, "byte")
}

fn is_unnamed(address: &Address) -> bool {
    matches!(address, Address::Unix(path) if path.as_os_str().is_empty())
}

/// Describes why a connection ended.
fn describe(reason: &CloseReason, ended_by: EndedBy) -> String {
    match (reason, ended_by) {
        (CloseReason::Closed, EndedBy::Peer) => "closed by the peer".into(),
        (CloseReason::Closed, EndedBy::Operator) => "closed by the operator".into(),
        (CloseReason::Closed, EndedBy::Shutdown) => "closed at shutdown".into(),
        (CloseReason::Aborted, EndedBy::OperatorAbort) => "aborted by the operator".into(),
        (CloseReason::Aborted, _) => "aborted at shutdown".into(),
        (other, _) => other.to_string(),
    }
}
