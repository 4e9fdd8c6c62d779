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
//! Invariant: on each track spans lie within each other or apart, and what began has its end, unless the
//! program was killed. Then the file is readable all the same, and lacks a hundredth of a second. It stops
//! at [`LIMIT`].
//!
//! Read next: `trace_file.rs`, how it is written; `../reactor/observe.rs`, where the facts come from.

mod trace_file;

use std::io;
use std::path::Path;
use std::time::Instant;

pub use trace_file::LIMIT;

use crate::reactor::{Activity, Call, Id, Observer, Run, Sleep, Turn};
use trace_file::{Room, TraceFile};

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
    /// `None` when it is full, or cannot be written.
    file: Option<TraceFile>,
    /// By slot: whose life is open.
    lives: Vec<Option<Life>>,
    /// Names of types without their paths.
    names: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy)]
struct Life {
    id: Id,
    activity: Activity,
}

impl Timeline {
    /// Creates the file, or makes it empty.
    ///
    /// # Errors
    /// Of `open(2)` and `pwrite(2)`: it has to be a file in which one can go back.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = TraceFile::create(path, LOOP, "loop")?;
        Ok(Timeline { file: Some(file), lives: Vec::new(), names: Vec::new() })
    }

    fn life(&mut self, id: Id) -> &mut Option<Life> {
        let slot = id.slot();
        if self.lives.len() <= slot {
            self.lives.resize(slot + 1, None);
        }
        &mut self.lives[slot]
    }

    fn open(&mut self, id: Id, at: Instant) {
        if self.life(id).is_some_and(|life| life.id == id) {
            return;
        }
        *self.life(id) = Some(Life { id, activity: Activity::default() });
        if let Some(file) = &mut self.file {
            file.name_track(track(id), &format!("connection, slot {}", id.slot()));
            file.begin('B', track(id), &format!("connection {id}"));
            file.at(at);
            file.close(1);
        }
    }

    /// What a connection has come to: notes whether its peer is behind.
    fn update(&mut self, id: Id, activity: Activity, at: Instant) {
        self.open(id, at);
        let Some(life) = self.life(id) else { return };
        let was_held_up = std::mem::replace(&mut life.activity, activity).held_up;
        if was_held_up != activity.held_up
            && let Some(file) = &mut self.file
        {
            file.begin(if activity.held_up { 'B' } else { 'E' }, track(id), "the peer is behind");
            file.at(at);
            file.number(",\"args\":{\"buffered\":", activity.buffered as u64);
            file.close(2);
        }
    }

    fn close(&mut self, id: Id, at: Instant) {
        let Some(life) = self.life(id).filter(|life| life.id == id) else { return };
        self.update(id, Activity { held_up: false, buffered: 0, ..life.activity }, at);
        *self.life(id) = None;
        if let Some(file) = &mut self.file {
            file.begin('E', track(id), &format!("connection {id}"));
            file.at(at);
            file.number(",\"args\":{\"in\":", life.activity.bytes_in);
            file.number(",\"out\":", life.activity.bytes_out);
            file.close(2);
        }
    }

    /// Does something with the file, if it is still written.
    fn record(&mut self, f: impl FnOnce(&mut TraceFile)) {
        if let Some(file) = &mut self.file {
            f(file);
        }
    }
}

impl Observer for Timeline {
    fn slept(&mut self, sleep: &Sleep) {
        self.record(|file| {
            file.span(LOOP, "sleep", sleep.began, sleep.ended);
            file.number(",\"args\":{\"events\":", sleep.events as u64);
            file.close(2);
        });
    }

    fn ran(&mut self, run: &Run) {
        let Some(file) = &mut self.file else { return };
        let known = self.names.iter().position(|(kind, _)| std::ptr::eq(*kind, run.kind));
        let name = known.unwrap_or_else(|| {
            self.names.push((run.kind, short_name(run.kind)));
            self.names.len() - 1
        });
        file.span(LOOP, &self.names[name].1, run.began, run.ended);
        file.number(",\"args\":{\"id\":\"", run.id.slot() as u64);
        file.number(".", run.id.generation().into());
        file.text("\",\"ready\":\"");
        file.written_by(|bytes| run.ready.append_names(bytes));
        file.text("\"");
        if let Some((before, after)) = run.activity {
            file.number(",\"in\":", after.bytes_in - before.bytes_in);
            file.number(",\"out\":", after.bytes_out - before.bytes_out);
            if after.buffered > 0 {
                file.number(",\"buffered\":", after.buffered as u64);
            }
        }
        file.close(2);
        if let Some((_, after)) = run.activity {
            self.update(run.id, after, run.ended);
        }
    }

    fn called(&mut self, call: &Call) {
        self.record(|file| {
            file.span(LOOP, if call.by_timer { "timer" } else { "call" }, call.began, call.ended);
            file.close(1);
        });
    }

    fn added(&mut self, id: Id, _: &'static str, activity: Option<Activity>, at: Instant) {
        if activity.is_some() {
            self.open(id, at);
        }
    }

    fn removed(&mut self, id: Id, at: Instant) {
        self.close(id, at);
    }

    fn turned(&mut self, turn: &Turn) {
        let Some(file) = &mut self.file else { return };
        file.span(LOOP, "turn", turn.began, turn.ended);
        file.number(",\"args\":{\"number\":", turn.number);
        file.close(2);
        match file.write_if_due(turn.ended) {
            Ok(Room::Enough) => return,
            Ok(Room::Full) => log::warn!("the timeline is full: {} MiB", LIMIT >> 20),
            Err(error) => log::warn!("cannot write the timeline any more: {error}"),
        }
        self.file = None;
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        // Lives that go on end here, so that each that began has its end.
        let open: Vec<Id> = self.lives.iter().flatten().map(|life| life.id).collect();
        let now = Instant::now();
        for id in open {
            self.close(id, now);
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write()
        {
            log::warn!("cannot write the end of the timeline: {error}");
        }
    }
}

fn track(id: Id) -> u64 {
    LOOP + 1 + id.slot() as u64
}

/// The name of a type without the paths in it: `Connection<Echo>`. A future goes by the name of its function.
///
/// ```
/// use echo_reactor::timeline::short_name;
/// assert_eq!(short_name("echo_reactor::transport::Connection<echo_server::Echo>"), "Connection<Echo>");
/// assert_eq!(short_name("echo_reactor::streams::Task<stream_server::echo::{{closure}}>"), "Task<echo>");
/// ```
#[must_use]
pub fn short_name(kind: &str) -> String {
    let mut name = String::new();
    for part in kind.replace("::{{closure}}", "").split_inclusive(['<', '>', ',', ' ', '(', ')', '&']) {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    name.replace(['"', '\\'], "'")
}
