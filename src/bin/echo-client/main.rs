//! `echo-client`: sends stdin to a server, and writes what comes back on stdout. This file parses
//! the arguments, connects the parts, runs the loop, and returns the exit status.
//!
//! Read next: `client.rs`, the protocol.

mod client;
mod options;
mod ping;
mod progress;
mod transfer;
mod window;

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::rc::Rc;

use echo_reactor::cli::{
    self, Display, ErrorText, Exit, cannot, counted, init_logging, report, write_stdout,
};
use echo_reactor::{Framing, Input, Mailbox, Output, Reactor};

use client::{Client, Failures, Session, log_bytes};
use options::Options;
use progress::{ByteCounts, Progress};
use transfer::Transfer;

const NAME: &str = "echo-client";

/// The maximum number of chunks of stdin that wait for the connection.
const MAILBOX_CAPACITY: usize = 4;

/// The signals of a person or a system that end the program.
const ENDING_SIGNALS: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The exit, and the error that is printed before it.
type ExitAndError = (Exit, Option<String>);

/// How the program ends. The first outcome that is set is kept.
#[derive(Clone, Default)]
pub(crate) struct Outcome(Rc<Cell<Option<ExitAndError>>>);

impl Outcome {
    /// Sets the outcome, unless it is set already.
    pub fn set(&self, exit: Exit, error: Option<String>) {
        let first = self.0.take();
        self.0.set(first.or(Some((exit, error))));
    }

    /// Prints the error, once.
    fn report_error(&self) {
        if let Some((exit, error)) = self.0.take() {
            if let Some(error) = error {
                report(NAME, error);
            }
            self.0.set(Some((exit, None)));
        }
    }

    /// Returns how the program ends, if that is decided.
    pub fn exit(&self) -> Option<Exit> {
        let outcome = self.0.take();
        let exit = outcome.as_ref().map(|(exit, _)| *exit);
        self.0.set(outcome);
        exit
    }
}

fn main() -> ExitCode {
    cli::main(NAME, options::parse, |options| {
        init_logging(NAME, options.verbosity);
        let outcome = Outcome::default();
        if let Err(error) = run(options, &outcome) {
            outcome.set(cli::FAILURE, Some(error.to_string()));
        }
        outcome.report_error();
        outcome.0.take().map_or(cli::DONE, |(exit, _)| exit)
    })
}

fn run(mut options: Options, outcome: &Outcome) -> io::Result<()> {
    if !options.check {
        cli::check_was_open(&io::stdout()).map_err(cannot("write standard output"))?;
    }
    if options.ping.is_none() {
        cli::check_was_open(&io::stdin()).map_err(cannot("read standard input"))?;
    }
    // Resolve the name before any signal is caught, so that Ctrl-C can end a slow lookup.
    let addresses = match options.address.to_connect() {
        // With `--ping`, the summary counts the failed lookup.
        Err(error) if !options.reconnect && options.ping.is_none() => return Err(error),
        result => result,
    };
    let mut reactor = Reactor::new().map_err(cannot("start the event loop"))?;
    reactor.set_spin(options.spin);
    cli::add_observers(&mut reactor, options.timeline.as_ref())?;
    let interactive = cli::is_on_terminal() && !options.raw;
    let prints_end = options.check || options.progress || log::log_enabled!(log::Level::Info);
    catch_signals(&mut reactor, outcome, interactive, prints_end).map_err(cannot("catch signals"))?;
    let stdout = {
        let outcome = outcome.clone();
        // A pipe may lose its reader, and a terminal may hang up.
        let signal = if io::stdout().is_terminal() { libc::SIGHUP } else { libc::SIGPIPE };
        Output::open(&mut reactor, &io::stdout(), move |reactor, error| {
            stdout_failed(&outcome, &error, signal);
            reactor.stop();
        })
        .map_err(cannot("open standard output"))?
    };
    if let Some(ping) = options.ping.take() {
        let session = ping::start(&mut reactor, options, ping, stdout, outcome.clone(), addresses)?;
        run_loop(&mut reactor, outcome);
        outcome.report_error();
        session.borrow().log_bytes();
        return Ok(());
    }
    let stdin = Mailbox::new(&mut reactor, MAILBOX_CAPACITY);
    let input = Input::open(&mut reactor, &io::stdin(), Framing::Bytes, stdin)
        .map_err(cannot("open standard input"))?;

    let progress = Progress::new(options.progress);
    let (check, began) = (options.check, reactor.now());
    let display = Display::new(&mut reactor, input, stdout, interactive, options.progress)
        .map_err(cannot("catch signals"))?;
    let transfer = Transfer::new(stdin, display.clone(), &options, progress.clone());
    let session = Session { options, outcome: outcome.clone() };
    Client::connect(&mut reactor, Rc::new(session), Box::new(transfer), Failures::default(), addresses);
    run_loop(&mut reactor, outcome);
    display.close(&reactor);
    progress.finish(); // first, because the last line is redrawn
    let ByteCounts { sent, received } = progress.counts();
    outcome.report_error();
    log_bytes(sent, received, began.elapsed());
    if check && log::log_enabled!(log::Level::Warn) {
        match outcome.exit() {
            Some(cli::DONE) => {
                report(NAME, format_args!("{} came back unchanged", counted(received, "byte")));
            }
            Some(Exit::Signal(signal)) if signal != libc::SIGPIPE => {
                let sent = counted(sent, "byte");
                report(NAME, format_args!("interrupted: {received} of {sent} sent came back unchanged"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Runs the loop until it is stopped. If the loop fails, records that error at once: otherwise, the
/// outcome would be that the connection is aborted when the reactor is dropped.
fn run_loop(reactor: &mut Reactor, outcome: &Outcome) {
    if let Err(error) = reactor.run() {
        outcome.set(cli::FAILURE, Some(cannot("wait for events")(error).to_string()));
    }
}

fn catch_signals(
    reactor: &mut Reactor,
    outcome: &Outcome,
    interactive: bool,
    prints_end: bool,
) -> io::Result<()> {
    for signal in ENDING_SIGNALS {
        let outcome = outcome.clone();
        cli::on_signal(reactor, signal, move |reactor| {
            // At Ctrl-C, the shell moves the cursor to a new row, unless our last line comes first.
            if interactive && (signal != libc::SIGINT || prints_end) {
                write_stdout("\n");
            } else if !interactive && signal == libc::SIGINT && prints_end {
                cli::end_echoed_row();
            }
            outcome.set(Exit::Signal(signal), None);
            reactor.stop();
        })?;
    }
    Ok(())
}

fn stdout_failed(outcome: &Outcome, error: &io::Error, signal: i32) {
    // A write on a terminal that has just hung up fails with `EIO`.
    let is_hung_up = signal == libc::SIGHUP && error.raw_os_error() == Some(libc::EIO);
    if is_hung_up || cli::is_reader_gone(error) {
        outcome.set(Exit::Signal(signal), None);
    } else {
        outcome.set(cli::FAILURE, Some(format!("cannot write standard output: {}", ErrorText(error))));
    }
}
