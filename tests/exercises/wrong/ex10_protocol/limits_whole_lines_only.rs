//! Mistake: a line is measured when its newline has come.
//! Verdict: 64 KiB have come without a newline, and the protocol waits for more

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
        while let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=at).collect();
            if line.len() > LIMIT {
                transport.write(b"too long\n");
                return transport.close();
            }
            transport.write(&line.to_ascii_uppercase());
        }
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        transport.write(&self.rest.to_ascii_uppercase());
        transport.close();
    }
}
