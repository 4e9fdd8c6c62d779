//! `echo-server`: sends back what it receives. Parse, wire up, run, exit status.
//!
//! Read next: `echo.rs`, what it does for each peer; `shutdown.rs`, how it ends.

mod console;
mod echo;
mod options;
mod shutdown;
mod statistics;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use echo_reactor::cli::{self, AddressArgument, cannot, complain, init_logging, print};
use echo_reactor::{Address, Handle, Listener, ListeningSocket, Reactor, create_server_on};

use console::Console;
use echo::Echo;
use options::Options;
use shutdown::Shutdown;
use statistics::statistics;

const NAME: &str = "echo-server";

fn main() -> ExitCode {
    cli::main(NAME, options::parse, |options| {
        // Before anything of ours is opened.
        let inherited = ListeningSocket::inherited();
        init_logging(NAME, options.verbosity);
        inherited.and_then(|sockets| serve(&options, sockets)).unwrap_or_else(|error| {
            complain(NAME, error);
            cli::FAILURE
        })
    })
}

/// A timeout is what has idleness noted, which `list` shows.
const NEVER: Duration = Duration::MAX;

fn serve(options: &Options, mut sockets: Vec<ListeningSocket>) -> io::Result<u8> {
    let mut reactor = Reactor::new().map_err(cannot("start the event loop"))?;
    reactor.set_spin(options.spin);
    cli::watch(&mut reactor, options.timeline.as_ref())?;
    let addresses = listening_addresses(options, sockets.is_empty())?;
    sockets.extend(ListeningSocket::bind_all(&addresses, &options.serve)?);
    let idle_timeout = options.idle_timeout.or(options.console.then_some(NEVER));
    let echo = Echo { idle_timeout, high_water: options.buffer, since: None };
    let listener = create_server_on(&mut reactor, sockets, &options.serve, move || echo)?;

    let shutdown = Shutdown::new(listener, options.grace);
    catch_signals(&mut reactor, listener, &shutdown).map_err(cannot("catch signals"))?;
    if options.console {
        Console::open(&mut reactor, listener, shutdown.clone()).map_err(cannot("open the console"))?;
    }

    for address in Listener::addresses(&mut reactor, listener) {
        print(format_args!("listening on {address}\n"));
    }
    reactor.run()?;
    log::info!("{}", statistics(&mut reactor, listener));
    if let Some(signal) = shutdown.killed_by() {
        return Ok(cli::killed_by(signal));
    }
    let left = Listener::totals(&mut reactor, listener).open;
    if left > 0 {
        log::warn!("{left} connections did not finish in time");
    }
    Ok(cli::DONE)
}

fn catch_signals(reactor: &mut Reactor, listener: Handle<Listener>, shutdown: &Shutdown) -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let shutdown = shutdown.clone();
        reactor.on_signal(signal, move |reactor| shutdown.begin(reactor, signal))?;
    }
    reactor.on_signal(libc::SIGUSR1, move |reactor| complain(NAME, statistics(reactor, listener)))
}

/// Where to listen: as told, each address once. The default is for a server that would not listen at all.
fn listening_addresses(options: &Options, or_default: bool) -> io::Result<Vec<Address>> {
    if options.addresses.is_empty() && or_default {
        return AddressArgument::default().to_listen();
    }
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
