//! A file of trace events, as Chrome has them: one JSON object for each, in an array.
//!
//! Invariant: the file is a valid JSON array after every write, because each write puts the new events and
//! the bracket behind them in the place of the last bracket.
//!
//! Read next: `mod.rs`, which says what the events are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The most that is written.
pub const LIMIT: u64 = 64 << 20;

/// So much is kept before it is written, or what has come in so much time.
const CHUNK: usize = 64 << 10;
const PERIOD: Duration = Duration::from_millis(10);

/// The end of the file.
const BRACKET: &[u8] = b"\n]\n";

pub(super) struct TraceFile {
    file: File,
    start: Instant,
    /// Where the last bracket begins.
    end: u64,
    pending: Vec<u8>,
    written: Instant,
}

/// Whether there is room for more.
pub(super) enum Room {
    Enough,
    Full,
}

impl TraceFile {
    /// Creates the file, or makes it empty. Its first event names a track.
    pub fn create(path: &Path, track: u64, name: &str) -> io::Result<Self> {
        let (file, now) = (File::create(path)?, Instant::now());
        let mut file =
            TraceFile { file, start: now, end: 0, pending: Vec::with_capacity(2 * CHUNK), written: now };
        file.pending.extend_from_slice(b"[\n");
        file.name_track(track, name);
        file.write()?;
        Ok(file)
    }

    /// Writes what is pending.
    pub fn write(&mut self) -> io::Result<()> {
        let length = self.pending.len() as u64;
        self.pending.extend_from_slice(BRACKET);
        self.file.write_all_at(&self.pending, self.end)?;
        self.end += length;
        self.pending.clear();
        Ok(())
    }

    /// The same, if it is time to.
    pub fn write_if_due(&mut self, now: Instant) -> io::Result<Room> {
        if self.pending.len() >= CHUNK || now.duration_since(self.written) >= PERIOD {
            self.written = now;
            self.write()?;
        }
        Ok(if self.end + 2 * CHUNK as u64 > LIMIT { Room::Full } else { Room::Enough })
    }

    /// Begins an event: `phase` is `X` for a span, `B` and `E` for a beginning and an end, `M` for a name. What
    /// follows, to [`close`](Self::close), belongs to it.
    pub fn begin(&mut self, phase: char, track: u64, name: &str) {
        // The first event of all has none before it.
        self.text(if self.end > 0 { ",\n{\"ph\":\"" } else { "{\"ph\":\"" });
        self.pending.push(phase as u8);
        self.number("\",\"pid\":1,\"tid\":", track);
        self.text(",\"name\":\"");
        self.text(name);
        self.text("\"");
    }

    pub fn at(&mut self, at: Instant) {
        self.time(",\"ts\":", at.saturating_duration_since(self.start));
    }

    /// A span from here to there.
    pub fn span(&mut self, track: u64, name: &str, began: Instant, ended: Instant) {
        self.begin('X', track, name);
        self.at(began);
        self.time(",\"dur\":", ended.saturating_duration_since(began));
    }

    /// What is JSON already.
    pub fn text(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
    }

    /// A number, behind its key.
    pub fn number(&mut self, key: &str, number: u64) {
        self.text(key);
        decimal(&mut self.pending, number);
    }

    /// Whatever writes itself to bytes.
    pub fn written_by(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.pending);
    }

    /// Ends as many objects.
    pub fn close(&mut self, objects: usize) {
        self.pending.resize(self.pending.len() + objects, b'}');
    }

    pub fn name_track(&mut self, track: u64, name: &str) {
        self.begin('M', track, "thread_name");
        self.text(",\"args\":{\"name\":\"");
        self.text(name);
        self.text("\"");
        self.close(2);
    }

    /// In microseconds, to the nanosecond.
    fn time(&mut self, key: &str, time: Duration) {
        #[allow(clippy::cast_possible_truncation)] // 584 years
        let nanoseconds = time.as_nanos() as u64;
        self.number(key, nanoseconds / 1000);
        let rest = nanoseconds % 1000;
        let padding = usize::from(rest < 100) + usize::from(rest < 10);
        self.number([".", ".0", ".00"][padding], rest);
    }
}

/// Appends a number, without the machinery of `fmt`: there are several in each event.
fn decimal(to: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        #[allow(clippy::cast_possible_truncation)] // a digit
        let digit = (number % 10) as u8;
        digits[start] = b'0' + digit;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn numbers_are_decimal() {
        let mut text = Vec::new();
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            decimal(&mut text, number);
            text.push(b' ');
        }
        assert_eq!(text, b"0 7 10 1234567890 18446744073709551615 ");
    }
}
