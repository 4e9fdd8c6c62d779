//! The mistake that started it all: a read that blocks, in a callback.
//!
//! Look at `connection_made`: it reads stdin to its end and never returns to the loop meanwhile. Every
//! line is sent, every echo arrives in the kernel, and none is shown before the input ends. The cure is
//! in `protocol_client`.

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
            transport.write(format!("{line}\n").as_bytes()); // and the loop stands still
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
