//! The options of `echo-client`.
//!
//! Read next: `main.rs`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use echo_reactor::ConnectOptions;
use echo_reactor::cli::{
    AddressArgument, Command, UsageError, Verbosity, address, duration, nonzero_duration, unexpected, value,
};

const HELP: &str = include_str!("help.txt");

#[allow(clippy::struct_excessive_bools)] // one for each flag
pub struct Options {
    pub address: AddressArgument,
    pub connect: ConnectOptions,
    pub timeout: Option<Duration>,
    pub reconnect: bool,
    pub check: bool,
    pub progress: bool,
    pub raw: bool,
    pub spin: Duration,
    pub timeline: Option<PathBuf>,
    pub verbosity: Verbosity,
}

pub fn parse(mut parser: Parser) -> Result<Command<Options>, UsageError> {
    let mut given = None;
    let mut connect = ConnectOptions::default();
    let mut timeout = None;
    let mut spin = Duration::ZERO;
    let mut timeline = None;
    let (mut reconnect, mut check, mut progress, mut raw) = (false, false, false, false);
    let mut verbosity = Verbosity::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("connect-timeout") => {
                connect.timeout = value(&mut parser, "--connect-timeout", nonzero_duration)?;
            }
            Arg::Short('w') | Arg::Long("timeout") => {
                timeout = Some(value(&mut parser, "--timeout", nonzero_duration)?);
            }
            Arg::Short('r') | Arg::Long("reconnect") => reconnect = true,
            Arg::Long("check") => check = true,
            Arg::Long("progress") => progress = true,
            Arg::Long("raw") => raw = true,
            Arg::Long("timeline") => timeline = Some(parser.value()?.into()),
            Arg::Long("spin") => spin = value(&mut parser, "--spin", duration)?,
            Arg::Short('v') | Arg::Long("verbose") => verbosity.increase(),
            Arg::Short('q') | Arg::Long("quiet") => verbosity.quiet(),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Print(HELP.into())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Command::Print(concat!("echo-client ", env!("CARGO_PKG_VERSION"), "\n").into()));
            }
            Arg::Value(text) if given.is_none() => given = Some(address(&text)?),
            other => return Err(unexpected(other)),
        }
    }
    let address = given.unwrap_or_default();
    Ok(Command::Run(Options {
        address,
        connect,
        timeout,
        reconnect,
        check,
        progress,
        raw,
        spin,
        timeline,
        verbosity,
    }))
}
