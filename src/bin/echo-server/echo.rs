//! The server's protocol: what comes goes back, and who does not take it back is not read from.
//!
//! Read next: `console.rs`.

use std::time::{Duration, Instant};

use echo_reactor::{Protocol, Reactor, Reason, Transport};

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
        if log::log_enabled!(log::Level::Info)
            && let Ok(peer) = transport.peer_addr()
        {
            log::info!("connection {} from {peer}", transport.id());
        }
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn pause_writing(&mut self, transport: &mut Transport) {
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }

    fn connection_lost(&mut self, _: &mut Reactor, reason: Reason) {
        log::info!("a connection ended: {reason}");
    }
}
