//! `echo-server`: sends back what it receives. Parse, wire up, run, exit status.
//!
//! Read next: `options.rs`, for what it is told; `echo_reactor::transport`, for what it is built of.

mod options;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use echo_reactor::cli::{self, complain, init_logging, print};
use echo_reactor::{
    Address, Connection, Handle, Listener, Protocol, Reactor, Reason, Transport, create_server,
};

use options::{Command, Options};

const NAME: &str = "echo-server";

fn main() -> ExitCode {
    let options = match options::parse(lexopt::Parser::from_env()) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Print(text)) => {
            print(text);
            return ExitCode::from(cli::DONE);
        }
        Err(error) => {
            complain(NAME, error);
            return ExitCode::from(cli::USAGE);
        }
    };
    init_logging(NAME, options.verbosity);
    match serve(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain(NAME, error);
            ExitCode::from(cli::FAILURE)
        }
    }
}

/// What the next signal means.
#[derive(Clone, Copy)]
enum Stage {
    Serving,
    /// Connections are finishing.
    Draining,
    /// A second signal came.
    Killed(i32),
}

fn serve(options: &Options) -> io::Result<u8> {
    let mut reactor = Reactor::new()?;
    let addresses = listening_addresses(options)?;
    let echo = Echo { idle_timeout: options.idle_timeout, high_water: options.buffer };
    let listener = create_server(&mut reactor, &addresses, &options.serve, move || echo)?;

    let stage = Rc::new(Cell::new(Stage::Serving));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (stage, grace) = (stage.clone(), options.grace);
        reactor.on_signal(signal, move |reactor| match stage.get() {
            Stage::Serving => {
                stage.set(Stage::Draining);
                finish_connections(reactor, listener);
                reactor.call_later(grace, Reactor::stop);
            }
            Stage::Draining | Stage::Killed(_) => {
                stage.set(Stage::Killed(signal));
                reactor.stop();
            }
        })?;
    }
    reactor.on_signal(libc::SIGUSR1, move |reactor| complain(NAME, statistics(reactor, listener)))?;

    for address in Listener::addresses(&mut reactor, listener) {
        print(format_args!("listening on {address}\n"));
    }
    reactor.run()?;
    log::info!("{}", statistics(&mut reactor, listener));
    match stage.get() {
        Stage::Killed(signal) => Ok(cli::killed_by(signal)),
        Stage::Serving | Stage::Draining => {
            let left = Listener::totals(&mut reactor, listener).open;
            if left > 0 {
                log::warn!("{left} connections did not finish in time");
            }
            Ok(cli::DONE)
        }
    }
}

fn listening_addresses(options: &Options) -> io::Result<Vec<Address>> {
    let mut addresses = Vec::new();
    for argument in &options.addresses {
        for address in argument.to_listen()? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

/// Stops accepting, ends every connection in order, and stops the loop after the last one.
fn finish_connections(reactor: &mut Reactor, listener: Handle<Listener>) {
    Listener::close(reactor, listener);
    let connections = reactor.all::<Connection<Echo>>();
    log::info!("shutting down, {} connections are open", connections.len());
    for connection in connections {
        Connection::enter(reactor, connection, |_, transport| transport.close());
    }
    Listener::when_closed(reactor, listener, Reactor::stop);
}

fn statistics(reactor: &mut Reactor, listener: Handle<Listener>) -> String {
    let mut totals = Listener::totals(reactor, listener);
    let mut buffered = 0;
    for connection in reactor.all::<Connection<Echo>>() {
        Connection::enter(reactor, connection, |_, transport| {
            totals.bytes_in += transport.bytes_in();
            totals.bytes_out += transport.bytes_out();
            buffered += transport.buffered();
        });
    }
    format!(
        "connections: {} open, {} accepted, {} refused; bytes: {} in, {} out, {buffered} buffered; turns: {}",
        totals.open,
        totals.accepted,
        totals.refused,
        totals.bytes_in,
        totals.bytes_out,
        reactor.turns(),
    )
}

/// The protocol: what comes goes back, and who does not take it back is not read from.
#[derive(Clone, Copy)]
struct Echo {
    idle_timeout: Option<std::time::Duration>,
    high_water: usize,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_write_marks(self.high_water, self.high_water / 4);
        transport.set_idle_timeout(self.idle_timeout);
        if log::log_enabled!(log::Level::Info)
            && let Ok(peer) = transport.peer_addr()
        {
            log::info!("connection {} from {peer}", transport.id());
        }
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }

    fn pause_writing(&mut self, transport: &mut Transport) {
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }

    fn connection_lost(&mut self, _: &mut Reactor, reason: Reason) {
        log::info!("a connection ended: {reason}");
    }
}
