//! The protocol style, on the server's side: callbacks (asyncio: `create_server`).
//!
//! Look at what is not here: the original had no `pause_writing`, so a client that sent 200 MB and never read
//! cost it 200 MB. The default of `Protocol::pause_writing` stops reading from such a client.

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
