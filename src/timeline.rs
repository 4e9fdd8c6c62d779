//! A record of what the loop does, to be looked at: Chrome trace events, for Perfetto (`ui.perfetto.dev`) and
//! `chrome://tracing`.
//!
//! ```text
//!   loop            ├── sleep ──┤├─ turn ──────────────────┤├─ sleep ─┤├─ turn ─┤
//!                                 ├ Listener ┤├ Connection ┤           ├ Conn. ─┤
//!   connection 5.0               ├──────────── its life ─────────────────────────
//!                                                   ├─ the peer is behind ─┤
//! ```
//!
//! Invariant: the file is a valid JSON array after every write, because each write puts the new events and
//! the bracket behind them in the place of the last bracket. So a program that is killed leaves a file that
//! can be read, and loses a hundredth of a second. It stops at [`LIMIT`].
//!
//! Read next: `reactor/observe.rs`, where the facts come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::reactor::{Activity, Call, Id, Observer, Run, Sleep, Turn};

/// The most that is written.
pub const LIMIT: u64 = 64 << 20;

/// So much is kept before it is written, or what has come in so much time.
const CHUNK: usize = 64 << 10;
const PERIOD: Duration = Duration::from_millis(10);

/// The end of the file.
const BRACKET: &[u8] = b"\n]\n";

/// The track of the loop. A connection's is its slot above the next one.
const LOOP: u64 = 1;

/// Writes down what it is told, see the module.
///
/// ```
/// use echo_reactor::{Reactor, Timeline};
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("timeline-{}.json", std::process::id()));
/// let mut reactor = Reactor::new()?;
/// reactor.observe(Timeline::create(&path)?);
/// reactor.call_soon(Reactor::stop);
/// reactor.run()?;
/// drop(reactor); // writes the rest
/// assert!(std::fs::read_to_string(&path)?.contains(r#""name":"turn""#));
/// # std::fs::remove_file(path)
/// # }
/// ```
pub struct Timeline {
    file: File,
    start: Instant,
    /// Where the last bracket begins.
    end: u64,
    pending: Vec<u8>,
    written: Instant,
    /// By slot: whose life is open.
    lives: Vec<Option<Life>>,
    /// Names of types without their paths.
    names: Vec<(&'static str, String)>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Recording,
    /// The file is full, or cannot be written.
    Stopped,
}

#[derive(Clone, Copy)]
struct Life {
    id: Id,
    held_up: bool,
    activity: Activity,
}

impl Timeline {
    /// Creates the file, or makes it empty.
    ///
    /// # Errors
    /// Of `open(2)` and `pwrite(2)`: it has to be a file in which one can go back.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let now = Instant::now();
        let mut timeline = Timeline {
            file,
            start: now,
            end: 0,
            pending: Vec::with_capacity(2 * CHUNK),
            written: now,
            lives: Vec::new(),
            names: Vec::new(),
            state: State::Recording,
        };
        timeline.pending.extend_from_slice(b"[\n");
        timeline.name_track(LOOP, "loop");
        timeline.write().inspect_err(|_| timeline.state = State::Stopped)?;
        Ok(timeline)
    }

