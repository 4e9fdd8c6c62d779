//! Prints messages for a person: on stderr through `log`, and a few lines on stdout.
//!
//! Invariant: printing never ends the program and never blocks it. Text that cannot be written at
//! once is dropped: the stream is closed, its reader is gone, the disk or pipe is full, or the
//! terminal is stopped.
//!
//! Read next: `../stdio/descriptor.rs`, how a stream is written without blocking.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter};

use super::{ErrorText, Escaped};
use crate::stdio::write_shared;
use crate::{Descriptor, Direction, sys};

static STDOUT: OnceLock<Option<Descriptor>> = OnceLock::new();
static STDERR: OnceLock<Option<Descriptor>> = OnceLock::new();
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);
static STDOUT_MAY_CLOSE: AtomicBool = AtomicBool::new(false);
/// Whether the terminal's last row has text from stdout and no newline yet.
static ROW_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Turns text for stderr into the text to write there now. See [`route_stderr`].
pub type Route = Box<dyn FnMut(String) -> String>;

thread_local! {
    static ROUTE: RefCell<Option<Route>> = const { RefCell::new(None) };
}

/// How much is logged: from `-q` to `-vvv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verbosity(i8);

impl Verbosity {
    /// Applies `-q`: only errors are logged.
    pub fn quiet(&mut self) {
        self.0 = -1;
    }

