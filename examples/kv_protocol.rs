//! A key-value server in the protocol style. Each line is a request: `set KEY VALUE`, `get KEY` or
//! `del KEY`.
//!
//! Look at `answer_lines`: it stops while the peer reads its answers too slowly, and
//! `resume_writing` continues. The other requests stay in `lines`, because a callback cannot wait.

mod kv_store;

use std::{process::ExitCode, time::Duration};

use echo_reactor::cli::run_example;
use echo_reactor::{Flow, LineBuffer, ListenOptions, Protocol, Reactor, Transport, create_server};

use kv_store::{MAX_LINE_LENGTH, Store, answer};

const TIMEOUT: Duration = Duration::from_secs(30);

struct Client {
    store: Store,
    lines: LineBuffer,
}

impl Client {
    /// Answers requests until the peer's write buffer is full.
    fn answer_lines(&mut self, transport: &mut Transport) {
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

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(TIMEOUT));
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.lines.push(data);
        self.answer_lines(transport);
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        self.answer_lines(transport);
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let store = Store::default();
        let client = move || Client { store: store.clone(), lines: LineBuffer::new(MAX_LINE_LENGTH) };
        let listener = create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), client)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