    fn write(&mut self) -> io::Result<()> {
        let length = self.pending.len() as u64;
        self.pending.extend_from_slice(BRACKET);
        self.file.write_all_at(&self.pending, self.end)?;
        self.end += length;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending, if it is time to.
    fn write_if_due(&mut self, now: Instant) {
        if self.pending.len() < CHUNK && now.duration_since(self.written) < PERIOD {
            return;
        }
        self.written = now;
        if let Err(error) = self.write() {
            log::warn!("cannot write the timeline any more: {error}");
            self.state = State::Stopped;
        } else if self.end + 2 * CHUNK as u64 > LIMIT {
            log::warn!("the timeline is full: {} MiB", LIMIT >> 20);
            self.state = State::Stopped;
        }
    }

    // ---- events

    /// Begins an event: what they all have.
    fn begin(&mut self, phase: u8, track: u64, name: &str) {
        self.pending.extend_from_slice(if self.end > 0 { b",\n" } else { b"" }); // the first one has none before it
        self.pending.extend_from_slice(b"{\"ph\":\"");
        self.pending.push(phase);
        self.pending.extend_from_slice(b"\",\"pid\":1,\"tid\":");
        decimal(&mut self.pending, track);
        self.pending.extend_from_slice(b",\"name\":\"");
        self.pending.extend_from_slice(name.as_bytes());
        self.pending.push(b'"');
    }

    fn time(&mut self, key: &str, time: Duration) {
        self.pending.extend_from_slice(key.as_bytes());
        #[allow(clippy::cast_possible_truncation)] // 584 years
        let nanoseconds = time.as_nanos() as u64;
        decimal(&mut self.pending, nanoseconds / 1000);
        let rest = nanoseconds % 1000;
        #[allow(clippy::cast_possible_truncation)] // digits
        let digits =
            [b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8];
        self.pending.extend_from_slice(&digits);
    }

    fn at(&mut self, at: Instant) {
        self.time(",\"ts\":", at.saturating_duration_since(self.start));
    }

    /// Something that took a while, on the loop's track. What follows goes into its arguments.
    fn span(&mut self, name: &str, began: Instant, ended: Instant) {
        self.pending.extend_from_slice(b",\n{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"name\":\"");
        self.pending.extend_from_slice(name.as_bytes());
        self.pending.push(b'"');
        self.at(began);
        self.time(",\"dur\":", ended.saturating_duration_since(began));
    }

    fn argument(&mut self, key: &str, value: u64) {
        self.pending.extend_from_slice(key.as_bytes());
        decimal(&mut self.pending, value);
    }

    fn end(&mut self) {
        self.pending.push(b'}');
    }

    fn name_track(&mut self, track: u64, name: &str) {
        self.begin(b'M', track, "thread_name");
        self.pending.extend_from_slice(b",\"args\":{\"name\":\"");
        self.pending.extend_from_slice(name.as_bytes());
        self.pending.extend_from_slice(b"\"}}");
    }

    // ---- connections

    fn life(&mut self, id: Id) -> &mut Option<Life> {
        let slot = id.slot();
        if self.lives.len() <= slot {
            self.lives.resize(slot + 1, None);
        }
        &mut self.lives[slot]
    }

    fn open(&mut self, id: Id, activity: Activity, at: Instant) {
        if self.life(id).is_some_and(|life| life.id == id) {
            return;
        }
        *self.life(id) = Some(Life { id, held_up: false, activity });
        let track = track(id);
        self.name_track(track, &format!("connection, slot {}", id.slot()));
        self.begin(b'B', track, &format!("connection {id}"));
        self.at(at);
        self.end();
    }

    /// What a connection has come to: notes whether its peer is behind.
    fn update(&mut self, id: Id, activity: Activity, at: Instant) {
        self.open(id, activity, at);
        let Some(life) = self.life(id) else { return };
        life.activity = activity;
        if life.held_up != activity.held_up {
            life.held_up = activity.held_up;
            self.begin(if activity.held_up { b'B' } else { b'E' }, track(id), "the peer is behind");
            self.at(at);
            if activity.held_up {
                self.argument(",\"args\":{\"buffered\":", activity.buffered as u64);
                self.end();
            }
            self.end();
        }
    }

    fn close(&mut self, id: Id, at: Instant) {
        let Some(life) = self.life(id).take_if(|life| life.id == id) else { return };
        if life.held_up {
            self.begin(b'E', track(id), "the peer is behind");
            self.at(at);
            self.end();
        }
        self.begin(b'E', track(id), &format!("connection {id}"));
        self.at(at);
        self.argument(",\"args\":{\"in\":", life.activity.bytes_in);
        self.argument(",\"out\":", life.activity.bytes_out);
        self.end();
        self.end();
    }

    /// Begins a span that is named for a type, see [`short_name`].
    fn span_of(&mut self, kind: &'static str, began: Instant, ended: Instant) {
        let mut names = std::mem::take(&mut self.names);
        let known = names.iter().position(|(known, _)| std::ptr::eq(*known, kind));
        let index = known.unwrap_or_else(|| {
            names.push((kind, short_name(kind)));
            names.len() - 1
        });
        self.span(&names[index].1, began, ended);
        self.names = names;
    }
}

impl Observer for Timeline {
    fn slept(&mut self, sleep: &Sleep) {
        if self.state == State::Recording {
            self.span("sleep", sleep.began, sleep.ended);
            self.argument(",\"args\":{\"events\":", sleep.events as u64);
            self.end();
            self.end();
        }
    }

