//! The options of `echo-server`.
//!
//! Read next: `main.rs`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use echo_reactor::ListenOptions;
use echo_reactor::cli::{
    AddressArgument, Command, Family, UsageError, Verbosity, address_after, check_family, duration, file,
    nonzero_duration, nonzero_size, option_name, positive_number, print, unexpected, value,
};

const HELP: &str = include_str!("help.txt");

/// The maximum of `-c`: the kernel's default limit of descriptors per process, `fs.nr_open`.
const MAX_CONNECTIONS: u32 = 1 << 20;

/// The largest high-water mark in MiB.
const MAX_BUFFER: usize = 1024;

pub struct Options {
    pub addresses: Vec<AddressArgument>,
    pub family: Family,
    pub listen: ListenOptions,
    pub idle_timeout: Option<Duration>,
    pub buffer: usize,
    pub grace: Duration,
    pub console: bool,
    pub step: bool,
    pub spin: Duration,
    pub timeline: Option<PathBuf>,
    pub verbosity: Verbosity,
}

pub fn parse(mut parser: Parser) -> Result<Command<Options>, UsageError> {
    let mut addresses = Vec::new();
    let mut options = Options {
        addresses: Vec::new(),
        family: Family::Any,
        listen: ListenOptions::default(),
        idle_timeout: None,
        buffer: 64 * 1024,
        grace: Duration::from_secs(5),
        console: false,
        step: false,
        spin: Duration::ZERO,
        timeline: None,
        verbosity: Verbosity::default(),
    };
    while let Some(argument) = parser.next()? {
        let name = option_name(&argument);
        match argument {
            Arg::Short('c') | Arg::Long("max-connections") => {
                options.listen.max_connections =
                    Some(value(&mut parser, &name, |text| positive_number(text, MAX_CONNECTIONS))? as usize);
            }
            Arg::Short('i') | Arg::Long("idle-timeout") => {
                options.idle_timeout = Some(value(&mut parser, &name, nonzero_duration)?);
            }
            Arg::Short('b') | Arg::Long("buffer") => {
                options.buffer = value(&mut parser, &name, |text| nonzero_size(text, MAX_BUFFER))?;
            }
            Arg::Long("backlog") => {
                options.listen.backlog = value(&mut parser, &name, |text| positive_number(text, u16::MAX))?;
            }
            Arg::Long("reuse-port") => options.listen.reuse_port = true,
            Arg::Short('g') | Arg::Long("grace") => options.grace = value(&mut parser, &name, duration)?,
            Arg::Long("console") => options.console = true,
            Arg::Long("step") => options.step = true,
            Arg::Long("timeline") => options.timeline = Some(file(&mut parser, &name)?),
            Arg::Long("spin") => options.spin = value(&mut parser, &name, duration)?,
            Arg::Short('v') | Arg::Long("verbose") => options.verbosity.increase(),
            Arg::Short('q') | Arg::Long("quiet") => options.verbosity.quiet(),
            Arg::Short('h') | Arg::Long("help") => return print(&mut parser, HELP),
            Arg::Short('V') | Arg::Long("version") => {
                return print(&mut parser, concat!("echo-server ", env!("CARGO_PKG_VERSION"), "\n"));
            }
            Arg::Short('4') => options.family = Family::V4,
            Arg::Short('6') => options.family = Family::V6,
            Arg::Value(text) => addresses.push(text),
            other => return Err(unexpected(other)),
        }
    }
    options.listen.ipv6_only = options.family == Family::V6;
    for (index, text) in addresses.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| &addresses[index]);
        options.addresses.push(address_after(previous, text, options.family)?);
    }
    check_family(options.family, &options.addresses)?;
    if options.console && options.step {
        return Err(UsageError(
            "option '--step' cannot be used with --console: both read standard input".into(),
        ));
    }
    Ok(Command::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_help() {
        let Ok(Command::Run(options)) = parse(Parser::from_args(&[] as &[&str])) else { panic!() };
        assert_eq!(options.buffer, 65_536);
        assert_eq!(options.grace, Duration::from_secs(5));
        assert_eq!(options.listen.backlog, 4096);
        for default in ["[64K]", "[5]", "[4096]"] {
            assert!(HELP.contains(default), "{default}");
        }
    }
}
