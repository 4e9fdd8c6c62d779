//! What `echo-server` is told.
//!
//! Read next: `main.rs`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use echo_reactor::Serve;
use echo_reactor::cli::{
    AddressArgument, Command, UsageError, Verbosity, address, duration, nonzero_duration, nonzero_size,
    number, unexpected, value,
};

const HELP: &str = "\
Sends back, on each connection, the bytes it receives.

Usage: echo-server [OPTIONS] [ADDR]...

An ADDR is HOST:PORT, [IPV6]:PORT, :PORT (every interface) or unix:PATH.
Without one it is 127.0.0.1:7777, or the sockets that systemd hands over
(LISTEN_FDS). With port 0 the kernel chooses the port.

Options:
  -c, --max-connections N      at N open connections, stop accepting; later
                               peers wait [as many as descriptors allow]
  -i, --idle-timeout DURATION  close a connection on which no byte has moved,
                               either way, for this long [never]
  -b, --buffer SIZE            stop reading from a peer that has this much
                               echo outstanding [64K]
      --backlog N              the kernel's queue of connections that are not
                               accepted yet [4096]
      --reuse-port             share the port with other processes that do
  -g, --grace DURATION         at SIGTERM or SIGINT, how long open connections
                               may take to finish [5]
      --console                read commands from standard input: help, stats,
                               list, say TEXT, close ID, quit
      --spin DURATION          poll for this long before sleeping: CPU for
                               latency [0]
      --timeline FILE          write what the loop does as Chrome trace events,
                               for Perfetto
  -v, --verbose                say more (-vv, -vvv: still more)
  -q, --quiet                  say errors alone
  -h, --help                   show this
  -V, --version                show the version

A DURATION is in seconds (0.5, 30), or has a unit (250ms, 2m). A SIZE is in
bytes, or in K, M or G. SIGUSR1 has it print a line of statistics.
";

pub struct Options {
    pub addresses: Vec<AddressArgument>,
    pub serve: Serve,
    pub idle_timeout: Option<Duration>,
    pub buffer: usize,
    pub grace: Duration,
    pub console: bool,
    pub spin: Duration,
    pub timeline: Option<PathBuf>,
    pub verbosity: Verbosity,
}

pub fn parse(mut parser: Parser) -> Result<Command<Options>, UsageError> {
    let mut options = Options {
        addresses: Vec::new(),
        serve: Serve::default(),
        idle_timeout: None,
        buffer: 64 * 1024,
        grace: Duration::from_secs(5),
        console: false,
        spin: Duration::ZERO,
        timeline: None,
        verbosity: Verbosity::default(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('c') | Arg::Long("max-connections") => {
                options.serve.max_connections = Some(value(&mut parser, "--max-connections", count)?);
            }
            Arg::Short('i') | Arg::Long("idle-timeout") => {
                options.idle_timeout = Some(value(&mut parser, "--idle-timeout", nonzero_duration)?);
            }
            Arg::Short('b') | Arg::Long("buffer") => {
                options.buffer = value(&mut parser, "--buffer", nonzero_size)?;
            }
            Arg::Long("backlog") => options.serve.backlog = value(&mut parser, "--backlog", number::<u16>)?,
            Arg::Long("reuse-port") => options.serve.reuse_port = true,
            Arg::Short('g') | Arg::Long("grace") => options.grace = value(&mut parser, "--grace", duration)?,
            Arg::Long("console") => options.console = true,
            Arg::Long("timeline") => options.timeline = Some(parser.value()?.into()),
            Arg::Long("spin") => options.spin = value(&mut parser, "--spin", duration)?,
            Arg::Short('v') | Arg::Long("verbose") => options.verbosity.louder(),
            Arg::Short('q') | Arg::Long("quiet") => options.verbosity.quiet(),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Print(HELP.into())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Command::Print(concat!("echo-server ", env!("CARGO_PKG_VERSION"), "\n").into()));
            }
            Arg::Value(text) => options.addresses.push(address(&text)?),
            other => return Err(unexpected(other)),
        }
    }
    Ok(Command::Run(options))
}

fn count(text: &str) -> Result<usize, String> {
    Ok(number::<u32>(text)? as usize)
}
