//! What `echo-client` is told.
//!
//! Read next: `main.rs`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use echo_reactor::Connect;
use echo_reactor::cli::{
    AddressArgument, Command, UsageError, Verbosity, address, duration, nonzero_duration, unexpected, value,
};

const HELP: &str = "\
Sends standard input to an echo server and writes what comes back on
standard output. When the input ends it waits for the rest of the echo.

Usage: echo-client [OPTIONS] [ADDR]

The ADDR is HOST:PORT, [IPV6]:PORT, :PORT (this machine) or unix:PATH.
Without one it is 127.0.0.1:7777.

Options:
      --connect-timeout DURATION  give up connecting to one address after this
                                  long [10]
  -w, --timeout DURATION          give up when no byte has moved, either way,
                                  for this long [never]
  -r, --reconnect                 when the connection fails or breaks, connect
                                  again and go on: what has not come back is
                                  sent again
      --check                     compare what comes back with what was sent
                                  instead of writing it
      --progress                  show on stderr what has moved, and how fast
      --spin DURATION             poll for this long before sleeping: CPU for
                                  latency [0]
      --timeline FILE             write what the loop does as Chrome trace
                                  events, for Perfetto
  -v, --verbose                   say more (-vv, -vvv: still more)
  -q, --quiet                     say errors alone
  -h, --help                      show this
  -V, --version                   show the version

A DURATION is in seconds (0.5, 30), or has a unit (250ms, 2m).
Exit status: 0 when all came back; 1 when not; 2 for a wrong option;
128+N when ended by signal N; 141 when the reader of the output is gone.
";

pub struct Options {
    pub address: AddressArgument,
    pub connect: Connect,
    pub timeout: Option<Duration>,
    pub reconnect: bool,
    pub check: bool,
    pub progress: bool,
    pub spin: Duration,
    pub timeline: Option<PathBuf>,
    pub verbosity: Verbosity,
}

pub fn parse(mut parser: Parser) -> Result<Command<Options>, UsageError> {
    let mut given = None;
    let mut connect = Connect::default();
    let mut timeout = None;
    let mut spin = Duration::ZERO;
    let mut timeline = None;
    let (mut reconnect, mut check, mut progress) = (false, false, false);
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
            Arg::Long("timeline") => timeline = Some(parser.value()?.into()),
            Arg::Long("spin") => spin = value(&mut parser, "--spin", duration)?,
            Arg::Short('v') | Arg::Long("verbose") => verbosity.louder(),
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
        spin,
        timeline,
        verbosity,
    }))
}