    fn ran(&mut self, run: &Run) {
        if self.state == State::Stopped {
            return;
        }
        self.span_of(run.kind, run.began, run.ended);
        self.pending.extend_from_slice(b",\"args\":{\"id\":\"");
        decimal(&mut self.pending, run.id.slot() as u64);
        self.pending.push(b'.');
        decimal(&mut self.pending, run.id.generation().into());
        self.pending.extend_from_slice(b"\",\"ready\":\"");
        run.ready.append_names(&mut self.pending);
        self.pending.push(b'"');
        if let Some((before, after)) = run.activity {
            self.argument(",\"in\":", after.bytes_in - before.bytes_in);
            self.argument(",\"out\":", after.bytes_out - before.bytes_out);
            if after.buffered > 0 {
                self.argument(",\"buffered\":", after.buffered as u64);
            }
        }
        self.end();
        self.end();
        if let Some((_, after)) = run.activity {
            self.update(run.id, after, run.ended);
        }
    }

    fn called(&mut self, call: &Call) {
        if self.state == State::Recording {
            self.span(if call.by_timer { "timer" } else { "call" }, call.began, call.ended);
            self.end();
        }
    }

    fn added(&mut self, id: Id, _: &'static str, activity: Option<Activity>, at: Instant) {
        if self.state == State::Recording
            && let Some(activity) = activity
        {
            self.open(id, activity, at);
        }
    }

    fn removed(&mut self, id: Id, at: Instant) {
        if self.state == State::Recording {
            self.close(id, at);
        }
    }

    fn turned(&mut self, turn: &Turn) {
        if self.state == State::Recording {
            self.span("turn", turn.began, turn.ended);
            self.argument(",\"args\":{\"number\":", turn.number);
            self.end();
            self.end();
            self.write_if_due(turn.ended);
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if self.state == State::Recording {
            // Lives that go on end here, so that each that began has its end.
            let open: Vec<Id> = self.lives.iter().flatten().map(|life| life.id).collect();
            let now = Instant::now();
            for id in open {
                self.close(id, now);
            }
            if let Err(error) = self.write() {
                log::warn!("cannot write the end of the timeline: {error}");
            }
        }
    }
}

fn track(id: Id) -> u64 {
    LOOP + 1 + id.slot() as u64
}

/// The name of a type without the paths in it.
#[must_use]
pub fn short_name(kind: &str) -> String {
    let mut name = String::new();
    for part in kind.split_inclusive(['<', '>', ',', ' ', '(', ')', '&']) {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    name.replace(['"', '\\'], "'")
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
    use super::*;

    #[test]
    fn numbers_and_names_are_short() {
        let mut text = Vec::new();
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            decimal(&mut text, number);
            text.push(b' ');
        }
        assert_eq!(text, b"0 7 10 1234567890 18446744073709551615 ");
        assert_eq!(short_name("a::b::Connection<c::Echo>"), "Connection<Echo>");
        assert_eq!(
            short_name("a::Watch<mio::TcpStream, b::f::{{closure}}>"),
            "Watch<TcpStream, {{closure}}>"
        );
    }
}
