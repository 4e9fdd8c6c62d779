//! Parses a line of the console.
//!
//! Read next: `console.rs`, which executes it.

use std::str;

use echo_reactor::cli::Escaped;

/// A command of the operator.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// An empty line.
    Nothing,
    Help,
    Stats,
    List,
    /// Any bytes but a newline.
    Say(&'a [u8]),
    Close(&'a str),
    Quit,
}

impl<'a> Command<'a> {
    /// Parses a line without its newline.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        let line = line.trim_ascii_start();
        let text = line.strip_prefix(b"say ").or_else(|| line.strip_prefix(b"say\t"));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            return Ok(Command::Say(text));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match str::from_utf8(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>()[..] {
            ["help"] => Ok(Command::Help),
            ["stats"] => Ok(Command::Stats),
            ["list"] => Ok(Command::List),
            ["close", number] => Ok(Command::Close(number)),
            ["quit"] => Ok(Command::Quit),
            ["say"] => Err("usage: say TEXT".into()),
            ["close", ..] => Err("usage: close ID (see list)".into()),
            [command @ ("help" | "stats" | "list" | "quit"), ..] => {
                Err(format!("{command} takes no argument"))
            }
            [] if line.is_empty() => Ok(Command::Nothing),
            _ => Err(format!("unknown command '{}' (see help)", Escaped(line))),
        }
    }
}
