//! A server in the protocol style: callbacks (asyncio: `create_server`).
//!
//! Look for backpressure: there is no code for it. The default `Protocol::pause_writing` stops
//! reading from a client that does not read its echo. In asyncio, such a client makes the server
//! buffer everything it sends, unless you write `pause_writing` yourself.

use std::process::ExitCode;

use echo_reactor::cli::run_example;
use echo_reactor::{ListenOptions, Protocol, Reactor, Transport, create_server};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let listener =
            create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), || Echo)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
