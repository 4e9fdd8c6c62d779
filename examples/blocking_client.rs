//! A common mistake: a callback that blocks.
//!
//! Look at `connection_made`: it reads stdin to the end, and does not return to the loop before
//! that. No line is sent and no echo is shown until the input ends. `protocol_client` shows how to
//! avoid this.

use std::io::{self, BufRead, Write};
use std::process::{ExitCode, exit};

use echo_reactor::cli::run_example;
use echo_reactor::{
    CloseReason, ConnectOptions, ConnectionLost, Protocol, Reactor, Transport, create_connection,
};

struct Blocking;

impl Protocol for Blocking {
    fn connection_made(&mut self, transport: &mut Transport) {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            transport.write(format!("{line}\n").as_bytes()); // meanwhile, the loop is blocked
        }
        transport.write_eof();
    }

    fn data_received(&mut self, _: &mut Transport, data: &[u8]) {
        let _ = io::stdout().write_all(data);
    }

    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        eprintln!("{}", lost.reason);
        exit(i32::from(!matches!(lost.reason, CloseReason::Closed)));
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        create_connection(&mut reactor, &address.to_connect()?, &ConnectOptions::default(), Blocking);
        reactor.run()
    })
}
