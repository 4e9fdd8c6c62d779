//! `echo-server`: sends back what it receives. This file parses the arguments, connects the parts,
//! runs the loop, and returns the exit status.
//!
//! Read next: `echo.rs`, which serves each peer; `shutdown.rs`, which ends the server.

mod command;
mod console;
mod echo;
mod options;
mod shutdown;
mod statistics;
mod step;

use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use echo_reactor::cli::{self, AddressArgument, Exit, cannot, counted, init_logging, report, write_stdout};
use echo_reactor::{Address, Handle, Listener, ListeningSocket, Reactor, create_server_with_sockets};

use console::Console;
use echo::{Echo, EndedBy, Limits};
use options::Options;
use shutdown::Shutdown;
use statistics::statistics;

const NAME: &str = "echo-server";

/// The signals that shut the server down gracefully.
const SHUTDOWN_SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

fn main() -> ExitCode {
    cli::main(NAME, options::parse, |options| {
        // Do this before anything else opens a descriptor.
        let inherited = ListeningSocket::from_listen_fds();
        init_logging(NAME, options.verbosity);
        inherited.and_then(|sockets| serve(&options, sockets)).unwrap_or_else(|error| {
            report(NAME, error);
            cli::FAILURE
        })
    })
}

/// The idle timeout for `--console`, which never expires. `list` shows idle times, and a connection
/// tracks its idle time only while a timeout is set.
const NEVER: Duration = Duration::MAX;

fn serve(options: &Options, mut sockets: Vec<ListeningSocket>) -> io::Result<Exit> {
    if options.console || options.step {
        cli::check_was_open(&io::stdin()).map_err(cannot("read standard input"))?;
    }
    let mut reactor = Reactor::new().map_err(cannot("start the event loop"))?;
    reactor.set_spin(options.spin);
    cli::add_observers(&mut reactor, options.timeline.as_ref())?;
    let addresses = listening_addresses(options, sockets.is_empty())?;
    // From here on, a signal must not end the program at once, because socket files must be removed
    // first. A signal that arrives now is handled when the loop runs.
    for signal in SHUTDOWN_SIGNALS {
        cli::on_signal(&mut reactor, signal, |_| ()).map_err(cannot("catch signals"))?;
    }
    sockets.extend(ListeningSocket::bind_all(&addresses, &options.listen)?);
    let idle_timeout = options.idle_timeout.or(options.console.then_some(NEVER));
    let mut number = 0;
    let limits = Rc::new(Limits { idle_timeout, high_water: options.buffer });
    let echo = move || {
        number += 1;
        Echo { number, limits: limits.clone(), pid: None, since: None, ended_by: EndedBy::Shutdown }
    };
    let listener = create_server_with_sockets(&mut reactor, sockets, &options.listen, echo)
        .map_err(cannot("register the listening sockets"))?;

    let shutdown = Shutdown::new(&mut reactor, listener, options.grace)?;
    catch_signals(&mut reactor, listener, &shutdown, options.step).map_err(cannot("catch signals"))?;
    let console = options.console.then(|| Console::open(&mut reactor, listener, shutdown.clone()));
    let display = console.transpose().map_err(cannot("open the console"))?;

    for address in listener.addresses(&reactor)? {
        write_stdout(format_args!("listening on {address}\n"));
    }
    if options.step {
        step::run(&mut reactor, &shutdown)?;
    }
    reactor.run().map_err(cannot("wait for events"))?;
    if let Some(display) = display {
        display.finish(&mut reactor, |_| ());
        display.close(&reactor);
    }
    log::info!("{}", statistics(&mut reactor, listener));
    let left = listener.stats(&reactor)?.open;
    if left > 0 && shutdown.is_draining() {
        log::warn!("{} had not finished", counted(left, "connection"));
    }
    Ok(shutdown.exit())
}

fn catch_signals(
    reactor: &mut Reactor,
    listener: Handle<Listener>,
    shutdown: &Shutdown,
    is_stepping: bool,
) -> io::Result<()> {
    for signal in SHUTDOWN_SIGNALS {
        let shutdown = shutdown.clone();
        cli::on_signal(reactor, signal, move |reactor| {
            // While the console shows its prompt, lines are inserted above the echoed `^C`. With
            // `--step`, the first line of this turn has ended the row.
            let has_prompt = cli::is_on_terminal() && !reactor.handles::<Console>().is_empty();
            if signal == libc::SIGINT && !has_prompt && !is_stepping {
                cli::end_echoed_row();
            }
            shutdown.begin(reactor, Some(signal));
        })?;
    }
    for signal in [Some(libc::SIGUSR1), cli::SIGINFO].into_iter().flatten() {
        cli::on_signal(reactor, signal, move |reactor| report(NAME, statistics(reactor, listener)))?;
    }
    Ok(())
}

/// Returns the addresses to listen on, without duplicates. If none was given, returns the default
/// address if `use_default` is set.
fn listening_addresses(options: &Options, use_default: bool) -> io::Result<Vec<Address>> {
    if options.addresses.is_empty() && use_default {
        return AddressArgument::default_for(options.family).to_listen();
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
