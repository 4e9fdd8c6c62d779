//! The transfer: stdin to the server, and what the server sends to the display.
//!
//! Invariant: every byte that arrived is handed to the display before the end is reported. A transfer
//! belongs to no connection; with `--reconnect` it moves from one to the next.
//!
//! Read next: `window.rs`, `display.rs`.

use std::rc::Rc;

use echo_reactor::cli::{ErrorText, report};
use echo_reactor::{Chunk, CloseReason, Flow, Handle, Mailbox, Reactor, Transport, TryRecv};

use crate::NAME;
use crate::display::Display;
use crate::options::Options;
use crate::progress::{ByteCounts, Progress};
use crate::window::{Difference, Window};

/// Whether stdin has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stdin {
    Open,
    Ended,
}

pub struct Transfer {
    from: Handle<Mailbox<Chunk>>,
    stdin: Stdin,
    pub display: Display,
    /// With `--check` and `--reconnect`: the bytes whose echo has not arrived.
    window: Option<Window>,
    progress: Rc<Progress>,
    /// Why the transfer cannot go on, on any connection.
    failure: Option<String>,
}

impl Transfer {
    pub fn new(from: Handle<Mailbox<Chunk>>, display: Display, keeps: bool, progress: Rc<Progress>) -> Self {
        let window = keeps.then(Window::default);
        Transfer { from, stdin: Stdin::Open, display, window, progress, failure: None }
    }

    /// Begins on a new connection. Bytes whose echo has not arrived are sent again.
    pub fn begin(&mut self, transport: &mut Transport) {
        if let Some(window) = &mut self.window {
            window.rewind();
        }
        self.send(transport);
    }

    /// Sends as much as the connection takes. If the connection is full, `resume_writing` calls this
    /// again; if the window is full, the next echo does.
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

    /// Takes a chunk from stdin. Returns `false` if there is none yet.
    fn take_chunk(&mut self, transport: &mut Transport) -> bool {
        let id = transport.id();
        match self.from.try_recv(transport.reactor(), id) {
            TryRecv::Item(Ok(bytes)) => {
                self.progress.add(transport.reactor(), bytes.len(), 0);
                if bytes.ends_with(b"\n") {
                    self.display.leave_prompt();
                }
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
            TryRecv::Empty => {
                self.display.prompt(transport.reactor(), id);
                false
            }
        }
    }

    pub fn receive(&mut self, transport: &mut Transport, data: &[u8]) {
        let (right, difference) = match &mut self.window {
            Some(window) => window.take_echo(data),
            None => (data.len(), None),
        };
        self.progress.add(transport.reactor(), 0, right);
        let offset = self.progress.counts().received;
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

    /// Called when stdin has something, or stdout has room.
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
    }

    /// Returns whether all of stdin was sent and came back.
    pub fn is_complete(&self) -> bool {
        let ByteCounts { sent, received } = self.progress.counts();
        self.stdin == Stdin::Ended && self.failure.is_none() && received >= sent
    }

    /// Returns whether another connection could continue it.
    pub fn is_mendable(&self) -> bool {
        self.failure.is_none()
    }

    /// Describes the end, if it is a failure.
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
        let ByteCounts { sent, received } = self.progress.counts();
        let missing = sent.saturating_sub(received);
        Some(match (missing, &self.window) {
            (0, _) if sent == 0 => format!("{how}; nothing was sent"),
            (0, _) => format!("{how}; all that was sent has come back ({sent} B)"),
            (_, None) => format!("{how}: {missing} of the {sent} bytes sent did not come back"),
            (_, Some(_)) => {
                format!(
                    "{how}: the echo ends at offset {received}, {missing} of the {sent} bytes sent are missing"
                )
            }
        })
    }

    /// Calls `f` when every byte that arrived is on stdout.
    pub fn finish(&mut self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        self.display.finish(reactor, f);
    }
}

/// Pauses reading while stdout is full. Stdout wakes us when it has room.
fn read_while_open(transport: &mut Transport, flow: Flow) {
    match flow {
        Flow::Full => transport.pause_reading(),
        Flow::Open | Flow::Closed => transport.resume_reading(),
    }
}
