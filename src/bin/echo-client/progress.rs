//! Counts the bytes that are sent and received, and shows the counts on stderr with `--progress`.
//!
//! Invariant: if nothing else uses the terminal, the counts are one line that is redrawn. Otherwise
//! they are plain lines, at most one per second. The first line is shown when the client is
//! connected. After that, nothing is shown and no timer runs while no byte moves.
//!
//! Read next: `transfer.rs`, which counts.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::Reactor;
use echo_reactor::cli::{supports_escapes, window_size, write_stderr};

/// Moves the cursor to the first column, and clears the row.
const REDRAW: &str = "\r\x1b[K";

/// The byte counts so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteCounts {
    /// Read from stdin.
    pub sent: u64,
    /// Received from the server.
    pub received: u64,
}

pub struct Progress {
    counts: Cell<ByteCounts>,
    /// Whether `--progress` is set.
    is_shown: bool,
    /// Whether a timer that shows the counts is running.
    is_scheduled: Cell<bool>,
    /// When the first connection was established.
    began: Cell<Option<Instant>>,
}

impl Progress {
    pub fn new(is_shown: bool) -> Rc<Self> {
        let (counts, is_scheduled) = (Cell::default(), Cell::new(false));
        Rc::new(Progress { counts, is_shown, is_scheduled, began: Cell::new(None) })
    }

    /// Records that a connection is established. Shows the first line at once, so that a server
    /// that sends nothing is noticed.
    pub fn connected(&self, reactor: &Reactor) {
        if self.began.get().is_none() {
            self.began.set(Some(reactor.now()));
            if self.is_shown {
                show(&line(ByteCounts::default(), ByteCounts::default(), Duration::ZERO));
            }
        }
    }

    pub fn counts(&self) -> ByteCounts {
        self.counts.get()
    }

    /// Counts bytes. The first bytes after a pause start the timer.
    pub fn add(self: &Rc<Self>, reactor: &mut Reactor, sent: usize, received: usize) {
        let before = self.counts.get();
        let (sent, received) = (before.sent + sent as u64, before.received + received as u64);
        self.counts.set(ByteCounts { sent, received });
        if self.is_shown && !self.is_scheduled.replace(true) {
            self.clone().schedule(reactor, before);
        }
    }

    fn schedule(self: Rc<Self>, reactor: &mut Reactor, shown: ByteCounts) {
        let (period, since) = (Duration::from_millis(if is_redrawn() { 100 } else { 1000 }), reactor.now());
        reactor.call_later(period, move |reactor| {
            let counts = self.counts.get();
            if counts == shown {
                self.is_scheduled.set(false);
                return;
            }
            show(&line(counts, shown, reactor.now() - since));
            self.schedule(reactor, counts);
        });
    }

    /// Shows the last line: the total, and the average rate.
    pub fn finish(&self) {
        if self.is_shown {
            let start = if is_redrawn() { REDRAW } else { "" };
            let took = self.began.get().map_or(Duration::ZERO, |began| began.elapsed());
            let line = line(self.counts.get(), ByteCounts::default(), took);
            write_stderr(format_args!("{start}{line} on average\n"));
        }
    }
}

/// Returns whether the line is redrawn, because nothing else uses the terminal.
fn is_redrawn() -> bool {
    let used = io::stdin().is_terminal() || io::stdout().is_terminal();
    io::stderr().is_terminal() && !used && supports_escapes()
}

fn show(line: &str) {
    if is_redrawn() {
        let columns = window_size(&io::stderr()).0;
        write_stderr(format_args!("{REDRAW}{line:.columns$}"));
    } else {
        write_stderr(format_args!("{line}\n"));
    }
}

/// Returns the counts, and the rate of the bytes that were received since `before`.
fn line(counts: ByteCounts, before: ByteCounts, took: Duration) -> String {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let rate = (counts.received - before.received) as f64 / took.as_secs_f64().max(1e-3);
    #[allow(clippy::cast_precision_loss)]
    let (sent, received) = (counts.sent as f64, counts.received as f64);
    format!("{} sent, {} echoed, {}/s", amount(sent), amount(received), amount(rate))
}

fn amount(mut number: f64) -> String {
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1024.0 {
            return if unit == "B" { format!("{number:.0} {unit}") } else { format!("{number:.1} {unit}") };
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!(amount(0.0), "0 B");
        assert_eq!(amount(1023.0), "1023 B");
        assert_eq!(amount(1024.0), "1.0 KiB");
        assert_eq!(amount(1536.0), "1.5 KiB");
        assert_eq!(amount(8_f64 * 1024.0 * 1024.0 * 1024.0), "8.0 GiB");
    }

    #[test]
    fn rate_counts_only_the_bytes_since_the_last_line() {
        let before = ByteCounts { sent: 2048, received: 1024 };
        let counts = ByteCounts { sent: 16_384, received: 11_264 };
        let expected = "16.0 KiB sent, 11.0 KiB echoed, 5.0 KiB/s";
        assert_eq!(line(counts, before, Duration::from_secs(2)), expected);
    }
}
