//! The options of `load`.

use std::time::Duration;

use echo_reactor::cli::{
    AddressArgument, Command, Family, UsageError, address, duration, nonzero_duration, nonzero_size,
    positive_number, unexpected, value,
};
use lexopt::{Arg, Parser};

const HELP: &str = "\
Generates load for an echo server, checks every byte of the echo, and reports
rates and latencies.

Usage: load [OPTIONS] [ADDR]

Options:
  -m, --mode MODE          ping-pong: one message at a time per connection
                           stream: a window of 256 KiB per connection
                           churn: connect, send one message, reset
                           [ping-pong]
  -n, --connections N      active connections [50]
  -s, --size SIZE          message size [64; 64K with stream]
  -d, --duration DURATION  how long to measure [10]
      --warm-up DURATION   how long to run before measuring [1]
      --idle N             additional connections that send nothing [0]
      --pid PID            process id of the server: also report its CPU time
                           and memory
      --spin DURATION      poll this long before sleeping [0]
      --json               print the report as a JSON object
  -h, --help               print this help

Examples:
  load -n 100 -d 5 localhost:7777  measure 100 connections for 5 seconds
  load -m stream -n 1 :7777        measure the throughput of one connection
";

/// What each connection does.
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
                options.size = value(&mut parser, "--size", |text| nonzero_size(text, 1024))?;
            }
            Arg::Short('d') | Arg::Long("duration") => {
                options.duration = value(&mut parser, "--duration", nonzero_duration)?;
            }
            Arg::Long("warm-up") => options.warm_up = value(&mut parser, "--warm-up", duration)?,
            Arg::Long("idle") => options.idle = value(&mut parser, "--idle", count)?,
            Arg::Long("pid") => {
                options.pid = Some(value(&mut parser, "--pid", |text| positive_number(text, u32::MAX))?);
            }
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
    Ok(positive_number(text, u32::MAX)? as usize)
}
