//! `--console`: reads commands from stdin, one per line, and executes them.
//!
//! Invariant: the console never delays a connection. If stdout is full, replies are dropped. The
//! end of stdin ends the console, not the server. No part of a line that is too long is executed.
//!
//! Read next: `command.rs`, which parses a line; `main.rs`.

use std::io::{self, IsTerminal};
use std::{array, iter};

use echo_reactor::cli::{Display, ErrorText, Escaped, counted, is_on_terminal, report, stdout_failed};
use echo_reactor::{
    Chunk, Connection, Flow, Framing, Handle, Id, Input, Listener, Mailbox, Next, Output, Reactor, Ready,
    Source, Transport, TryRecv,
};

use crate::NAME;
use crate::command::Command;
use crate::echo::{Echo, EndedBy};
use crate::shutdown::Shutdown;
use crate::statistics::statistics;

const HELP: &str = "\
help        show this help
stats       show one line of statistics, as SIGUSR1 does
list        list connections: number, peer, bytes, age, idle time, state
say TEXT    send TEXT and a newline to every connection
close ID    close a connection gracefully; if it is closing already, abort it
quit        shut down gracefully, as SIGTERM does; a second time, end at once
";

pub struct Console {
    lines: Handle<Mailbox<Chunk>>,
    /// Whether the current line is too long, so that its remaining pieces are skipped.
    overlong: bool,
    display: Display,
    listener: Handle<Listener>,
    shutdown: Shutdown,
}

impl Console {
    /// Starts reading commands. Returns the display, which the caller has to close.
    pub fn open(
        reactor: &mut Reactor,
        listener: Handle<Listener>,
        shutdown: Shutdown,
    ) -> io::Result<Display> {
        let lines = Mailbox::new(reactor, 16);
        let stdin = Input::open(reactor, &io::stdin(), Framing::Lines, lines)?;
        let stdout = Output::open(reactor, &io::stdout(), |_, error| stdout_failed(&error))?;
        let display = Display::new(reactor, stdin, stdout, is_on_terminal(), false)?;
        let console = Console { lines, overlong: false, display: display.clone(), listener, shutdown };
        let console = reactor.insert(console);
        reactor.wake(console.id());
        Ok(display)
    }

    /// Handles a line, or a piece of a line that is too long. Returns the reply.
    fn receive(&mut self, line: &[u8], reactor: &mut Reactor) -> String {
        let is_rest = self.overlong;
        let goes_on = line.len() >= Input::LONGEST_LINE && !line.ends_with(b"\n");
        self.overlong = goes_on;
        match (is_rest, goes_on) {
            (false, false) => self.execute(line.strip_suffix(b"\n").unwrap_or(line), reactor),
            (false, true) => format!("error: the line is longer than {} bytes\n", Input::LONGEST_LINE),
            (true, _) => String::new(),
        }
    }

    fn execute(&self, line: &[u8], reactor: &mut Reactor) -> String {
        match Command::parse(line) {
            Ok(Command::Nothing) => String::new(),
            Ok(Command::Help) => HELP.into(),
            Ok(Command::Stats) => statistics(reactor, self.listener) + "\n",
            Ok(Command::List) => list(reactor),
            Ok(Command::Say(text)) => broadcast(reactor, text),
            Ok(Command::Close(number)) => close(reactor, number),
            Ok(Command::Quit) => {
                self.shutdown.begin(reactor, None); // it logs what it waits for
                String::new()
            }
            Err(error) => format!("error: {error}\n"),
        }
    }

    /// Reports the end of stdin, unless the server ends too. On a terminal, silence after Ctrl-D
    /// would look as if the server had ended.
    fn announce_end(&self) {
        let text = "end of standard input; the server keeps running without a console";
        if !self.shutdown.is_serving() {
            return;
        }
        if io::stderr().is_terminal() {
            report(NAME, text);
        } else {
            log::info!("{text}");
        }
    }
}

