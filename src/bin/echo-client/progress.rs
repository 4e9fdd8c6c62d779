//! `--progress`: what has moved, and how fast, on stderr.
//!
//! Invariant: on a terminal it is one line that is drawn over; elsewhere plain lines, one a second at
//! most. Nothing is drawn when nothing has moved.
//!
//! Read next: `transfer.rs`, where the figures come from.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::Reactor;
use echo_reactor::cli::write_stderr;

use crate::transfer::Moved;

pub struct Progress {
    moved: Rc<Cell<Moved>>,
    drawn: Moved,
    drawn_at: Instant,
    on_terminal: bool,
}

impl Progress {
    /// Draws from now on.
    pub fn start(reactor: &mut Reactor, moved: Rc<Cell<Moved>>) {
        let now = reactor.now();
        let on_terminal = io::stderr().is_terminal();
        Progress { moved, drawn: Moved::default(), drawn_at: now, on_terminal }.next(reactor);
    }

    fn next(mut self, reactor: &mut Reactor) {
        let period = Duration::from_millis(if self.on_terminal { 100 } else { 1000 });
        reactor.call_later(period, move |reactor| {
            self.draw(reactor.now());
            self.next(reactor);
        });
    }

    fn draw(&mut self, now: Instant) {
        let moved = self.moved.get();
        if moved != self.drawn {
            let seconds = (now - self.drawn_at).as_secs_f64();
            self.show(moved, moved.received - self.drawn.received, seconds);
        }
        self.drawn = moved;
        self.drawn_at = now;
    }

    fn show(&self, moved: Moved, bytes: u64, seconds: f64) {
        let line = line(moved, bytes, seconds);
        if self.on_terminal {
            write_stderr(format_args!("\r\x1b[K{line}"));
        } else {
            write_stderr(format_args!("{line}\n"));
        }
    }
}

/// The last line: the whole, and the rate from beginning to end.
pub fn finish(moved: Moved, took: Duration) {
    let start = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
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
