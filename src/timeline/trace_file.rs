//! A file of Chrome trace events: one JSON object each, in an array.
//!
//! Invariant: the file is a valid JSON array after every write, because each write replaces the
//! last bracket with the new events and a new bracket. If a write fails, a bracket is written
//! behind the last event that fits. Its place in the file is allocated, so this works on a full
//! disk, too. Two writers would overwrite each other's events, so the file is locked.
//!
//! Read next: `mod.rs`, which decides what the events are.

use std::fmt::{self, Arguments, Display};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use crate::sys;

/// A timeline stops when its file has at least this size in bytes.
pub const LIMIT: u64 = 64 << 20;

/// Flush after this many bytes or this much time.
const FLUSH_SIZE: usize = 64 << 10;
const FLUSH_PERIOD: Duration = Duration::from_millis(10);

/// The end of the file.
const BRACKET: &[u8] = b"\n]\n";

#[derive(Debug)]
pub(super) struct TraceFile {
    file: File,
    /// The same moment on two clocks: as an `Instant`, whose zero is unspecified, and on the
    /// kernel's monotonic clock, which all processes share. So the timelines of a server and its
    /// client can be compared.
    start: (Instant, Duration),
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
    /// Creates the file, or empties it. Its first events name the process and a track. It is
    /// an error if another timeline is being written to the file.
    pub fn create(path: &Path, process: &str, track: u64, name: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // A FIFO without a reader is an error. It would block otherwise.
        let options = options.write(true).create(true).truncate(false).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path)?;
        if file.metadata()?.is_file() {
            match sys::try_lock(&file) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let why = "another timeline is being written to it; choose another file";
                    return Err(io::Error::new(ErrorKind::ResourceBusy, why));
                }
                _ => file.set_len(0)?, // not every file system has locks
            }
        }
        let (now, pending) = (Instant::now(), Vec::with_capacity(2 * FLUSH_SIZE));
        let mut file =
            TraceFile { file, start: (now, sys::monotonic_time()?), end: 0, pending, written: now };
        file.append(format_args!("[\n"));
        file.metadata("process_name", track, format_args!("{process}"));
        file.append(format_args!(",\n"));
        file.metadata("thread_name", track, format_args!("{name}"));
        file.write()?;
        Ok(file)
    }

    /// Writes what is pending.
    pub fn write(&mut self) -> io::Result<()> {
        let mut kept = self.pending.len();
        self.pending.extend_from_slice(BRACKET);
        let written = self.file.write_all_at(&self.pending, self.end);
        if written.is_err() {
            // Keep the events that fit. The bracket takes the place of the next one.
            let room = self.file.metadata()?.len().saturating_sub(self.end + BRACKET.len() as u64);
            let mut starts = self.pending.windows(2).take(usize::try_from(room).unwrap_or(0) + 1);
            kept = starts.rposition(|text| text == b",\n").unwrap_or(0);
            let end = self.end + kept as u64;
            self.file.write_all_at(BRACKET, end)?;
            self.file.set_len(end + BRACKET.len() as u64)?;
        }
        self.pending.clear();
        self.end += kept as u64;
        written
    }

    /// Writes what is pending, if it is at least [`FLUSH_SIZE`] or the last write was
    /// [`FLUSH_PERIOD`] ago. Returns whether there is room for more.
    pub fn write_if_due(&mut self, now: Instant) -> io::Result<Room> {
        if self.pending.len() >= FLUSH_SIZE || now.duration_since(self.written) >= FLUSH_PERIOD {
            self.written = now;
            self.write()?;
        }
        Ok(if self.end >= LIMIT { Room::Full } else { Room::Enough })
    }

    /// Names a track.
    pub fn name_track(&mut self, track: u64, name: Arguments<'_>) {
        self.append(format_args!(",\n"));
        self.metadata("thread_name", track, name);
    }

    fn metadata(&mut self, what: &str, track: u64, name: Arguments<'_>) {
        let pid = process::id();
        self.append(format_args!(
            "{{\"ph\":\"M\",\"pid\":{pid},\"tid\":{track},\"name\":\"{what}\",\"args\":{{\"name\":\"{name}\"}}}}"
        ));
    }

    /// Adds a span that has ended. `args` are JSON members.
    pub fn span(
        &mut self,
        track: u64,
        name: impl Display,
        began: Instant,
        ended: Instant,
        args: Arguments<'_>,
    ) {
        let (start, time) = self.start;
        let at = Microseconds(time + began.saturating_duration_since(start));
        let duration = Microseconds(ended.saturating_duration_since(began.max(start)));
        let pid = process::id();
        self.append(format_args!(
            ",\n{{\"ph\":\"X\",\"pid\":{pid},\"tid\":{track},\"name\":\"{name}\",\"ts\":{at},\"dur\":{duration},\"args\":{{{args}}}}}"
        ));
    }

    fn append(&mut self, text: Arguments<'_>) {
        // Writing to a Vec cannot fail.
        let _ = self.pending.write_fmt(text);
    }
}

/// A time in the unit of the format. Its three decimals are nanoseconds, so spans that nest in time
/// also nest in the file.
struct Microseconds(Duration);

impl Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_micros(), self.0.subsec_nanos() % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_after_the_period_or_when_there_are_many() {
        let path = std::env::temp_dir().join(format!("period-{}.json", process::id()));
        let mut file = TraceFile::create(&path, "process", 1, "loop").unwrap();
        let start = file.written;
        let mut size_after = |events: usize, passed: Duration| {
            for _ in 0..events {
                file.span(1, "event", start, start, format_args!(""));
            }
            file.write_if_due(start + passed).unwrap();
            std::fs::metadata(&path).unwrap().len()
        };
        let empty = size_after(0, Duration::ZERO);
        assert_eq!(size_after(1, FLUSH_PERIOD / 2), empty);
        let with_one = size_after(0, FLUSH_PERIOD);
        assert!(with_one > empty);
        assert_eq!(size_after(1, FLUSH_PERIOD), with_one);
        assert!(size_after(FLUSH_SIZE / 50, FLUSH_PERIOD) > with_one + FLUSH_SIZE as u64);
        std::fs::remove_file(path).unwrap();
    }
}
