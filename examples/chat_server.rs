//! What comes from one goes to all the others.
//!
//! Look at `Flow::Full`: a chat cannot wait for its slowest reader, as an echo server can. So a slow
//! reader is dropped at its limit, and the others do not notice.

use std::process::ExitCode;

use echo_reactor::cli::run_example;
use echo_reactor::{Connection, Flow, ListenOptions, Protocol, Reactor, Transport, create_server};

/// How many bytes may be buffered for one guest.
const LIMIT: usize = 256 * 1024;

struct Guest;

impl Protocol for Guest {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_write_marks(LIMIT, LIMIT);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let reactor = transport.reactor();
        // The speaker is not among them, because it is running.
        for other in reactor.handles::<Connection<Guest>>() {
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
            create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), || Guest)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
