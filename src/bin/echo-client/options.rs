//! The options of `echo-client`.
//!
//! Read next: `main.rs`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use echo_reactor::ConnectOptions;
use echo_reactor::cli::{
    AddressArgument, Command, Family, UsageError, Verbosity, check_family, client_address, duration, file,
    nonzero_duration, nonzero_size, option_name, positive_number, print, source_address, unexpected, value,
};

use crate::ping::PingOptions;

const HELP: &str = include_str!("help.txt");

/// How long `--ping` waits for an echo if there is no `-w`.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest message in MiB, which is limited because a message is built in memory.
const MAX_MESSAGE: usize = 64;

#[allow(clippy::struct_excessive_bools)] // one for each flag
pub struct Options {
    pub address: AddressArgument,
    pub connect: ConnectOptions,
    pub timeout: Option<Duration>,
    pub reconnect: bool,
    pub check: bool,
    pub progress: bool,
    pub raw: bool,
    pub ping: Option<PingOptions>,
    pub spin: Duration,
    pub timeline: Option<PathBuf>,
    pub verbosity: Verbosity,
}

pub fn parse(mut parser: Parser) -> Result<Command<Options>, UsageError> {
    let (mut arguments, mut family) = (Vec::new(), Family::Any);
    let mut connect = ConnectOptions::default();
    let mut timeout = None;
    let mut spin = Duration::ZERO;
    let mut timeline = None;
    let (mut reconnect, mut check, mut progress, mut raw) = (false, false, false, false);
    let (mut ping, mut only_with_ping, mut never_with_ping) = (false, None, None);
    let (mut size, mut interval, mut count, mut json) = (64, Duration::from_secs(1), None, false);
    let mut verbosity = Verbosity::default();
    while let Some(argument) = parser.next()? {
        let name = option_name(&argument);
        match argument {
            Arg::Long("connect-timeout") => {
                connect.timeout = value(&mut parser, &name, nonzero_duration)?;
            }
            Arg::Short('w') | Arg::Long("timeout") => {
                timeout = Some(value(&mut parser, &name, nonzero_duration)?);
            }
            Arg::Short('r') | Arg::Long("reconnect") => reconnect = true,
            Arg::Long("check") => {
                never_with_ping = Some("--check");
                check = true;
            }
            Arg::Long("progress") => {
                never_with_ping = Some("--progress");
                progress = true;
            }
            Arg::Long("ping") => ping = true,
            Arg::Short('s') => {
                only_with_ping = Some("-s");
                size = value(&mut parser, &name, |text| nonzero_size(text, MAX_MESSAGE))?;
            }
            Arg::Short('i') => {
                only_with_ping = Some("-i");
                interval = value(&mut parser, &name, duration)?;
            }
            Arg::Short('c') => {
                only_with_ping = Some("-c");
                count = Some(value(&mut parser, &name, |text| positive_number(text, u64::MAX))?);
            }
            Arg::Long("json") => {
                only_with_ping = Some("--json");
                json = true;
            }
            Arg::Long("raw") => {
                never_with_ping = Some("--raw");
                raw = true;
            }
            Arg::Long("timeline") => timeline = Some(file(&mut parser, &name)?),
            Arg::Long("spin") => spin = value(&mut parser, &name, duration)?,
            Arg::Short('v') | Arg::Long("verbose") => verbosity.increase(),
            Arg::Short('q') | Arg::Long("quiet") => verbosity.quiet(),
            Arg::Short('h') | Arg::Long("help") => return print(&mut parser, HELP),
            Arg::Short('V') | Arg::Long("version") => {
                return print(&mut parser, concat!("echo-client ", env!("CARGO_PKG_VERSION"), "\n"));
            }
            Arg::Short('4') => family = Family::V4,
            Arg::Short('6') => family = Family::V6,
            Arg::Long("source") => connect.source = Some(value(&mut parser, &name, source_address)?),
            Arg::Value(text) => arguments.push(text),
            other => return Err(unexpected(other)),
        }
    }
    if let Some(source) = connect.source {
        if !family.includes(source.ip()) {
            return Err(UsageError(format!("option '--source' needs an {}", family.name())));
        }
        family = Family::Source(source.ip());
    }
    match (ping, only_with_ping, never_with_ping) {
        (false, Some(option), _) => return Err(UsageError(format!("option '{option}' needs --ping"))),
        (true, _, Some(option)) => {
            return Err(UsageError(format!("option '{option}' cannot be used with --ping")));
        }
        _ => {}
    }
    if check && raw {
        return Err(UsageError("option '--raw' cannot be used with --check: no echo is shown".into()));
    }
    let address = client_address(&arguments, family)?;
    if address.has_port_zero() {
        return Err(UsageError(format!("bad address '{address}': nobody can connect to port 0")));
    }
    if connect.source.is_some() && address.is_unix() {
        return Err(UsageError("option '--source' cannot be used with a Unix socket".into()));
    }
    check_family(family, std::slice::from_ref(&address))?;
    Ok(Command::Run(Options {
        address,
        connect,
        timeout: timeout.or(ping.then_some(ECHO_TIMEOUT)),
        reconnect,
        check,
        progress,
        raw,
        ping: ping.then_some(PingOptions { size, interval, count, json }),
        spin,
        timeline,
        verbosity,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ping_has_a_timeout_by_default() {
        for (arguments, expected) in [
            (&["--ping"][..], Some(10)),
            (&["--ping", "-w", "3"], Some(3)),
            (&[], None),
            (&["-w", "3"], Some(3)),
        ] {
            let Ok(Command::Run(options)) = parse(Parser::from_args(arguments)) else {
                panic!("{arguments:?}")
            };
            assert_eq!(options.timeout, expected.map(Duration::from_secs), "{arguments:?}");
        }
    }
}
