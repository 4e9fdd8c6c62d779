//! What the two programs share: how they read their arguments, and how they talk to a person.
//!
//! Read next: `../bin/`.

mod addresses;
mod arguments;
mod diagnostics;
mod histogram;
mod lookup;
mod values;
mod watching;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::Arg;

pub use addresses::{AddressArgument, Family, source};
pub use arguments::{UsageError, address, client_address, number, unexpected, value};
pub use diagnostics::{Verbosity, init_logging, report, write_stderr, write_stdout};
pub use histogram::Histogram;
pub use lookup::look_up;
pub use values::{duration, nonzero_duration, nonzero_size};
pub use watching::watch;

pub use crate::net::ErrorText;

/// What a program is told to do.
#[derive(Debug)]
pub enum Command<O> {
    /// Its work, with these options.
    Run(O),
    /// To say something about itself.
    Print(String),
}

/// What both programs begin with: their arguments. `run` answers with the exit status.
pub fn main<O>(
    name: &str,
    parse: impl FnOnce(lexopt::Parser) -> Result<Command<O>, UsageError>,
    run: impl FnOnce(O) -> u8,
) -> ExitCode {
    ExitCode::from(match parse(lexopt::Parser::from_env()) {
        Ok(Command::Run(options)) => run(options),
        Ok(Command::Print(text)) => {
            write_stdout(text);
            DONE
        }
        Err(error) => {
            report(name, error);
            USAGE
        }
    })
}

/// Exit status: done.
pub const DONE: u8 = 0;
/// Exit status: a failure of the network or of I/O.
pub const FAILURE: u8 = 1;
/// Exit status: a usage error.
pub const USAGE: u8 = 2;

/// Exit status: ended by a signal, as a shell shows it.
#[must_use]
pub fn killed_by(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Adds to an error what could not be done: `cannot WHAT: REASON`.
///
/// ```
/// use echo_reactor::cli::cannot;
/// let refused = std::io::Error::from_raw_os_error(13);
/// assert_eq!(cannot("open the door")(refused).to_string(), "cannot open the door: Permission denied");
/// ```
pub fn cannot(what: &str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {what}: {}", ErrorText(&error)))
}

/// The `main` of the examples: reads the only argument, an address, and reports an error in one line.
pub fn run_example(run: impl FnOnce(AddressArgument) -> io::Result<()>) -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).unwrap_or_default().display().to_string();
    let parse = |mut parser: lexopt::Parser| {
        let mut arguments = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(text) => arguments.push(text),
                Arg::Short('h') | Arg::Long("help") => {
                    return Ok(Command::Print(format!("Usage: {name} [ADDR]\n")));
                }
                other => return Err(unexpected(other)),
            }
        }
        client_address(&arguments, Family::Any).map(Command::Run)
    };
    main(&name, parse, |address| match run(address) {
        Ok(()) => DONE,
        Err(error) => {
            report(&name, ErrorText(&error));
            FAILURE
        }
    })
}
