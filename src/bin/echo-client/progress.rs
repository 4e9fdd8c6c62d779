//! `--progress`: what has moved, and how fast, on stderr.
//!
//! Invariant: where nothing else uses the terminal, it is one line that is redrawn; otherwise it is plain
//! lines, one a second at most. Nothing is shown while nothing moves.
//!
//! Read next: `transfer.rs`, where the figures come from.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::Reactor;
use echo_reactor::cli::{window_size, write_stderr};

use crate::screen::obeys_escapes;
use crate::transfer::Moved;

/// To the first column, and clear the row.
const REDRAW: &str = "\r\x1b[K";

pub struct Progress {
    moved: Rc<Cell<Moved>>,
    shown: Moved,
    shown_at: Instant,
}

impl Progress {
    /// Shows the progress from now on.
    pub fn start(reactor: &mut Reactor, moved: Rc<Cell<Moved>>) {
        let shown_at = reactor.now();
        Progress { moved, shown: Moved::default(), shown_at }.schedule(reactor);
    }

    fn schedule(mut self, reactor: &mut Reactor) {
        let period = Duration::from_millis(if is_redrawn() { 100 } else { 1000 });
        reactor.call_later(period, move |reactor| {
            self.show(reactor.now());
            self.schedule(reactor);
        });
    }

    fn show(&mut self, now: Instant) {
        let moved = self.moved.get();
        if moved != self.shown {
            let seconds = (now - self.shown_at).as_secs_f64();
            let line = line(moved, moved.received - self.shown.received, seconds);
            if is_redrawn() {
                let columns = window_size(&io::stderr()).0;
                write_stderr(format_args!("{REDRAW}{line:.columns$}"));
            } else {
                write_stderr(format_args!("{line}\n"));
            }
        }
        self.shown = moved;
        self.shown_at = now;
    }
}

/// Whether nothing else uses the terminal.
fn is_redrawn() -> bool {
    let used = io::stdin().is_terminal() || io::stdout().is_terminal();
    io::stderr().is_terminal() && !used && obeys_escapes()
}

/// The last line: the whole, and the rate from beginning to end.
pub fn finish(moved: Moved, took: Duration) {
    let start = if is_redrawn() { REDRAW } else { "" };
    write_stderr(format_args!("{start}{}\n", line(moved, moved.received, took.as_secs_f64())));
}

fn line(moved: Moved, bytes: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let rate = bytes as f64 / seconds.max(1e-3);
    #[allow(clippy::cast_precision_loss)]
    let (sent, received) = (moved.sent as f64, moved.received as f64);
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
    #[test]
    fn amounts_are_short() {
        assert_eq!(super::amount(0.0), "0 B");
        assert_eq!(super::amount(1023.0), "1023 B");
        assert_eq!(super::amount(1536.0), "1.5 KiB");
        assert_eq!(super::amount(8_f64 * 1024.0 * 1024.0 * 1024.0), "8.0 GiB");
    }
}
