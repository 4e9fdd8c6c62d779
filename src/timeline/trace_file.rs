//! A file of Chrome trace events: one JSON object each, in an array.
//!
//! Invariant: the file is a valid JSON array after every write, because each write replaces the last
//! bracket with the new events and a new bracket.
//!
//! Read next: `mod.rs`, which decides what the events are.

use std::fmt::Arguments;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The size in bytes at which a timeline stops.
pub const LIMIT: u64 = 64 << 20;

/// Flush after this many bytes or this much time.
const FLUSH_SIZE: usize = 64 << 10;
const FLUSH_PERIOD: Duration = Duration::from_millis(10);

/// The end of the file.
const BRACKET: &[u8] = b"\n]\n";

#[derive(Debug)]
pub(super) struct TraceFile {
    file: File,
    start: Instant,
    /// The offset of the last bracket.
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
    /// Creates the file, or empties it. Its first event names a track.
    pub fn create(path: &Path, track: u64, name: &str) -> io::Result<Self> {
        let (file, now) = (File::create(path)?, Instant::now());
        let mut file =
            TraceFile { file, start: now, end: 0, pending: Vec::with_capacity(2 * FLUSH_SIZE), written: now };
        file.append(format_args!("[\n"));
        file.name_track(track, format_args!("{name}"));
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

    /// Does the same, if it is time.
    pub fn write_if_due(&mut self, now: Instant) -> io::Result<Room> {
        if self.pending.len() >= FLUSH_SIZE || now.duration_since(self.written) >= FLUSH_PERIOD {
            self.written = now;
            self.write()?;
        }
        Ok(if self.end + 2 * FLUSH_SIZE as u64 > LIMIT { Room::Full } else { Room::Enough })
    }

    /// Names a track.
    pub fn name_track(&mut self, track: u64, name: Arguments<'_>) {
        // The first event of all has none before it.
        let separator = if self.end > 0 { ",\n" } else { "" };
        self.append(format_args!(
            "{separator}{{\"ph\":\"M\",\"pid\":1,\"tid\":{track},\"name\":\"thread_name\",\"args\":{{\"name\":\"{name}\"}}}}"
        ));
    }

    /// Adds an event: `phase` is `B` for a begin event, `E` for an end event. `args` are JSON members.
    pub fn event(&mut self, phase: char, track: u64, name: Arguments<'_>, at: Instant, args: Arguments<'_>) {
        let at = self.microseconds(at);
        self.append(format_args!(
            ",\n{{\"ph\":\"{phase}\",\"pid\":1,\"tid\":{track},\"name\":\"{name}\",\"ts\":{at:.3},\"args\":{{{args}}}}}"
        ));
    }

    /// Adds a span.
    pub fn span(&mut self, track: u64, name: &str, began: Instant, ended: Instant, args: Arguments<'_>) {
        let (at, end) = (self.microseconds(began), self.microseconds(ended));
        let duration = end - at;
        self.append(format_args!(
            ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{track},\"name\":\"{name}\",\"ts\":{at:.3},\"dur\":{duration:.3},\"args\":{{{args}}}}}"
        ));
    }

    fn append(&mut self, text: Arguments<'_>) {
        // Writing to a Vec cannot fail.
        let _ = self.pending.write_fmt(text);
    }

    fn microseconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64() * 1e6
    }
}
