//! A key-value server, on callbacks: `set KEY VALUE`, `get KEY`, `del KEY`, a line each.
//!
//! Look at `answer`: it stops when the peer reads its answers too slowly, and `resume_writing` goes on. The
//! rest of the requests stays in `lines`, because a callback cannot wait.

mod kv_store;

use std::{process::ExitCode, time::Duration};

use echo_reactor::cli::run_example;
use echo_reactor::{Flow, LineBuffer, ListenOptions, Protocol, Reactor, Transport, create_server};

use kv_store::{LONGEST_LINE, Store, answer};

const TIMEOUT: Duration = Duration::from_secs(30);

struct Guest {
    store: Store,
    lines: LineBuffer,
}

impl Guest {
    /// Answers as many lines as the peer reads answers.
    fn answer(&mut self, transport: &mut Transport) {
        while transport.flow() != Flow::Full {
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    transport.write(answer(&self.store, &line).as_bytes());
                }
                Ok(None) => return transport.resume_reading(),
                Err(_) => {
                    transport.write(b"error: the line is too long\n");
                    return transport.close();
                }
            }
        }
    }
}

impl Protocol for Guest {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(TIMEOUT));
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.lines.push(data);
        self.answer(transport);
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        self.answer(transport);
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let store = Store::default();
        let guest = move || Guest { store: store.clone(), lines: LineBuffer::new(LONGEST_LINE) };
        let listener = create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), guest)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
