//! The server's protocol: echoes what it receives, and stops reading from a peer that does not read its
//! echo. With `-v` it logs when a connection begins, and when and why it ends.
//!
//! Read next: `console.rs`.

use std::fmt;
use std::time::{Duration, Instant};

use echo_reactor::{Address, CloseReason, ConnectionLost, Protocol, Reactor, Transport};

pub struct Echo {
    /// 1, 2, 3, ...: what people call the connection.
    pub number: u64,
    pub idle_timeout: Option<Duration>,
    pub high_water: usize,
    /// The peer as it is shown. Empty until the connection is made.
    pub peer: String,
    /// When the connection was made.
    pub since: Option<Instant>,
    /// Who ended it first.
    pub ended_by: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Server,
    Operator,
    Peer,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.since = Some(transport.reactor().now());
        transport.set_write_marks(self.high_water, self.high_water / 4);
        transport.set_idle_timeout(self.idle_timeout);
        self.peer = name(transport);
        log::info!("connection {} from {}", self.number, self.peer);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        self.ended_by = End::Peer;
        transport.close();
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let ConnectionLost { bytes_in, bytes_out, reason, .. } = lost;
        let lasted = self.since.map_or(Duration::ZERO, |since| reactor.now() - since);
        log::info!(
            "connection {} from {} ended after {:.3} s: {}; bytes: {bytes_in} in, {bytes_out} out",
            self.number,
            self.peer,
            lasted.as_secs_f64(),
            Why { reason, ended_by: self.ended_by },
        );
    }
}

/// The address of the peer. A Unix socket seldom has one, so its process takes the place of the address.
fn name(transport: &Transport) -> String {
    match (transport.peer_addr(), transport.peer_pid()) {
        (Some(Address::Unix(path)), Some(pid)) if path.as_os_str().is_empty() => format!("unix:pid={pid}"),
        (Some(address), _) => address.to_string(),
        (None, _) => "?".into(),
    }
}

/// Why a connection ended.
struct Why {
    reason: CloseReason,
    ended_by: End,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.reason, self.ended_by) {
            (CloseReason::Closed, End::Peer) => "closed by the peer",
            (CloseReason::Closed, End::Operator) => "closed by the operator",
            (CloseReason::Closed, End::Server) => "closed at shutdown",
            (CloseReason::Aborted, End::Operator) => "cut off by the operator",
            (CloseReason::Aborted, _) => "cut off at shutdown",
            (other, _) => return write!(f, "{other}"),
        })
    }
}
