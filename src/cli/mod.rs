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
use std::process::ExitCode;

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

/// The address given as the first argument, or the default: all that the examples are told.
///
/// # Errors
/// Names the argument, if it is no address.
pub fn address_argument() -> io::Result<AddressArgument> {
    match std::env::args_os().nth(1) {
        Some(text) => address(&text, Family::Any).map_err(|error| io::Error::other(error.0)),
        None => Ok(AddressArgument::default_of(Family::Any)),
    }
}
