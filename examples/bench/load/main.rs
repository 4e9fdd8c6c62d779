//! Generates load for an echo server, checks every byte of the echo, and reports rates and
//! latencies.
//!
//! Look at `client.rs`: each client is an ordinary protocol. All clients share their counters. The
//! counters are a source without a descriptor, and the clients reach it through its handle.
// Figures are shown with three digits, and the library supports only 64-bit machines.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod client;
mod options;
mod pattern;
mod report;
mod tally;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::cli::{self, cannot, init_logging, report, write_stderr};
use echo_reactor::{Handle, Reactor};

use client::Config;
use options::Options;
use pattern::Pattern;
use report::{Report, Usage};
use tally::Tally;

const NAME: &str = "load";

fn main() -> ExitCode {
    cli::main(NAME, options::parse, |options| {
        init_logging(NAME, cli::Verbosity::default());
        match run(options) {
            Ok(report) => {
                cli::write_stdout(report);
                cli::DONE
            }
            Err(error) => {
                report(NAME, error);
                cli::FAILURE
            }
        }
    })
}

fn run(options: Options) -> io::Result<Report> {
    allow_many_descriptors();
    let addresses = options.address.to_connect()?;
    let mut reactor = Reactor::new().map_err(cannot("start the event loop"))?;
    reactor.set_spin(options.spin);
    let tally = reactor.insert(Tally::new(options.connections, options.idle));
    let config = Rc::new(Config {
        addresses,
        mode: options.mode,
        size: options.size,
        pattern: Pattern::new(options.size),
        tally,
    });
    client::connect_all(&mut reactor, &config);
    run_until(&mut reactor, tally, Tally::are_all_connected)?;
    run_for(&mut reactor, tally, options.warm_up)?;

    let before = options.pid.map(Usage::of).transpose()?;
    let began = reset(&mut reactor, tally);
    show_progress(&mut reactor, tally, began, options.duration);
    run_for(&mut reactor, tally, options.duration)?;
    let took = began.elapsed();
    let after = options.pid.map(Usage::of).transpose()?;
    write_stderr(if io::stderr().is_terminal() { "\r\x1b[K" } else { "" });

    let measured = reactor.get_mut(tally).map(std::mem::take).unwrap_or_default();
    Ok(Report { options, measured, took, usage: before.zip(after) })
}

/// Runs the loop for `duration`, or until something fails.
fn run_for(reactor: &mut Reactor, tally: Handle<Tally>, duration: Duration) -> io::Result<()> {
    let timer = reactor.call_later(duration, Reactor::stop);
    reactor.run()?;
    reactor.cancel(timer);
    failure(reactor, tally)
}

fn run_until(reactor: &mut Reactor, tally: Handle<Tally>, done: impl Fn(&Tally) -> bool) -> io::Result<()> {
    while reactor.get(tally).is_ok_and(|tally| !done(tally)) {
        reactor.turn(None)?;
        failure(reactor, tally)?;
    }
    Ok(())
}

fn failure(reactor: &mut Reactor, tally: Handle<Tally>) -> io::Result<()> {
    match reactor.get_mut(tally)?.failure.take() {
        Some(text) => Err(io::Error::other(text)),
        None => Ok(()),
    }
}

/// Resets the counters, and returns the time.
fn reset(reactor: &mut Reactor, tally: Handle<Tally>) -> Instant {
    if let Ok(tally) = reactor.get_mut(tally) {
        tally.reset();
    }
    Instant::now()
}

/// Shows a line on stderr. On a terminal it is redrawn ten times a second; elsewhere, a new line is
/// written each second.
fn show_progress(reactor: &mut Reactor, tally: Handle<Tally>, began: Instant, duration: Duration) {
    let on_terminal = io::stderr().is_terminal();
    let period = Duration::from_millis(if on_terminal { 100 } else { 1000 });
    reactor.call_later(period, move |reactor| {
        let messages = reactor.get_mut(tally).map_or(0, |tally| tally.messages());
        let line = report::progress(began.elapsed(), duration, messages);
        let (before, after) = if on_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        write_stderr(format_args!("{before}{line}{after}"));
        show_progress(reactor, tally, began, duration);
    });
}

/// Raises the soft limit of descriptors to the hard limit, because each connection takes a
/// descriptor.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If this fails, fewer connections are possible, and the first one that fails is reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
