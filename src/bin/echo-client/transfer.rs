//! The work: stdin to the server, what comes back to stdout, each held up by the other's slowness and by
//! nothing else.
//!
//! Invariant: every byte that arrived is handed to the display before the end is told. A transfer
//! belongs to no connection; with `--reconnect` it moves from one to the next.
//!
//! Read next: `window.rs`, `display.rs`.

use std::cell::Cell;
use std::rc::Rc;

use echo_reactor::cli::{ErrorText, report};
use echo_reactor::{Chunk, CloseReason, Flow, Handle, Mailbox, Reactor, Transport, TryRecv};

use crate::NAME;
use crate::display::Display;
use crate::options::Options;
use crate::window::{Difference, Window};

/// How far stdin has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stdin {
    Open,
    Ended,
}

/// Bytes that have moved so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Taken from stdin.
    pub sent: u64,
    /// Come back.
    pub received: u64,
}

pub struct Transfer {
    from: Handle<Mailbox<Chunk>>,
    stdin: Stdin,
    pub display: Display,
    /// With `--check` and `--reconnect`: what has not come back.
    window: Option<Window>,
    moved: Rc<Cell<Moved>>,
    /// Why it cannot go on, whatever the network does.
    failure: Option<String>,
}

impl Transfer {
    pub fn new(from: Handle<Mailbox<Chunk>>, display: Display, keeps: bool, moved: Rc<Cell<Moved>>) -> Self {
        let window = keeps.then(Window::default);
        Transfer { from, stdin: Stdin::Open, display, window, moved, failure: None }
    }

    /// A connection stands: whatever has not come back is sent, again if need be.
    pub fn begin(&mut self, transport: &mut Transport) {
        if let Some(window) = &mut self.window {
            window.rewind();
        }
        self.send(transport);
    }

    /// Sends what the connection takes. Where it is full, `resume_writing` brings us back; where the
    /// window is, the next echo does.
    pub fn send(&mut self, transport: &mut Transport) {
        while transport.flow() == Flow::Open && self.failure.is_none() {
            if let Some(window) = &mut self.window {
                let piece = window.next_piece();
                if !piece.is_empty() {
                    transport.write(piece);
                    continue;
                }
            }
            if self.stdin == Stdin::Ended {
                transport.write_eof();
                break;
            }
            if self.window.as_ref().is_some_and(|window| !window.has_room()) {
                break;
            }
            if !self.take_chunk(transport) {
                break;
            }
        }
    }

    /// Takes a chunk from stdin. `false`: there is none yet.
    fn take_chunk(&mut self, transport: &mut Transport) -> bool {
        let id = transport.id();
        match self.from.try_recv(transport.reactor(), id) {
            TryRecv::Item(Ok(bytes)) => {
                let Moved { sent, received } = self.moved.get();
                self.moved.set(Moved { sent: sent + bytes.len() as u64, received });
                self.display.line_entered(transport.reactor(), id);
                match &mut self.window {
                    Some(window) => window.push(&bytes),
                    None => drop(transport.write(&bytes)),
                }
                true
            }
            TryRecv::Item(Err(error)) => {
                self.fail(format!("cannot read standard input: {}", ErrorText(&error)), transport);
                true
            }
            TryRecv::Closed => {
                self.stdin = Stdin::Ended;
                true
            }
            TryRecv::Empty => false,
        }
    }

    pub fn receive(&mut self, transport: &mut Transport, data: &[u8]) {
        let Moved { sent, received } = self.moved.get();
        let (right, difference) = match &mut self.window {
            Some(window) => window.take_echo(data),
            None => (data.len(), None),
        };
        let offset = received + right as u64;
        self.moved.set(Moved { sent, received: offset });
        let id = transport.id();
        let flow = self.display.show(transport.reactor(), id, &data[..right]);
        read_while_open(transport, flow);
        match difference {
            Some(Difference::Changed { sent, received }) => self.fail(
                format!("the echo differs at offset {offset}: sent {sent:#04x}, received {received:#04x}"),
                transport,
            ),
            Some(Difference::Surplus { received }) => {
                self.fail(
                    format!("the echo has a surplus byte at offset {offset}: {received:#04x}"),
                    transport,
                );
            }
            None if self.window.is_some() => self.send(transport),
            None => {}
        }
    }

    /// Stdin has something, or stdout has room.
    pub fn woken(&mut self, transport: &mut Transport) {
        self.send(transport);
        let id = transport.id();
        let flow = self.display.flow(transport.reactor(), id);
        read_while_open(transport, flow);
    }

    fn fail(&mut self, why: String, transport: &mut Transport) {
        self.failure = Some(why);
        transport.abort();
    }

    pub fn greet(&mut self, transport: &mut Transport) {
        if self.display.is_interactive()
            && let Some(peer) = transport.peer_addr()
        {
            report(NAME, format_args!("connected to {peer}"));
        }
        let id = transport.id();
        self.display.prompt(transport.reactor(), id);
    }

    /// Whether all that was to be done is done.
    pub fn is_complete(&self) -> bool {
        let Moved { sent, received } = self.moved.get();
        self.stdin == Stdin::Ended && self.failure.is_none() && received >= sent
    }

    /// Whether another connection could get it on.
    pub fn is_mendable(&self) -> bool {
        self.failure.is_none()
    }

    /// What the end was like, in words, if it was not as it should be.
    pub fn complaint(&mut self, options: &Options, reason: &CloseReason) -> Option<String> {
        if let Some(failure) = self.failure.take() {
            return Some(failure);
        }
        let server = &options.address;
        let how = match reason {
            CloseReason::Unreachable(_) => return Some(format!("cannot connect to {reason}")),
            CloseReason::Closed | CloseReason::LingerTimeout | CloseReason::Aborted if self.is_complete() => {
                return None;
            }
            CloseReason::Closed | CloseReason::LingerTimeout | CloseReason::Aborted
                if self.stdin == Stdin::Open =>
            {
                format!("{server} closed the connection before the end of the input")
            }
            CloseReason::Closed | CloseReason::LingerTimeout | CloseReason::Aborted => {
                format!("{server} closed the connection")
            }
            CloseReason::IdleTimeout => {
                let limit = options.timeout.unwrap_or_default();
                format!("no byte has moved to or from {server} for {limit:?}")
            }
            other => format!("lost the connection to {server}: {other}"),
        };
        let Moved { sent, received } = self.moved.get();
        let missing = sent.saturating_sub(received);
        Some(match (missing, &self.window) {
            (0, _) => how,
            (_, None) => format!("{how}: {missing} of the {sent} bytes sent did not come back"),
            (_, Some(_)) => {
                format!(
                    "{how}: the echo ends at offset {received}, {missing} of the {sent} bytes sent are missing"
                )
            }
        })
    }

    /// Calls `f` when all that came is on stdout.
    pub fn finish(&mut self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        self.display.finish(reactor, f);
    }
}

/// Reads on, unless stdout is full: then it wakes us when it is not.
fn read_while_open(transport: &mut Transport, flow: Flow) {
    match flow {
        Flow::Full => transport.pause_reading(),
        Flow::Open | Flow::Closed => transport.resume_reading(),
    }
}
