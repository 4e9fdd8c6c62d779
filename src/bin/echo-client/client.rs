//! The client's protocol: stdin to the server, what comes back to stdout, each held up by the other's
//! slowness and by nothing else.
//!
//! Invariant: every byte that arrived is handed to the display before the end is told, and the loop
//! stops only when it is written.
//!
//! Read next: `display.rs`.

use std::time::Duration;

use echo_reactor::cli::{self, AddressArgument, complain};
use echo_reactor::{Chunk, Flow, Handle, Mailbox, Plain, Protocol, Reactor, Reason, Taken, Transport};

use crate::display::Display;
use crate::options::Options;
use crate::{Ending, NAME};

/// How far stdin has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Going,
    /// Stdin has ended, and so has our side of the connection.
    Ended,
}

pub struct Client {
    stdin: Handle<Mailbox<Chunk>>,
    display: Display,
    server: AddressArgument,
    idle_timeout: Option<Duration>,
    ending: Ending,
    sending: Sending,
    sent: u64,
    received: u64,
}

impl Client {
    pub fn new(stdin: Handle<Mailbox<Chunk>>, display: Display, options: &Options, ending: Ending) -> Self {
        Client {
            stdin,
            display,
            server: options.address.clone(),
            idle_timeout: options.timeout,
            ending,
            sending: Sending::Going,
            sent: 0,
            received: 0,
        }
    }

    /// Takes from stdin what the connection takes.
    fn send(&mut self, transport: &mut Transport) {
        let id = transport.id();
        // Where it is full, resume_writing brings us back.
        while self.sending == Sending::Going && transport.flow() != Flow::Full {
            match self.stdin.take(transport.reactor(), id) {
                Taken::Item(Ok(bytes)) => {
                    self.sent += bytes.len() as u64;
                    self.display.line_entered(transport.reactor(), id);
                    transport.write(&bytes);
                }
                Taken::Item(Err(error)) => {
                    let complaint = format!("cannot read standard input: {}", Plain(&error));
                    self.ending.set(cli::FAILURE, Some(complaint));
                    transport.abort();
                    break;
                }
                Taken::Empty => break,
                Taken::Closed => {
                    self.sending = Sending::Ended;
                    transport.write_eof();
                }
            }
        }
    }

    /// What the end was like, in words, if it was not as it should be.
    fn complaint(&self, reason: &Reason) -> Option<String> {
        let server = &self.server;
        let complete = self.sending == Sending::Ended && self.received >= self.sent;
        let how = match reason {
            Reason::Unreachable(_) => return Some(format!("cannot connect to {reason}")),
            Reason::Closed | Reason::Lingered | Reason::Aborted if complete => return None,
            Reason::Closed | Reason::Lingered | Reason::Aborted if self.sending == Sending::Going => {
                format!("{server} closed the connection before the end of the input")
            }
            Reason::Closed | Reason::Lingered | Reason::Aborted => format!("{server} closed the connection"),
            Reason::Idle => {
                let limit = self.idle_timeout.unwrap_or_default();
                format!("no byte has moved to or from {server} for {limit:?}")
            }
            other => format!("lost the connection to {server}: {other}"),
        };
        let missing = self.sent.saturating_sub(self.received);
        Some(if missing == 0 {
            how
        } else {
            format!("{how}: {missing} of the {} bytes sent did not come back", self.sent)
        })
    }
}

/// Reads on, unless stdout is full: then it wakes us when it is not.
fn read_while_open(transport: &mut Transport, flow: Flow) {
    match flow {
        Flow::Full => transport.pause_reading(),
        Flow::Open | Flow::Closed => transport.resume_reading(),
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(self.idle_timeout);
        if self.display.is_interactive() {
            match transport.peer_addr() {
                Ok(peer) => complain(NAME, format_args!("connected to {peer}")),
                Err(error) => log::debug!("the peer is gone already: {error}"),
            }
        }
        let id = transport.id();
        self.display.prompt(transport.reactor(), id);
        self.send(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.received += data.len() as u64;
        let id = transport.id();
        let flow = self.display.show(transport.reactor(), id, data);
        read_while_open(transport, flow);
    }

    fn woken(&mut self, transport: &mut Transport) {
        self.send(transport);
        let id = transport.id();
        let flow = self.display.flow(transport.reactor(), id);
        read_while_open(transport, flow);
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        self.send(transport);
    }

    /// The server will not echo any more, so there is no point in sending on.
    fn eof_received(&mut self, transport: &mut Transport) {
        if self.sending == Sending::Going || transport.buffered() > 0 {
            transport.abort();
        } else {
            transport.close();
        }
    }

    fn connection_lost(&mut self, reactor: &mut Reactor, reason: Reason) {
        let complaint = self.complaint(&reason);
        let status = if complaint.is_none() { cli::DONE } else { cli::FAILURE };
        let ending = self.ending.clone();
        // Only now is it known what becomes of the bytes that stdout has yet to take.
        self.display.finish(reactor, move |reactor| {
            ending.set(status, complaint);
            reactor.stop();
        });
    }
}
