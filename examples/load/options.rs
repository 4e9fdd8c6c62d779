//! What `load` is told.

use std::time::Duration;

use echo_reactor::cli::{
    AddressArgument, Command, Family, UsageError, address, duration, nonzero_duration, nonzero_size,
    positive_number, unexpected, value,
};
use lexopt::{Arg, Parser};

const HELP: &str = "\
Puts load on an echo server, checks every byte that comes back, and tells
how many messages it echoed and how long each took.

Usage: load [OPTIONS] [ADDR]

Options:
  -m, --mode MODE          ping-pong: a message at a time on each connection
                           stream: as many as fit into a window of 256 KiB
                           churn: connect, one message, reset [ping-pong]
  -n, --connections N      connections that talk [50]
  -s, --size SIZE          bytes in a message [64; 64K with stream]
  -d, --duration DURATION  how long to measure [10]
      --warm-up DURATION   how long not to measure before that [1]
      --idle N             connections beside these that are silent [0]
      --pid PID            of the server: tell its CPU time and memory, too
      --spin DURATION      poll for this long before sleeping [0]
      --json               print the figures for a program
  -h, --help               show this
";

/// How the connections talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    PingPong,
    Stream,
    Churn,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ping-pong" => Ok(Mode::PingPong),
            "stream" => Ok(Mode::Stream),
            "churn" => Ok(Mode::Churn),
            _ => Err("expected ping-pong, stream or churn".into()),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::PingPong => "ping-pong",
            Mode::Stream => "stream",
            Mode::Churn => "churn",
        }
    }
}

pub struct Options {
    pub address: AddressArgument,
    pub mode: Mode,
    pub connections: usize,
    pub size: usize,
    pub duration: Duration,
    pub warm_up: Duration,
    pub idle: usize,
    pub pid: Option<u32>,
    pub spin: Duration,
    pub json: bool,
}

pub fn parse(mut parser: Parser) -> Result<Command<Options>, UsageError> {
    let mut options = Options {
        address: AddressArgument::default_for(Family::Any),
        mode: Mode::PingPong,
        connections: 50,
        size: 0,
        duration: Duration::from_secs(10),
        warm_up: Duration::from_secs(1),
        idle: 0,
        pid: None,
        spin: Duration::ZERO,
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('m') | Arg::Long("mode") => options.mode = value(&mut parser, "--mode", Mode::parse)?,
            Arg::Short('n') | Arg::Long("connections") => {
                options.connections = value(&mut parser, "--connections", count)?;
            }
            Arg::Short('s') | Arg::Long("size") => {
                options.size = value(&mut parser, "--size", |text| match nonzero_size(text)? {
                    size if size <= 1 << 30 => Ok(size),
                    _ => Err("more than 1G".into()),
                })?;
            }
            Arg::Short('d') | Arg::Long("duration") => {
                options.duration = value(&mut parser, "--duration", nonzero_duration)?;
            }
            Arg::Long("warm-up") => options.warm_up = value(&mut parser, "--warm-up", duration)?,
            Arg::Long("idle") => options.idle = value(&mut parser, "--idle", count)?,
            Arg::Long("pid") => options.pid = Some(value(&mut parser, "--pid", positive_number)?),
            Arg::Long("spin") => options.spin = value(&mut parser, "--spin", duration)?,
            Arg::Long("json") => options.json = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Print(HELP.into())),
            Arg::Value(text) => options.address = address(&text, Family::Any)?,
            other => return Err(unexpected(other)),
        }
    }
    if options.size == 0 {
        options.size = if options.mode == Mode::Stream { 64 << 10 } else { 64 };
    }
    Ok(Command::Run(options))
}

fn count(text: &str) -> Result<usize, String> {
    Ok(positive_number::<u32>(text)? as usize)
}
