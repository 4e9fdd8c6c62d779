//! Mistake: each piece is taken for a line.
//! Verdict: after `t`, the peer got `T`, not ``

use echo_reactor::{Protocol, Transport};

use crate::checks::ex10_protocol::LIMIT;

#[derive(Default)]
pub struct Shout {
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Protocol for Shout {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        if data.len() > LIMIT {
            transport.write(b"too long\n");
            return transport.close();
        }
        transport.write(&data.to_ascii_uppercase());
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        transport.write(&self.rest.to_ascii_uppercase());
        transport.close();
    }
}
