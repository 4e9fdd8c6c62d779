//! Records what the loop does as Chrome trace events, which Perfetto (`ui.perfetto.dev`) and
//! `chrome://tracing` display.
//!
//! ```text
//!   loop            ├── sleep ──┤├─ turn ──────────────────┤├─ sleep ─┤├─ turn ─┤
//!                                 ├ Listener ┤├ Connection ┤           ├ Conn. ─┤
//!   connection 5.0               ├──────────── its life ─────────────────────────
//!                                                   ├─ the peer is behind ─┤
//! ```
//!
//! A span is a bar with a start and an end. A track is a row of spans.
//!
//! Invariant: spans on a track nest or are disjoint. A span is written when it ends, so every span
//! in the file has its end, whatever happens to the program or the disk. If the program is killed,
//! the file lacks at most the spans that were open, and those of the last 10 ms in which the loop
//! was awake. The timeline stops at [`LIMIT`].
//!
//! Read next: `trace_file.rs`, how it is written; `../reactor/observe.rs`, where the data comes
//! from.

mod trace_file;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use trace_file::LIMIT;

use crate::net::{ErrorText, Escaped};
use crate::reactor::Id;
use crate::reactor::observe::{CallbackEnd, DispatchEnd, IoStats, Observer, Origin, PollEnd, TurnEnd};
use trace_file::{Room, TraceFile};

/// The number of the loop's track. The track of a connection is `LOOP + 1` plus its slot.
const LOOP: u64 = 1;

/// An observer that writes a timeline, see the module.
///
/// ```
/// use echo_reactor::{Reactor, Timeline};
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("timeline-{}.json", std::process::id()));
/// let mut reactor = Reactor::new()?;
/// reactor.add_observer(Timeline::create(&path)?);
/// reactor.call_soon(Reactor::stop);
/// reactor.run()?;
/// drop(reactor); // writes the rest
/// assert!(std::fs::read_to_string(&path)?.contains(r#""name":"turn""#));
/// # std::fs::remove_file(path)
/// # }
/// ```
#[derive(Debug)]
pub struct Timeline {
    path: PathBuf,
    /// `None` after the file has become full, or a write has failed.
    file: Option<TraceFile>,
    /// The open connections, indexed by slot.
    lives: Vec<Option<Life>>,
    /// Type names, and their short forms without paths.
    names: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    id: Id,
    began: Instant,
    stats: IoStats,
    /// When the peer fell behind, if it is behind.
    behind: Option<Instant>,
}

impl Timeline {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// Those of `open(2)` and `pwrite(2)`: the file must be seekable. `ResourceBusy`: another
    /// timeline is being written to the file, perhaps by another process.
    pub fn create(path: &Path) -> io::Result<Self> {
        let program = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
        let file = TraceFile::create(path, &json_safe(&name), LOOP, "loop").map_err(|error| {
            if error.raw_os_error() != Some(libc::ESPIPE) {
                return error;
            }
            io::Error::new(error.kind(), "it is a pipe, a socket or a terminal, and not a file")
        })?;
        Ok(Timeline { path: path.to_owned(), file: Some(file), lives: Vec::new(), names: Vec::new() })
    }

    fn life(&mut self, id: Id) -> &mut Option<Life> {
        let slot = id.slot();
        if self.lives.len() <= slot {
            self.lives.resize(slot + 1, None);
        }
        &mut self.lives[slot]
    }

    fn begin_life(&mut self, id: Id, at: Instant) {
        if self.life(id).is_some_and(|life| life.id == id) {
            return;
        }
        *self.life(id) = Some(Life { id, began: at, stats: IoStats::default(), behind: None });
        if let Some(file) = &mut self.file {
            file.name_track(track(id), format_args!("connection, slot {}", id.slot()));
        }
    }

    /// Records the byte counts of a connection, and for how long its peer was behind.
    fn update(&mut self, id: Id, stats: IoStats, at: Instant) {
        self.begin_life(id, at);
        let Some(life) = self.life(id) else { return };
        let buffered = life.stats.buffered;
        life.stats = stats;
        if stats.backpressured {
            life.behind.get_or_insert(at);
        } else if let Some(since) = life.behind.take()
            && let Some(file) = &mut self.file
        {
            file.span(track(id), "the peer is behind", since, at, format_args!("\"buffered\":{buffered}"));
        }
    }

    fn end_life(&mut self, id: Id, at: Instant) {
        let Some(life) = self.life(id).filter(|life| life.id == id) else { return };
        self.update(id, IoStats { backpressured: false, ..life.stats }, at);
        *self.life(id) = None;
        if let Some(file) = &mut self.file {
            file.span(
                track(id),
                format_args!("connection {id}"),
                life.began,
                at,
                format_args!("\"in\":{},\"out\":{}", life.stats.bytes_in, life.stats.bytes_out),
            );
        }
    }

    /// Ends all open spans, and writes the rest.
    fn finish(&mut self, at: Instant) -> io::Result<()> {
        let open: Vec<Id> = self.lives.iter().flatten().map(|life| life.id).collect();
        for id in open {
            self.end_life(id, at);
        }
        self.file.take().map_or(Ok(()), |mut file| file.write())
    }

