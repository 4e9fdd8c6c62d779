//! The server's protocol: sends back what it receives, and stops reading from a peer that does not
//! read its echo. With `-v`, it logs when a connection begins, and when and why it ends.
//!
//! Read next: `console.rs`.

use std::time::{Duration, Instant};

use echo_reactor::{Address, CloseReason, ConnectionLost, Protocol, Reactor, Transport};

pub struct Echo {
    /// The number that identifies the connection for people: 1, 2, 3, ...
    pub number: u64,
    pub idle_timeout: Option<Duration>,
    pub high_water: usize,
    /// The peer's name in messages. Empty until the connection is established.
    pub peer: String,
    /// When the connection was established.
    pub since: Option<Instant>,
    pub ended_by: EndedBy,
}

/// What ended a connection first. The default is the server's shutdown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    Shutdown,
    Operator,
    Peer,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.since = Some(transport.reactor().now());
        transport.set_write_marks(self.high_water, self.high_water / 4);
        transport.set_idle_timeout(self.idle_timeout);
        self.peer = peer_name(transport);
        log::info!("connection {} from {}", self.number, self.peer);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        self.ended_by = EndedBy::Peer;
        transport.close();
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let ConnectionLost { bytes_in, bytes_out, reason, .. } = lost;
        let Some(since) = self.since else { return }; // it was never established
        log::info!(
            "connection {} from {} ended after {:.3} s: {}; bytes: {bytes_in} in, {bytes_out} out",
            self.number,
            self.peer,
            (reactor.now() - since).as_secs_f64(),
            describe(&reason, self.ended_by),
        );
    }
}

/// Returns the address of the peer. A Unix client seldom has one, so its process id is shown
/// instead.
fn peer_name(transport: &Transport) -> String {
    match transport.peer_addr() {
        Some(Address::Unix(path)) if path.as_os_str().is_empty() => {
            transport.peer_pid().map_or_else(|| "unix:".into(), |pid| format!("unix:pid={pid}"))
        }
        Some(address) => address.to_string(),
        None => "?".into(),
    }
}

/// Describes why a connection ended.
fn describe(reason: &CloseReason, ended_by: EndedBy) -> String {
    match (reason, ended_by) {
        (CloseReason::Closed, EndedBy::Peer) => "closed by the peer".into(),
        (CloseReason::Closed, EndedBy::Operator) => "closed by the operator".into(),
        (CloseReason::Closed, EndedBy::Shutdown) => "closed at shutdown".into(),
        (CloseReason::Aborted, EndedBy::Operator) => "aborted by the operator".into(),
        (CloseReason::Aborted, _) => "aborted at shutdown".into(),
        (other, _) => other.to_string(),
    }
}
