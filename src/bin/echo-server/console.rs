//! `--console`: the operator's commands, a line each, from stdin.
//!
//! Invariant: it delays nobody. A reply that stdout does not take is dropped, and the end of stdin ends
//! the console, not the server.
//!
//! Read next: `main.rs`.

use std::fmt::Write;
use std::io;

use echo_reactor::cli::Escaped;
use echo_reactor::{
    Chunk, Connection, Flow, Framing, Handle, Id, Input, Listener, Mailbox, Next, Output, Reactor, Ready,
    Source, Transport, TryRecv,
};

use crate::echo::Echo;
use crate::shutdown::Shutdown;
use crate::statistics::statistics;

const HELP: &str = "\
help        this
stats       what SIGUSR1 prints
list        a line per connection: ID, peer, bytes in, out, buffered, age, idle
say TEXT    send TEXT and a newline to every connection
close ID    end a connection in order
quit        what SIGTERM does
";

pub struct Console {
    lines: Handle<Mailbox<Chunk>>,
    stdout: Handle<Output>,
    listener: Handle<Listener>,
    shutdown: Shutdown,
}

impl Console {
    /// Begins to read commands.
    pub fn open(reactor: &mut Reactor, listener: Handle<Listener>, shutdown: Shutdown) -> io::Result<()> {
        let lines = Mailbox::new(reactor, 16);
        Input::open(reactor, &io::stdin(), Framing::Lines, lines)?;
        let stdout = Output::open(reactor, &io::stdout(), |_, error| log::info!("stdout: {error}"))?;
        let console = reactor.insert(Console { lines, stdout, listener, shutdown });
        reactor.wake(console.id());
        Ok(())
    }

    fn execute(&self, line: &str, reactor: &mut Reactor) -> String {
        let line = line.trim_end_matches(['\n', '\r']);
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (command, rest) {
            ("help", "") => HELP.into(),
            ("stats", "") => statistics(reactor, self.listener) + "\n",
            ("list", "") => list(reactor),
            ("say", text) => say(reactor, text),
            ("close", id) => close(reactor, id),
            ("quit", "") => {
                self.shutdown.begin(reactor, libc::SIGTERM);
                String::from("shutting down\n")
            }
            ("", "") => String::new(),
            _ => format!("error: unknown command '{}' (see help)\n", Escaped(line.as_bytes())),
        }
    }
}

impl Source for Console {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        loop {
            match self.lines.try_recv(reactor, id) {
                TryRecv::Item(Ok(line)) => {
                    let reply = self.execute(&String::from_utf8_lossy(&line), reactor);
                    if self.stdout.flow(reactor, id) != Flow::Full {
                        self.stdout.write(reactor, id, reply.as_bytes());
                    }
                }
                TryRecv::Item(Err(error)) => log::warn!("cannot read standard input: {error}"),
                TryRecv::Empty => return Next::Wait,
                TryRecv::Closed => return Next::Done,
            }
        }
    }
}

/// Calls `f` for every connection.
fn each<R>(reactor: &mut Reactor, mut f: impl FnMut(&mut Echo, &mut Transport) -> R) -> Vec<R> {
    let connections = reactor.handles::<Connection<Echo>>();
    connections.into_iter().filter_map(|connection| connection.enter(reactor, &mut f).ok()).collect()
}

fn list(reactor: &mut Reactor) -> String {
    let now = reactor.now();
    let lines = each(reactor, |echo, transport| {
        let peer = transport.peer_addr().map_or_else(|| String::from("?"), ToString::to_string);
        let age = echo.since.map_or(0.0, |since| (now - since).as_secs_f64());
        let idle = transport.idle_time().unwrap_or_default().as_secs_f64();
        let (received, sent, buffered) = (transport.bytes_in(), transport.bytes_out(), transport.buffered());
        (
            transport.id(),
            format!("{peer} {received} in {sent} out {buffered} buffered {age:.1}s old {idle:.1}s idle"),
        )
    });
    let mut all = String::new();
    for (id, line) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(all, "{id} {line}");
    }
    all + "end of list\n"
}

/// Skips peers that are already behind, so that the data buffered for a peer stays bounded.
fn say(reactor: &mut Reactor, text: &str) -> String {
    let line = format!("{text}\n");
    let sent = each(reactor, |_, transport| {
        let is_open = transport.flow() == Flow::Open;
        if is_open {
            transport.write(line.as_bytes());
        }
        is_open
    });
    let told = sent.iter().filter(|&&is_open| is_open).count();
    match sent.len() - told {
        0 => format!("sent to {told} connections\n"),
        behind => format!("sent to {told} connections, skipped {behind} that are behind\n"),
    }
}

fn close(reactor: &mut Reactor, id: &str) -> String {
    let connection =
        reactor.handles::<Connection<Echo>>().into_iter().find(|handle| handle.id().to_string() == id);
    match connection.map(|handle| handle.enter(reactor, |_, transport| transport.close())) {
        Some(Ok(())) => format!("closing {id}\n"),
        _ => format!("error: no connection '{}' (see list)\n", Escaped(id.as_bytes())),
    }
}
