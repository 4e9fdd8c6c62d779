//! Fuzzing the parsers: what a user types, and what a browser sends to the laboratory.

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use echo_reactor::Address;
use echo_reactor::cli::{self, AddressArgument, Escaped, Family};

#[path = "../../src/bin/echo-server/command.rs"]
mod command;
#[allow(dead_code)] // only its parser is used
#[path = "../../examples/lab/http.rs"]
mod http;

use command::Command;

/// The kinds of input, by the first byte.
pub fn run(data: &[u8]) {
    let Some((&kind, text)) = data.split_first() else { return };
    match kind % 4 {
        0 => addresses(text),
        1 => values(text),
        2 => commands(text),
        _ => requests(text),
    }
}

fn addresses(text: &[u8]) {
    let words: Vec<OsString> =
        text.split(|&byte| byte == b' ').map(|word| OsString::from_vec(word.to_vec())).collect();
    for family in [Family::Any, Family::V4, Family::V6] {
        let one = AddressArgument::parse(OsStr::from_bytes(text), family);
        let pair = cli::client_address(&words, family).map_err(|error| error.to_string());
        for address in [one, pair] {
            match address {
                // What is printed can be typed again. (A path may hold bytes that are printed as
                // others.)
                Ok(address) if !address.is_unix() => {
                    let shown = address.to_string();
                    let again = AddressArgument::parse(OsStr::new(&shown), family).unwrap();
                    assert_eq!((again.is_unix(), again.to_string()), (false, shown));
                }
                Ok(_) => {}
                Err(error) => assert_explains(&error),
            }
        }
        let second = words.get(1).unwrap_or(&words[0]);
        let after = cli::address_after(words.first(), second, family).map_err(|error| error.to_string());
        after.map_or_else(|error| assert_explains(&error), |_| ());
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(address) = cli::source_address(text) {
        assert_eq!(cli::source_address(&address.to_string()), Ok(address));
    }
    if let Ok(Address::Tcp(address)) = text.parse() {
        assert_eq!(address.to_string().parse(), Ok(Address::Tcp(address)));
    }
}

fn values(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    for max in [1, 1024, usize::MAX >> 20] {
        if let Ok(size) = explained(cli::nonzero_size(text, max)) {
            assert!((1..=max << 20).contains(&size), "{size}");
            assert_eq!(cli::nonzero_size(&size.to_string(), max), Ok(size));
        }
    }
    if let Ok(number) = explained(cli::positive_number(text, u16::MAX)) {
        assert_eq!(text.trim_start_matches('0'), number.to_string());
    }
    let duration = explained(cli::duration(text));
    if let Ok(duration) = duration {
        assert!(duration <= Duration::from_secs(1_000_000_000) && !text.starts_with('-'), "{duration:?}");
    }
    let is_positive = duration.as_ref().is_ok_and(|duration| !duration.is_zero());
    assert_eq!(explained(cli::nonzero_duration(text)).is_ok(), is_positive);
}

fn commands(line: &[u8]) {
    match Command::parse(line) {
        Ok(Command::Say(text)) => assert!(!text.is_empty() && line.ends_with(text)),
        Ok(Command::Close(number)) => assert!(!number.contains(char::is_whitespace) && !number.is_empty()),
        Ok(_) => {}
        Err(error) => assert!(!error.contains(char::is_control), "{error:?}"),
    }
}

/// A request may arrive in any pieces, with the same result.
fn requests(data: &[u8]) {
    let whole = http::parse(data);
    for end in (0..data.len()).step_by(data.len() / 16 + 1) {
        match http::parse(&data[..end]) {
            Ok(None) => {}
            Ok(Some((request, used))) => {
                assert!(used <= end && request.body.len() <= 1024);
                assert_eq!(whole, Ok(Some((request, used))), "complete after {end} bytes");
            }
            Err(_) => assert!(whole.is_err(), "refused after {end} bytes, but the whole is accepted"),
        }
    }
}

/// As `cli::report` prints it, an error is one line of text that cannot control a terminal.
fn assert_explains(error: &str) {
    let printed = Escaped(error.as_bytes()).to_string();
    assert!(!printed.is_empty() && !printed.contains(char::is_control), "{printed:?}");
}

fn explained<T: Debug>(result: Result<T, String>) -> Result<T, String> {
    result.inspect_err(|error| assert_explains(error))
}
