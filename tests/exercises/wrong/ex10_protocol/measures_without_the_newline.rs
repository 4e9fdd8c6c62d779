//! Mistake: the newline is not counted, so a line may be one byte longer than the limit.
//! Verdict: after a line that is one byte longer than the limit, the peer got

use echo_reactor::{Protocol, Transport};

use crate::checks::ex10_protocol::LIMIT;

#[derive(Default)]
pub struct Shout {
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Protocol for Shout {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.rest.extend_from_slice(data);
        while let Some(at) = self.rest.iter().take(LIMIT + 1).position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=at).collect();
            transport.write(&line.to_ascii_uppercase());
        }
        if self.rest.len() > LIMIT {
            transport.write(b"too long\n");
            transport.close();
        }
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        transport.write(&self.rest.to_ascii_uppercase());
        transport.close();
    }
}
