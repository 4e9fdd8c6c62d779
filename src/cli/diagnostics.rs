//! What the programs say to a person: on stderr through `log`, and a few lines on stdout.
//!
//! Invariant: saying something never ends the program and never blocks it. What cannot be written at
//! once (the stream is closed, its reader is gone, the disk or the pipe is full, the terminal is
//! stopped) is dropped.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use log::{Level, LevelFilter};

use crate::{Descriptor, Direction};

static STDOUT: OnceLock<Option<Descriptor>> = OnceLock::new();
static STDERR: OnceLock<Option<Descriptor>> = OnceLock::new();

/// How much is said: `-q`, nothing, `-v`, `-vv`, `-vvv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verbosity(i8);

impl Verbosity {
    /// `-q`: errors alone.
    pub fn quiet(&mut self) {
        self.0 = -1;
    }

    /// One more `-v`.
    pub fn louder(&mut self) {
        self.0 = self.0.max(0).saturating_add(1);
    }

    fn level(self) -> LevelFilter {
        match self.0 {
            ..0 => LevelFilter::Error,
            0 => LevelFilter::Warn,
            1 => LevelFilter::Info,
            2 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        }
    }
}

/// Opens both streams, and has `log` write to stderr, behind the name of the program. `RUST_LOG`, where it is set, decides what.
pub fn init_logging(program: &'static str, verbosity: Verbosity) {
    // Now, because to open one takes a descriptor, and what will have to be said may be that there is none.
    open(&STDERR, &io::stderr());
    open(&STDOUT, &io::stdout());
    let mut builder = env_logger::Builder::new();
    builder.filter_level(verbosity.level());
    if std::env::var_os("RUST_LOG").is_some() {
        builder.parse_default_env();
    }
    builder.format(move |line, record| match record.level() {
        Level::Warn => writeln!(line, "{program}: warning: {}", record.args()),
        Level::Error | Level::Info => writeln!(line, "{program}: {}", record.args()),
        Level::Debug => writeln!(line, "{program}: debug: {}", record.args()),
        Level::Trace => writeln!(line, "{program}: trace: {}", record.args()),
    });
    builder.target(env_logger::Target::Pipe(Box::new(Stderr)));
    // It fails only where there is a logger already, which is then the one to use.
    let _ = builder.try_init();
}

/// Says one line on stderr, whatever the log level.
pub fn complain(program: &str, what: impl Display) {
    write_now(&STDERR, &io::stderr(), format!("{program}: {what}\n").as_bytes());
}

/// Writes on stderr, as it is.
pub fn say(text: impl Display) {
    write_now(&STDERR, &io::stderr(), text.to_string().as_bytes());
}

/// Writes on stdout.
pub fn print(text: impl Display) {
    write_now(&STDOUT, &io::stdout(), text.to_string().as_bytes());
}

struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_now(&STDERR, &io::stderr(), bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open<'a>(cell: &'a OnceLock<Option<Descriptor>>, stream: &impl AsFd) -> Option<&'a Descriptor> {
    cell.get_or_init(|| Descriptor::open(stream, Direction::Write).ok()).as_ref()
}

fn write_now(cell: &OnceLock<Option<Descriptor>>, stream: &impl AsFd, mut bytes: &[u8]) {
    let Some(descriptor) = open(cell, stream) else { return };
    while let Ok(count @ 1..) = descriptor.write(bytes) {
        bytes = &bytes[count..];
        if bytes.is_empty() {
            break;
        }
    }
}