    fn warn(&self, reason: &dyn std::fmt::Display) {
        let path = Escaped(self.path.as_os_str().as_bytes());
        log::warn!("the timeline {path} ends here: {reason}");
    }
}

impl Observer for Timeline {
    fn on_poll(&mut self, poll: &PollEnd) {
        if let Some(file) = &mut self.file {
            file.span(LOOP, "sleep", poll.began, poll.ended, format_args!("\"events\":{}", poll.events));
        }
    }

    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let Some(file) = &mut self.file else { return };
        let known = self.names.iter().position(|(name, _)| std::ptr::eq(*name, dispatch.type_name));
        let index = known.unwrap_or_else(|| {
            self.names.push((dispatch.type_name, short_name(dispatch.type_name)));
            self.names.len() - 1
        });
        let (id, ready, name) = (dispatch.id, dispatch.ready, &self.names[index].1);
        let (before, after) = dispatch.stats.unwrap_or_default();
        let (bytes_in, bytes_out) = after.moved_since(&before);
        file.span(
            LOOP,
            name,
            dispatch.began,
            dispatch.ended,
            format_args!(
                "\"id\":\"{id}\",\"ready\":\"{ready:?}\",\"in\":{bytes_in},\"out\":{bytes_out},\"buffered\":{}",
                after.buffered,
            ),
        );
        if dispatch.stats.is_some() {
            self.update(id, after, dispatch.ended);
        }
    }

    fn on_callback(&mut self, callback: &CallbackEnd) {
        if let Some(file) = &mut self.file {
            let name = if callback.origin == Origin::Timer { "timer" } else { "call" };
            file.span(LOOP, name, callback.began, callback.ended, format_args!(""));
        }
    }

    fn on_added(&mut self, id: Id, _: &'static str, stats: Option<IoStats>, at: Instant) {
        if stats.is_some() {
            self.begin_life(id, at);
        }
    }

    fn on_removed(&mut self, id: Id, at: Instant) {
        self.end_life(id, at);
    }

    fn on_turn_end(&mut self, turn: &TurnEnd) {
        let Some(file) = &mut self.file else { return };
        file.span(LOOP, "turn", turn.began, turn.ended, format_args!("\"number\":{}", turn.number));
        let result = match file.write_if_due(turn.ended) {
            Ok(Room::Enough) => return,
            Ok(Room::Full) => {
                self.warn(&format_args!("it has {} MiB", LIMIT >> 20));
                self.finish(turn.ended)
            }
            Err(error) => Err(error),
        };
        self.file = None;
        if let Err(error) = result {
            self.warn(&ErrorText(&error));
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if let Err(error) = self.finish(Instant::now()) {
            self.warn(&ErrorText(&error));
        }
    }
}

fn track(id: Id) -> u64 {
    LOOP + 1 + id.slot() as u64
}

/// Returns the name of a type without the paths in it: `Connection<Echo>`. A future has the name of
/// its function. Characters that would break a line or a JSON string are replaced.
///
/// ```
/// use echo_reactor::timeline::short_name;
/// assert_eq!(short_name("echo_reactor::transport::Connection<echo_server::Echo>"), "Connection<Echo>");
/// assert_eq!(short_name("echo_reactor::streams::Task<stream_server::echo::{{closure}}>"), "Task<echo>");
/// assert_eq!(short_name("a \"name\"\n"), "a 'name''");
/// ```
#[must_use]
pub fn short_name(type_name: &str) -> String {
    let mut name = String::new();
    for part in type_name.replace("::{{closure}}", "").split_inclusive(['<', '>', ',', ' ', '(', ')', '&']) {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    json_safe(&name)
}

/// Replaces the characters that would break a line or a JSON string.
fn json_safe(text: &str) -> String {
    text.replace(|c: char| c == '"' || c == '\\' || c.is_control(), "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Next, Ready};
    use crate::{Mailbox, Reactor};

    #[test]
    fn file_at_its_size_limit_is_valid_and_shows_open_connections() {
        static LONG: [u8; 1 << 16] = [b'x'; 1 << 16]; // so that few events fill the file
        let path = std::env::temp_dir().join(format!("full-timeline-{}.json", std::process::id()));
        let mut timeline = Timeline::create(&path).unwrap();
        let type_name = str::from_utf8(&LONG).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let id = Mailbox::<u8>::new(&mut reactor, 1).id();
        let behind = IoStats { backpressured: true, ..IoStats::default() };
        for number in 1.. {
            let ended = Instant::now();
            let (ready, next, stats) = (Ready::READABLE, Next::Wait, Some((IoStats::default(), behind)));
            timeline.on_dispatch(&DispatchEnd { id, type_name, ready, next, began: ended, ended, stats });
            timeline.on_turn_end(&TurnEnd { number, began: ended, ended });
            if timeline.file.is_none() {
                break;
            }
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!((LIMIT..LIMIT + (1 << 20)).contains(&(text.len() as u64)), "{}", text.len());
        let events: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let names: Vec<_> =
            events.iter().rev().take(2).map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(names, [&format!("connection {id}"), "the peer is behind"]);
    }
}
