//! Code that the two programs share: parsing arguments, printing messages, and the exit status.
//!
//! Read next: `../bin/`.

mod addresses;
mod arguments;
mod diagnostics;
mod display;
mod histogram;
mod host_port;
mod lookup;
mod observers;
mod resolve;
mod screen;
mod values;
mod visible;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::Arg;

pub use addresses::{AddressArgument, Family};
pub use arguments::{
    UsageError, address, address_after, check_family, client_address, file, option_name, positive_number,
    print, unexpected, value,
};
pub use diagnostics::{
    Verbosity, end_echoed_row, init_logging, is_reader_gone, let_stdout_close, report, route_stderr,
    stdout_failed, write_stderr, write_stdout,
};
pub use display::{Display, is_on_terminal};
pub use histogram::Histogram;
pub use host_port::source_address;
pub use lookup::look_up;
pub use observers::add_observers;
pub use screen::supports_escapes;
pub use values::{duration, nonzero_duration, nonzero_size};

pub use crate::net::{ErrorText, Escaped};
pub use crate::reactor::signals::wait_until_readable;
pub use crate::sys::{SIGINFO, check_was_open, is_pending, window_size};
use crate::{Reactor, sys};

/// What the arguments ask a program to do.
#[derive(Debug)]
pub enum Command<O> {
    /// Run with these options.
    Run(O),
    /// Print this text, which is the help or the version.
    Print(String),
}

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exits with this status.
    Status(u8),
    /// It raises a signal that it has caught, so that its parent sees the signal. For example, a
    /// shell's loop ends at Ctrl-C.
    Signal(i32),
}

/// Success.
pub const DONE: Exit = Exit::Status(0);
/// A network or I/O error.
pub const FAILURE: Exit = Exit::Status(1);
/// A usage error.
pub const USAGE: Exit = Exit::Status(2);

/// Runs a program: parses its arguments, calls `run`, and ends the program as `run` decides.
pub fn main<O>(
    name: &str,
    parse: impl FnOnce(lexopt::Parser) -> Result<Command<O>, UsageError>,
    run: impl FnOnce(O) -> Exit,
) -> ExitCode {
    // A write to a file at its size limit becomes an error. This cannot fail, because the signal
    // exists.
    let _ = sys::ignore(libc::SIGXFSZ);
    let exit = match parse(lexopt::Parser::from_env()) {
        Ok(Command::Run(options)) => run(options),
        Ok(Command::Print(text)) => match diagnostics::try_write_stdout(text) {
            Ok(()) => DONE,
            Err(error) => {
                report(name, format_args!("cannot write standard output: {}", ErrorText(&error)));
                FAILURE
            }
        },
        Err(error) => {
            report(name, error);
            USAGE
        }
    };
    match exit {
        DONE if diagnostics::has_stdout_failed() => ExitCode::FAILURE,
        Exit::Status(status) => ExitCode::from(status),
        Exit::Signal(signal) => {
            sys::raise_default(signal);
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

/// Calls `f` from the loop when `signal` is raised. A signal that was ignored when the program
/// started (`nohup`, a background job of a script) stays ignored.
///
/// # Errors
/// See [`Reactor::on_signal`].
pub fn on_signal(
    reactor: &mut Reactor,
    signal: i32,
    f: impl FnMut(&mut Reactor) + 'static,
) -> io::Result<()> {
    if sys::is_ignored(signal)? { Ok(()) } else { reactor.on_signal(signal, f) }
}

/// Adds context to an error: `cannot WHAT: REASON`.
///
/// ```
/// use echo_reactor::cli::cannot;
/// let denied = std::io::Error::from_raw_os_error(13);
/// assert_eq!(cannot("open the file")(denied).to_string(), "cannot open the file: Permission denied");
/// ```
pub fn cannot(what: &str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {what}: {}", ErrorText(&error)))
}

/// Formats a number of things.
///
/// ```
/// use echo_reactor::cli::counted;
/// assert_eq!([counted(1_u64, "byte"), counted(2_u64, "byte")], ["1 byte", "2 bytes"]);
/// ```
#[must_use]
pub fn counted<N: Copy + fmt::Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Runs an example: parses its only argument, an address, and reports an error in one line.
pub fn run_example(run: impl FnOnce(AddressArgument) -> io::Result<()>) -> ExitCode {
    run_on("[ADDR]", |arguments| client_address(arguments, Family::Any), run)
}

/// Runs an example that takes two addresses.
pub fn run_proxy_example(run: impl FnOnce([AddressArgument; 2]) -> io::Result<()>) -> ExitCode {
    let parse = |arguments: &[OsString]| match arguments {
        [first, second] => Ok([address(first, Family::Any)?, address(second, Family::Any)?]),
        _ => Err(UsageError(String::from("expected two addresses"))),
    };
    run_on("LISTEN_ADDR BACKEND_ADDR", parse, run)
}

fn run_on<A>(
    usage: &str,
    parse: impl FnOnce(&[OsString]) -> Result<A, UsageError>,
    run: impl FnOnce(A) -> io::Result<()>,
) -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).unwrap_or_default().display().to_string();
    let parse = |mut parser: lexopt::Parser| {
        let mut arguments = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(text) => arguments.push(text),
                Arg::Short('h') | Arg::Long("help") => {
                    return arguments::print(&mut parser, &format!("Usage: {name} {usage}\n"));
                }
                other => return Err(unexpected(other)),
            }
        }
        parse(&arguments).map(Command::Run)
    };
    main(&name, parse, |addresses| match run(addresses) {
        Ok(()) => DONE,
        Err(error) => {
            report(&name, ErrorText(&error));
            FAILURE
        }
    })
}
