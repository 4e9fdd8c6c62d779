//! Exercise 10: a protocol for lines.
//!
//! Answer each line in capital letters. A line may come in any pieces, and a piece may have several
//! lines. A peer may end its side and go on reading. It gets all answers, also the one to a last line
//! without a newline, whose answer has none either. Answer `too long\n` to a line of more than
//! `LIMIT` bytes (with its newline), and nothing after it. Then end the connection, so that the peer
//! gets every answer. No peer may make `rest` grow without limit.
//! The types that you need are in `checks/ex10_protocol.rs`. You may read it.
//!
//!     cargo test --test exercises ex10_protocol -- --ignored

use echo_reactor::{Protocol, Transport};

use crate::checks::ex10_protocol::LIMIT;

#[derive(Default)]
pub struct Shout {
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Protocol for Shout {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        todo!("`transport.write` keeps what the kernel does not take, and `transport.close` sends it first")
    }

    fn eof_received(&mut self, transport: &mut Transport) {
        todo!()
    }
}
