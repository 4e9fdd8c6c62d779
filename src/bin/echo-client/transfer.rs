//! The transfer: from stdin to the server, and from the server to the display.
//!
//! Invariant: every received byte is passed to the display before the end is reported. A transfer
//! outlives its connection: with `--reconnect`, it moves to the next one.
//!
//! Read next: `window.rs`, `../../cli/display.rs`.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use echo_reactor::cli::{Display, ErrorText, counted};
use echo_reactor::{Chunk, CloseReason, Flow, Handle, Mailbox, Reactor, Transport, TryRecv};

use crate::options::Options;
use crate::progress::{ByteCounts, Progress};
use crate::window::{Difference, Window};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stdin {
    Open,
    /// It waits until the server has read or echoed more.
    Paused,
    Ended,
}

pub struct Transfer {
    chunks: Handle<Mailbox<Chunk>>,
    stdin: Stdin,
    pub display: Display,
    /// Whether the echo is shown: not with `--check`.
    shows_echo: bool,
    /// With `--check` or `--reconnect`: the bytes whose echo has not arrived yet.
    window: Option<Window>,
    /// How long no byte may move while the server has something to do.
    timeout: Option<Duration>,
    /// With `--reconnect`: whether the timeout is set only while an echo or the end is outstanding.
    /// Otherwise an idle session would reconnect again and again.
    may_be_idle: bool,
    /// Whether reading is paused because stdout is full.
    stdout_is_full: bool,
    progress: Rc<Progress>,
    /// An error after which no connection can continue the transfer.
    fatal_error: Option<String>,
}

impl Transfer {
    pub fn new(
        chunks: Handle<Mailbox<Chunk>>,
        display: Display,
        options: &Options,
        progress: Rc<Progress>,
    ) -> Self {
        let window = (options.check || options.reconnect).then(Window::default);
        Transfer {
            chunks,
            stdin: Stdin::Open,
            display,
            shows_echo: !options.check,
            window,
            timeout: options.timeout,
            may_be_idle: options.reconnect,
            stdout_is_full: false,
            progress,
            fatal_error: None,
        }
    }

    /// Starts on a new connection. Bytes whose echo has not arrived are sent again.
    pub fn start(&mut self, transport: &mut Transport) {
        self.progress.connected(transport.reactor());
        if let Some(window) = &mut self.window {
            window.rewind();
        }
        self.send(transport);
    }

    /// Sends until the connection or the window is full, or stdin is empty. `resume_writing`, the
    /// next echo, or the next input calls this again.
    pub fn send(&mut self, transport: &mut Transport) {
        while transport.flow() == Flow::Open && self.fatal_error.is_none() {
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
            if self.window_is_full() {
                break;
            }
            if self.stdin == Stdin::Paused {
                self.stdin = Stdin::Open;
                log::debug!("reading standard input is resumed; {}", self.outstanding(transport));
            }
            if !self.next_chunk(transport) {
                break;
            }
        }
        let must_wait = transport.flow() == Flow::Full || self.window_is_full();
        if must_wait && self.stdin == Stdin::Open {
            self.stdin = Stdin::Paused;
            log::debug!("reading standard input is paused; {}", self.outstanding(transport));
        }
        self.update_timeout(transport);
    }

    fn window_is_full(&self) -> bool {
        self.window.as_ref().is_some_and(|window| !window.has_room())
    }

    /// Describes what stdin waits for.
    fn outstanding(&self, transport: &Transport) -> String {
        match &self.window {
            Some(window) => format!("not echoed: {}", counted(window.len() as u64, "byte")),
            None => format!("unsent: {}", counted(transport.buffered() as u64, "byte")),
        }
    }

    /// Sets the timeout while the server has something to do. While stdout is full, it is not the
    /// server that is slow.
    fn update_timeout(&self, transport: &mut Transport) {
        let Some(timeout) = self.timeout.filter(|_| !transport.is_closing()) else { return };
        let is_idle = self.may_be_idle
            && self.stdin != Stdin::Ended
            && self.window.as_ref().is_none_or(Window::is_empty);
        let counts = !is_idle && !self.stdout_is_full;
        if transport.idle_time().is_some() != counts {
            transport.set_idle_timeout(counts.then_some(timeout));
        }
    }

