//! A chat server: sends what it receives from one client to all the others.
//!
//! Look at `Flow::Full`: a chat cannot wait for its slowest reader, as an echo server can. So it
//! disconnects a client whose write buffer is full. The others are not delayed.

use std::process::ExitCode;

use echo_reactor::cli::run_example;
use echo_reactor::{Connection, Flow, ListenOptions, Protocol, Reactor, Transport, create_server};

/// The maximum size of a client's write buffer in bytes.
const MAX_BUFFERED: usize = 256 * 1024;

struct Client;

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_write_marks(MAX_BUFFERED, MAX_BUFFERED);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let reactor = transport.reactor();
        // The sender is not among the handles, because its source is running.
        for other in reactor.handles::<Connection<Client>>() {
            let _ = other.enter(reactor, |_, transport| {
                if transport.write(data) == Flow::Full {
                    transport.abort();
                }
            });
        }
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let listener =
            create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), || Client)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
