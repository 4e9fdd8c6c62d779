//! The protocol style, on the server's side: callbacks (asyncio: `create_server`).
//!
//! Look at `pause_writing`: the original had none, so a client that sent 200 MB and never read cost it
//! 200 MB. Six lines later such a client is simply not read from any more.

use std::io;

use echo_reactor::cli::address_argument;
use echo_reactor::{Listener, Protocol, Reactor, Serve, Transport, create_server};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn pause_writing(&mut self, transport: &mut Transport) {
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }
}

fn main() -> io::Result<()> {
    let addresses = address_argument()?.to_listen()?;
    let mut reactor = Reactor::new()?;
    let listener = create_server(&mut reactor, &addresses, &Serve::default(), || Echo)?;
    println!("listening on {}", Listener::addresses(&mut reactor, listener)[0]);
    reactor.run()
}
