//! A client in the protocol style: stdin reaches the connection through a mailbox (asyncio:
//! `add_reader(sys.stdin)`, a `Queue`, and `create_connection`).
//!
//! Look at `woken`: stdin puts lines into the mailbox, and the mailbox wakes the connection. When
//! the connection or stdout is full, the client stops taking lines or reading: that is
//! backpressure.

use std::io;
use std::process::{ExitCode, exit};

use echo_reactor::cli::run_example;
use echo_reactor::{
    Chunk, CloseReason, ConnectOptions, ConnectionLost, Flow, Framing, Handle, Input, Mailbox, Output,
    Protocol, Reactor, Transport, TryRecv, create_connection,
};

struct Client {
    lines: Handle<Mailbox<Chunk>>,
    stdout: Handle<Output>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.woken(transport);
    }

    fn woken(&mut self, transport: &mut Transport) {
        let id = transport.id();
        while transport.flow() == Flow::Open {
            match self.lines.try_recv(transport.reactor(), id) {
                TryRecv::Item(Ok(line)) => drop(transport.write(&line)),
                TryRecv::Item(Err(_)) | TryRecv::Closed => transport.write_eof(),
                TryRecv::Empty => break,
            }
        }
        if self.stdout.flow(transport.reactor(), id) == Flow::Open {
            transport.resume_reading();
        }
    }

    /// Keeps reading. Otherwise, both ends could wait for each other.
    fn pause_writing(&mut self, _: &mut Transport) {}

    fn resume_writing(&mut self, transport: &mut Transport) {
        self.woken(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let id = transport.id();
        if self.stdout.write(transport.reactor(), id, data) == Flow::Full {
            transport.pause_reading(); // stdout wakes this connection when it has room
        }
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        eprintln!("{}", lost.reason);
        let status = i32::from(!matches!(lost.reason, CloseReason::Closed));
        self.stdout.on_flushed(reactor, move |_| exit(status));
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let lines = Mailbox::new(&mut reactor, 16);
        Input::open(&mut reactor, &io::stdin(), Framing::Lines, lines)?;
        let stdout = Output::open(&mut reactor, &io::stdout(), |reactor, _| reactor.stop())?;
        create_connection(
            &mut reactor,
            &address.to_connect()?,
            &ConnectOptions::default(),
            Client { lines, stdout },
        );
        reactor.run()
    })
}