impl Source for Console {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        loop {
            match self.lines.try_recv(reactor, id) {
                TryRecv::Item(Ok(line)) => {
                    self.display.was_entered(reactor, id, &line);
                    let reply = self.receive(&line, reactor);
                    if self.display.flow(reactor, id) != Flow::Full {
                        self.display.show_lines(reactor, id, &reply);
                    }
                }
                TryRecv::Item(Err(error)) => log::warn!("cannot read standard input: {}", ErrorText(&error)),
                TryRecv::Empty => {
                    if self.shutdown.is_serving() {
                        self.display.prompt(reactor);
                    }
                    return Next::Wait;
                }
                TryRecv::Closed => {
                    self.display.finish(reactor, |_| ());
                    self.announce_end();
                    return Next::Done;
                }
            }
        }
    }
}

/// Calls `f` for every connection.
fn each<R>(reactor: &mut Reactor, mut f: impl FnMut(&mut Echo, &mut Transport) -> R) -> Vec<R> {
    let connections = reactor.handles::<Connection<Echo>>();
    connections.into_iter().filter_map(|connection| connection.enter(reactor, &mut f).ok()).collect()
}

/// Formats a table of the connections.
fn list(reactor: &mut Reactor) -> String {
    let now = reactor.now();
    let mut connections = each(reactor, |echo, transport| {
        let age = echo.since.map_or(0.0, |since| (now - since).as_secs_f64());
        let idle = transport.idle_time().map_or("-".into(), |idle| format!("{:.1}s", idle.as_secs_f64()));
        let columns = [
            echo.number.to_string(),
            echo.peer_name(transport.peer_addr()),
            transport.bytes_in().to_string(),
            transport.bytes_out().to_string(),
            transport.buffered().to_string(),
            format!("{age:.1}s"),
            idle,
            String::from(if transport.is_closing() { "closing" } else { "open" }),
        ];
        (echo.number, columns)
    });
    connections.sort_unstable_by_key(|(number, _)| *number);
    let header = ["ID", "PEER", "IN", "OUT", "BUFFERED", "AGE", "IDLE", "STATE"].map(String::from);
    let rows: Vec<_> =
        iter::once(header).chain(connections.into_iter().map(|(_, columns)| columns)).collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = array::from_fn(widest);
    let lines = rows.iter().map(|row| {
        // Text is aligned to the left, and numbers to the right.
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            1 | 7 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    });
    lines.chain([String::from("end of list\n")]).collect()
}

/// Sends a line to every connection. Skips slow peers, so that the data buffered for a peer stays
/// bounded.
fn broadcast(reactor: &mut Reactor, text: &[u8]) -> String {
    let line = [text, b"\n"].concat();
    let flows = each(reactor, |_, transport| {
        let flow = transport.flow();
        if flow == Flow::Open {
            transport.write(&line);
        }
        flow
    });
    let count = |wanted| flows.iter().filter(|&&flow| flow == wanted).count();
    let reply = format!("sent to {}", counted(count(Flow::Open), "connection"));
    match count(Flow::Full) {
        0 => reply + "\n",
        skipped => format!("{reply}, skipped {}\n", counted(skipped, "slow reader")),
    }
}

/// Closes a connection after its buffered data is sent. If it is closing already, aborts it.
fn close(reactor: &mut Reactor, number: &str) -> String {
    let replies = each(reactor, |echo, transport| {
        if echo.number.to_string() != number {
            return None;
        }
        if transport.is_closing() {
            echo.ended_by = EndedBy::OperatorAbort;
            transport.abort();
            return Some(format!("aborted {number}\n"));
        }
        echo.ended_by = EndedBy::Operator;
        transport.close();
        Some(format!("closing {number}\n"))
    });
    let reply = replies.into_iter().flatten().next();
    reply.unwrap_or_else(|| format!("error: no connection '{}' (see list)\n", Escaped(number.as_bytes())))
}