    /// Applies one more `-v`.
    pub fn increase(&mut self) {
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

/// Opens both streams, and makes `log` write to stderr, with the name of the program before each
/// message. If `RUST_LOG` is set, it decides what is logged.
pub fn init_logging(program: &'static str, verbosity: Verbosity) {
    // Open the streams now: each takes a descriptor, and later no descriptor may be left.
    open(&STDERR, &io::stderr());
    open(&STDOUT, &io::stdout());
    let mut builder = env_logger::Builder::new();
    builder.filter_level(verbosity.level());
    let spec = std::env::var_os("RUST_LOG").unwrap_or_default();
    let (valid, invalid) = split_directives(&spec.to_string_lossy());
    builder.parse_filters(&valid);
    builder.format(move |line, record| {
        let kind = match record.level() {
            Level::Error | Level::Info => "",
            Level::Warn => "warning: ",
            Level::Debug => "debug: ",
            // The table of turns has no prefix.
            Level::Trace => {
                return line
                    .write_all(format!("{}\n", Escaped(record.args().to_string().as_bytes())).as_bytes());
            }
        };
        line.write_all(one_line(program, format_args!("{kind}{}", record.args())).as_bytes())
    });
    builder.target(env_logger::Target::Pipe(Box::new(Stderr)));
    // This fails only if there is a logger already, and then that one is used.
    let _ = builder.try_init();
    if !invalid.is_empty() {
        log::warn!("ignoring '{invalid}' in RUST_LOG: expected LEVEL or TARGET=LEVEL");
    }
}

/// Splits the directives of `RUST_LOG` into those that `env_logger` accepts and those that it
/// rejects. `env_logger` would report the rejected ones on stderr itself, and that could block or
/// panic.
fn split_directives(spec: &str) -> (String, String) {
    let (directives, pattern) = spec.split_once('/').map_or((spec, None), |(all, it)| (all, Some(it)));
    let (valid, mut invalid): (Vec<_>, Vec<_>) =
        directives.split(',').partition(|one| match one.split('=').map(str::trim).collect::<Vec<_>>()[..] {
            [_] | [_, ""] => true,
            [_, level] => level.parse::<LevelFilter>().is_ok(),
            _ => false,
        });
    let mut valid = valid.join(",");
    match pattern {
        Some(pattern) if pattern.contains('/') => invalid.push(pattern),
        Some(pattern) => valid = format!("{valid}/{pattern}"),
        None => {}
    }
    (valid, invalid.join(","))
}

/// Prints one line on stderr at every log level.
pub fn report(program: &str, what: impl Display) {
    write_stderr(one_line(program, what));
}

/// Formats a message as one line, and escapes its control characters.
fn one_line(program: &str, what: impl Display) -> String {
    format!("{program}: {}\n", Escaped(what.to_string().as_bytes()))
}

/// Writes text on stderr: unchanged, or as the [route](route_stderr) returns it. It begins in a row
/// of its own.
pub fn write_stderr(text: impl Display) {
    let begin = if ROW_IS_OPEN.swap(false, Ordering::Relaxed) { "\n" } else { "" };
    let text = format!("{begin}{text}");
    let text = ROUTE.with_borrow_mut(|route| match route {
        Some(route) => route(text),
        None => text,
    });
    let _ = write_now(&STDERR, &io::stderr(), text.as_bytes());
}

/// Moves the cursor below the `^C` that the terminal has echoed, so that the next line begins in
/// the first column.
pub fn end_echoed_row() {
    ROW_IS_OPEN.store(false, Ordering::Relaxed);
    if io::stderr().is_terminal() {
        let _ = write_now(&STDERR, &io::stderr(), b"\n"); // a route would insert an empty row
    }
}

/// Records whether text on stdout ends in the middle of a row, on a terminal that is stderr, too.
pub(super) fn set_row_open(is_open: bool) {
    ROW_IS_OPEN.store(is_open, Ordering::Relaxed);
}

/// Passes all text that this thread writes on stderr, including the log, through `route`. On a
/// terminal, the route makes room for the text, or keeps it for later.
pub fn route_stderr(route: Option<Route>) {
    ROUTE.set(route);
}

/// Writes text on stdout unchanged. See [`stdout_failed`] for what is dropped.
pub fn write_stdout(text: impl Display) {
    if let Err(error) = try_write_stdout(text) {
        stdout_failed(&error);
    }
}

/// Reports the first error of stdout, after which the program runs on and ends with status 1. It is
/// no error if the reader of stdout is slow, or if the reader ends when the program is stopped:
/// Ctrl-C ends `tee(1)`, too.
pub fn stdout_failed(error: &io::Error) {
    let is_expected = error.kind() == ErrorKind::WouldBlock
        || is_reader_gone(error) && (STDOUT_MAY_CLOSE.load(Ordering::Relaxed) || is_ending());
    if !is_expected && !STDOUT_FAILED.swap(true, Ordering::Relaxed) {
        log::error!("cannot write standard output: {}", ErrorText(error));
    }
}

/// Returns whether an error of stdout means that its reader has closed it. If stdout is a socket and
/// its reader has not read everything, that is a reset.
#[must_use]
pub fn is_reader_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Returns whether a signal has asked the program to end.
pub(super) fn is_ending() -> bool {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().any(sys::was_raised)
}

/// Declares that the program is ending, so that the reader of stdout may end, too.
pub fn let_stdout_close() {
    STDOUT_MAY_CLOSE.store(true, Ordering::Relaxed);
}

/// Returns whether [`stdout_failed`] has reported an error.
pub(super) fn has_stdout_failed() -> bool {
    STDOUT_FAILED.load(Ordering::Relaxed)
}

/// Writes text on stdout. Returns an error if some of it was dropped.
pub(super) fn try_write_stdout(text: impl Display) -> io::Result<()> {
    sys::check_was_open(&io::stdout())?;
    write_now(&STDOUT, &io::stdout(), text.to_string().as_bytes())
}

struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_stderr(String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open<'a>(cell: &'a OnceLock<Option<Descriptor>>, stream: &impl AsFd) -> Option<&'a Descriptor> {
    cell.get_or_init(|| Descriptor::open(stream, Direction::Write).ok()).as_ref()
}

fn write_now(cell: &OnceLock<Option<Descriptor>>, stream: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = match open(cell, stream) {
            Some(descriptor) => descriptor.write(bytes),
            None => write_shared(stream, bytes), // there was no descriptor left to open the stream
        };
        match written {
            Ok(count @ 1..) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::split_directives;

    #[test]
    fn directives_that_env_logger_rejects_are_split_off() {
        for (spec, valid, invalid) in [
            ("", "", ""),
            ("debug", "debug", ""),
            ("a=b=c", "", "a=b=c"),
            ("info,a=b=c,b::c=trace,d= ,e=loud", "info,b::c=trace,d= ", "a=b=c,e=loud"),
            ("info/text", "info/text", ""),
            ("info/a/b", "info", "a/b"),
        ] {
            assert_eq!(split_directives(spec), (valid.into(), invalid.into()), "{spec}");
        }
    }
}