    /// Takes the next chunk of stdin. Returns `false` if there is none yet.
    fn next_chunk(&mut self, transport: &mut Transport) -> bool {
        let id = transport.id();
        match self.chunks.try_recv(transport.reactor(), id) {
            TryRecv::Item(Ok(bytes)) => {
                self.progress.add(transport.reactor(), bytes.len(), 0);
                self.display.was_entered(transport.reactor(), id, &bytes);
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
                self.prompt(transport.reactor());
                false
            }
        }
    }

    /// Shows the prompt if more input may come.
    pub fn prompt(&self, reactor: &mut Reactor) {
        if self.stdin != Stdin::Ended {
            self.display.prompt(reactor);
        }
    }

    pub fn receive(&mut self, transport: &mut Transport, data: &[u8]) {
        let (correct, difference) = match &mut self.window {
            Some(window) => window.match_echo(data),
            None => (data.len(), None),
        };
        self.progress.add(transport.reactor(), 0, correct);
        let offset = self.progress.counts().received;
        let id = transport.id();
        let flow = if self.shows_echo {
            self.display.show_echo(transport.reactor(), id, &data[..correct])
        } else {
            Flow::Open
        };
        self.read_if_room(transport, flow);
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

    /// Called when stdin has data, or when stdout has room.
    pub fn woken(&mut self, transport: &mut Transport) {
        self.send(transport);
        let id = transport.id();
        let flow = self.display.flow(transport.reactor(), id);
        self.read_if_room(transport, flow);
    }

    fn fail(&mut self, error: String, transport: &mut Transport) {
        self.fatal_error = Some(error);
        transport.abort();
    }

    /// Returns whether all of stdin was sent, and at least as many bytes came back.
    pub fn is_complete(&self) -> bool {
        let ByteCounts { sent, received } = self.progress.counts();
        self.stdin == Stdin::Ended && self.fatal_error.is_none() && received >= sent
    }

    /// Returns whether another connection can continue the transfer.
    pub fn can_retry(&self) -> bool {
        self.fatal_error.is_none()
    }

    /// Returns what went wrong, unless the transfer is complete and the server has closed the
    /// connection. With `--reconnect`, it does not matter after the last byte how the connection
    /// ends, so that is only a warning.
    pub fn take_error(&mut self, options: &Options, reason: &CloseReason) -> Option<String> {
        if let Some(error) = self.fatal_error.take() {
            return Some(error);
        }
        let (server, limit) = (&options.address, options.timeout.unwrap_or_default());
        let cause = match reason {
            CloseReason::Unreachable(_) => return Some(format!("cannot connect to {reason}")),
            CloseReason::Closed | CloseReason::LingerTimeout | CloseReason::Aborted if self.is_complete() => {
                return None;
            }
            CloseReason::IdleTimeout if self.is_complete() => {
                format!("{server} did not close the connection within {limit:?}")
            }
            CloseReason::Closed | CloseReason::LingerTimeout | CloseReason::Aborted
                if self.stdin != Stdin::Ended =>
            {
                format!("{server} closed the connection before the end of the input")
            }
            CloseReason::Closed | CloseReason::LingerTimeout | CloseReason::Aborted => {
                format!("{server} closed the connection")
            }
            CloseReason::IdleTimeout => {
                format!("timed out: no data to or from {server} for {limit:?}")
            }
            other => format!("lost the connection to {server}: {other}"),
        };
        let ByteCounts { sent, received } = self.progress.counts();
        let missing = sent.saturating_sub(received);
        let end = if self.window.is_some() {
            format!("the echo ends at offset {received}; ")
        } else {
            String::new()
        };
        let error = match missing {
            0 if sent == 0 => format!("{cause}; nothing was sent"),
            0 => format!("{cause}; {} sent, {received} received", counted(sent, "byte")),
            _ => format!("{cause}; {end}{missing} of {} sent did not come back", counted(sent, "byte")),
        };
        if self.is_complete() && options.reconnect {
            log::warn!("{error}");
            return None;
        }
        Some(error)
    }

    /// Calls `f` when every received byte is on stdout.
    pub fn finish(&mut self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        self.display.finish(reactor, f);
    }

    /// Pauses reading while stdout is full. Stdout wakes the connection when it has room.
    fn read_if_room(&mut self, transport: &mut Transport, flow: Flow) {
        let is_full = flow == Flow::Full;
        if mem::replace(&mut self.stdout_is_full, is_full) != is_full {
            let what = if is_full { "paused; standard output is full" } else { "resumed" };
            log::debug!("reading from the server is {what}");
        }
        if is_full {
            transport.pause_reading();
        } else {
            transport.resume_reading();
        }
        self.update_timeout(transport);
    }
}
