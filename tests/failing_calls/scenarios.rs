//! The scenarios: each kind of connection, input and output transfers the same bytes, in pieces.
//! Then `Log::judge` checks what has arrived and what was reported.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use echo_reactor::{Framing, Reactor};

use crate::calls::{Call, Effect, Fault, Occurrence};
use crate::common::{Scratch, noise};
use crate::connections::{Style, connect, serve};
use crate::stdio::{End, input, output};

/// A run that takes longer than this hangs. Without a fault it takes less than a millisecond.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a turn sleeps if the peer's bytes have not arrived yet.
pub const PAUSE: Duration = Duration::from_millis(1);

pub const DATA_SIZE: usize = 2400;
pub const PIECE: usize = DATA_SIZE / 8;

/// Each direction transfers these bytes.
pub static DATA: LazyLock<Vec<u8>> = LazyLock::new(|| noise(DATA_SIZE, 11));

pub struct Scenario {
    pub name: &'static str,
    pub is_tcp: bool,
    /// Faults that lead to the code under test.
    pub always: [Option<Fault>; 2],
    pub run: fn(&Scenario, &Scratch) -> Result<Ending, String>,
}

#[derive(Debug)]
pub enum Ending {
    /// All bytes have arrived, in order.
    Complete,
    /// The error was reported once, and the bytes before it are in order.
    Reported(io::Error),
    /// The listener could not serve the connection, and has closed it.
    Refused,
    /// The listener has stopped.
    Stopped,
}

/// A pipe cannot be reopened, so the flags of its descriptor are shared.
const SHARED: Option<Fault> = always(Call::open64, libc::EACCES);
const NO_PREADV2: Option<Fault> = always(Call::preadv2, libc::EOPNOTSUPP);
const NO_PWRITEV2: Option<Fault> = always(Call::pwritev2, libc::EOPNOTSUPP);

const fn always(call: Call, error: i32) -> Option<Fault> {
    Some(Fault { call, effect: Effect::Error(error), occurrence: Occurrence::Every })
}

macro_rules! scenarios {
    ($($name:literal, $is_tcp:literal, [$first:expr, $second:expr], $run:expr;)*) => {
        pub const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: $name,
            is_tcp: $is_tcp,
            always: [$first, $second],
            run: |scenario, scratch| ending($run(scenario, scratch)),
        }),*];
    };
}

scenarios! {
    "server, protocol, TCP", true, [None, None], |s, d| serve(s, d, Style::Protocol);
    "server, protocol, Unix", false, [None, None], |s, d| serve(s, d, Style::Protocol);
    "server, streams, TCP", true, [None, None], |s, d| serve(s, d, Style::Streams);
    "server, streams, Unix", false, [None, None], |s, d| serve(s, d, Style::Streams);
    "client, protocol, TCP", true, [None, None], |s, d| connect(s, d, Style::Protocol);
    "client, protocol, Unix", false, [None, None], |s, d| connect(s, d, Style::Protocol);
    "client, streams, TCP", true, [None, None], |s, d| connect(s, d, Style::Streams);
    "client, streams, Unix", false, [None, None], |s, d| connect(s, d, Style::Streams);
    "input, pipe", false, [None, None], |_, d| input(d, End::Pipe, Framing::Bytes);
    "input, pipe, lines", false, [None, None], |_, d| input(d, End::Pipe, Framing::Lines);
    "input, shared pipe", false, [SHARED, None], |_, d| input(d, End::Pipe, Framing::Bytes);
    "input, shared pipe, lines", false, [SHARED, None], |_, d| input(d, End::Pipe, Framing::Lines);
    "input, shared pipe, poll", false, [SHARED, NO_PREADV2], |_, d| input(d, End::Pipe, Framing::Bytes);
    "input, socket", false, [None, None], |_, d| input(d, End::Socket, Framing::Bytes);
    "input, socket, lines", false, [None, None], |_, d| input(d, End::Socket, Framing::Lines);
    "input, file", false, [None, None], |_, d| input(d, End::File, Framing::Bytes);
    "input, file, lines", false, [None, None], |_, d| input(d, End::File, Framing::Lines);
    "output, pipe", false, [None, None], |_, d| output(d, End::Pipe);
    "output, shared pipe", false, [SHARED, None], |_, d| output(d, End::Pipe);
    "output, shared pipe, poll", false, [SHARED, NO_PWRITEV2], |_, d| output(d, End::Pipe);
    "output, socket", false, [None, None], |_, d| output(d, End::Socket);
    "output, file", false, [None, None], |_, d| output(d, End::File);
}

/// Why a scenario stops early: an error that the library returns, or a broken rule.
pub enum Stop {
    Returned(io::Error),
    Broken(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Returned(error)
    }
}

fn ending(result: Result<Ending, Stop>) -> Result<Ending, String> {
    match result {
        Ok(ending) => Ok(ending),
        Err(Stop::Returned(error)) => Ok(Ending::Reported(error)),
        Err(Stop::Broken(rule)) => Err(rule),
    }
}

/// Runs turns, each with a step of the test before it, until the step returns `true`. A turn that
/// has nothing to do sleeps for `pause`.
pub fn drive(
    reactor: &mut Reactor,
    pause: Duration,
    mut step: impl FnMut(&mut Reactor) -> bool,
) -> Result<(), Stop> {
    let deadline = Instant::now() + LIMIT;
    while !step(reactor) {
        if Instant::now() > deadline {
            return Err(Stop::Broken("it hangs".into()));
        }
        reactor.turn(Some(pause))?;
    }
    Ok(())
}

/// Records the bytes and the reports that our side has received.
#[derive(Default)]
pub struct Log {
    pub received: Vec<u8>,
    /// How it ended: `None` is a graceful end. There must be one.
    pub ends: Vec<Option<io::Error>>,
    pub listener_stopped: bool,
}

pub type SharedLog = Rc<RefCell<Log>>;

impl Log {
    /// An input or output that has ended without an error has ended gracefully.
    pub fn end_unless_failed(&mut self) {
        if self.ends.is_empty() {
            self.ends.push(None);
        }
    }

    /// Judges what was received and reported. `arrived` is what the other side has received.
    pub fn judge(&self, arrived: &[u8]) -> Result<Ending, Stop> {
        let is_prefix = |bytes| DATA.starts_with(bytes);
        if !is_prefix(&self.received) || !is_prefix(arrived) {
            return Err(Stop::Broken("wrong bytes".into()));
        }
        match &self.ends[..] {
            [None] if self.received.len() == DATA_SIZE && arrived.len() == DATA_SIZE => Ok(Ending::Complete),
            [Some(error)] => {
                let plain = || io::Error::new(error.kind(), error.to_string());
                Ok(Ending::Reported(error.raw_os_error().map_or_else(plain, io::Error::from_raw_os_error)))
            }
            ends => Err(Stop::Broken(format!(
                "{ends:?}; {} bytes received, {} arrived",
                self.received.len(),
                arrived.len()
            ))),
        }
    }
}

/// Reads what has arrived. Returns whether nothing more will.
pub fn read_available(from: &mut impl Read, arrived: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => arrived.extend_from_slice(&buffer[..count]),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}
