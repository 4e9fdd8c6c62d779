//! The server's protocol: echoes what it receives, and stops reading from a peer that does not read its
//! echo.
//!
//! Read next: `console.rs`.

use std::time::{Duration, Instant};

use echo_reactor::{ConnectionLost, Protocol, Reactor, Transport};

#[derive(Clone, Copy)]
pub struct Echo {
    pub idle_timeout: Option<Duration>,
    pub high_water: usize,
    /// When the connection was made.
    pub since: Option<Instant>,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.since = Some(transport.reactor().now());
        transport.set_write_marks(self.high_water, self.high_water / 4);
        transport.set_idle_timeout(self.idle_timeout);
        if let Some(peer) = transport.peer_addr() {
            log::info!("connection {} from {peer}", transport.id());
        }
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        let ConnectionLost { id, bytes_in, bytes_out, reason, .. } = lost;
        log::info!("connection {id} ended: {reason}; {bytes_in} bytes in, {bytes_out} out");
    }
}
