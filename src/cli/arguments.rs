//! Parses options and their values, and describes usage errors.
//!
//! Invariant: a usage error is one line that names the argument.
//!
//! Read next: `values.rs`, `addresses.rs`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lexopt::{Arg, Error, Parser};

use super::{AddressArgument, Command, Escaped, Family};

/// A mistake in the arguments, described in one line.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (see --help)", Escaped(self.0.as_bytes()))
    }
}

impl From<Error> for UsageError {
    fn from(error: Error) -> Self {
        UsageError(match error {
            Error::MissingValue { option: Some(option) } => format!("option '{option}' needs a value"),
            Error::UnexpectedOption(option) => format!("unknown option '{option}'"),
            Error::UnexpectedArgument(argument) => {
                format!("unexpected argument '{}'", Escaped(argument.as_bytes()))
            }
            Error::UnexpectedValue { option, .. } => format!("option '{option}' takes no value"),
            other => other.to_string(),
        })
    }
}

/// Returns the error for an option or an argument that the program does not accept.
#[must_use]
pub fn unexpected(argument: Arg<'_>) -> UsageError {
    argument.unexpected().into()
}

/// Returns the option as it was typed.
#[must_use]
pub fn option_name(argument: &Arg<'_>) -> String {
    match argument {
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(_) => String::new(),
    }
}

/// Returns the value of `option`, parsed by `read`.
///
/// # Errors
/// The error names the option and the value, and says what is wrong with the value.
pub fn value<T>(
    parser: &mut Parser,
    option: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, UsageError> {
    let given: OsString = parser.value()?;
    let result = given.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(read);
    result.map_err(|why| {
        UsageError(format!("invalid value '{}' for {option}: {why}", Escaped(given.as_bytes())))
    })
}

/// Returns the value of `option`, which names a file to write.
///
/// # Errors
/// The error names the option, and says why the value names no file. `-` is not standard output,
/// whose text would damage the file. An address after the option is probably meant as an address.
pub fn file(parser: &mut Parser, option: &str) -> Result<PathBuf, UsageError> {
    let given = parser.value()?;
    let name = Escaped(given.as_bytes());
    let why = match given.as_bytes() {
        b"" => "the name is empty".into(),
        b"-" | [b':', ..] => format!("expected a file; type ./{name} if it is one"),
        b"/dev/stdout" | b"/dev/stderr" => "expected a file that nothing else writes to".into(),
        _ if is_standard_stream(Path::new(&given)) => {
            "it is this program's standard input, output or error".into()
        }
        _ => return Ok(given.into()),
    };
    Err(UsageError(format!("invalid value '{name}' for {option}: {why}")))
}

/// Returns whether `path` is the regular file that is open as stdin, stdout or stderr.
fn is_standard_stream(path: &Path) -> bool {
    let Ok(file) = path.metadata() else { return false };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().any(|stream| {
        let stream = stream.try_clone_to_owned().and_then(|stream| File::from(stream).metadata());
        stream.is_ok_and(|stream| file.is_file() && (stream.dev(), stream.ino()) == (file.dev(), file.ino()))
    })
}

/// Returns the command that prints the help or the version.
///
/// # Errors
/// The option that asks for it has a value.
pub fn print<O>(parser: &mut Parser, text: &str) -> Result<Command<O>, UsageError> {
    parser.next()?; // fails if there is a value
    Ok(Command::Print(text.into()))
}

/// Parses a whole number from 1 to `max`.
///
/// # Errors
/// The error says why the text is not such a number.
pub fn positive_number<T>(text: &str, max: T) -> Result<T, String>
where
    T: Copy + FromStr + PartialOrd + From<u8> + fmt::Display,
{
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("expected a whole number".into());
    }
    match text.parse::<T>() {
        Ok(number) if number < T::from(1) => Err("must not be zero".into()),
        Ok(number) if number <= max => Ok(number),
        _ => Err(format!("must be at most {max}")),
    }
}

/// Parses an address.
///
/// # Errors
/// The error names the argument, and says what is wrong with it.
pub fn address(text: &OsStr, family: Family) -> Result<AddressArgument, UsageError> {
    AddressArgument::parse(text, family).map_err(|why| bad_address(&Escaped(text.as_bytes()), &why))
}

/// Parses one of several addresses. `previous` is the argument before it. If both together are
/// `HOST PORT`, the error shows the right form.
///
/// # Errors
/// The error names the argument, and says what is wrong with it.
pub fn address_after(
    previous: Option<&OsString>,
    text: &OsStr,
    family: Family,
) -> Result<AddressArgument, UsageError> {
    let pair = previous.filter(|host| AddressArgument::is_host_only(host));
    match pair.map(|host| (host, AddressArgument::parse_pair(host, text, family))) {
        Some((host, Ok(pair))) if text.as_bytes().iter().all(u8::is_ascii_digit) => {
            let typed = [host.as_bytes(), b" ", text.as_bytes()].concat();
            Err(bad_address(&Escaped(&typed), &format!("these are two addresses; type {pair}")))
        }
        _ => address(text, family),
    }
}

/// Parses the only address of a client, which may be two arguments: `HOST PORT`.
///
/// # Errors
/// The error names the argument, and says what is wrong with it.
pub fn client_address(arguments: &[OsString], family: Family) -> Result<AddressArgument, UsageError> {
    match arguments {
        [] => Ok(AddressArgument::default_for(family)),
        [text] => address(text, family),
        [host, port] if AddressArgument::is_host_only(host) => {
            AddressArgument::parse_pair(host, port, family).map_err(|why| {
                bad_address(&Escaped(&[host.as_bytes(), b" ", port.as_bytes()].concat()), &why)
            })
        }
        [.., last] => {
            if let [first, _] = arguments {
                address(first, family)?; // `localhost: 7777` lacks its port
            }
            Err(Error::UnexpectedArgument(last.clone()).into())
        }
    }
}

/// Rejects `-4` and `-6` if they have no effect, because every address is a Unix socket.
///
/// # Errors
/// The error names the option.
pub fn check_family(family: Family, addresses: &[AddressArgument]) -> Result<(), UsageError> {
    let option = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
        Family::Any | Family::Source(_) => return Ok(()),
    };
    if addresses.is_empty() || !addresses.iter().all(AddressArgument::is_unix) {
        return Ok(());
    }
    Err(UsageError(format!("option '{option}' cannot be used with a Unix socket")))
}

fn bad_address(text: &dyn fmt::Display, why: &str) -> UsageError {
    UsageError(format!("bad address '{text}': {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_after_a_host_is_taken_for_its_port() {
        let host = OsString::from("localhost");
        let after = |text: &str| address_after(Some(&host), OsStr::new(text), Family::Any);
        assert!(after("http").is_ok());
        let error = after("80").unwrap_err().to_string();
        assert!(error.contains("these are two addresses; type localhost:80"), "{error}");
    }
}
