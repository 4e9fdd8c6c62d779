//! The log: what happened, in sentences, each with the chapter of the guide that explains it.
//!
//! Invariant: the log keeps only the last entries. An entry becomes a sentence only when a page
//! reads it, so at full speed each call costs only a small copy.
//!
//! Read next: `watcher.rs`, which writes most of it.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use echo_reactor::observe::{IoStats, Origin};
use echo_reactor::timeline::short_name;
use echo_reactor::{Id, Next, Ready};
use serde_json::{Value, json};

/// How many entries are kept.
const LENGTH: usize = 80;

pub enum Entry {
    Poll {
        turn: u64,
        /// When the poll ended, in milliseconds from the start of the laboratory.
        at: u64,
        slept: Duration,
        timeout: Option<Duration>,
        events: usize,
        /// Whether it slept only until the next sample for the page was due.
        for_a_sample: bool,
        /// Whether the queue was empty, so that only a timer can be due.
        only_timers: bool,
        /// The source of the first event. `None` means that another thread has called.
        first: Option<Id>,
    },
    Call {
        id: Id,
        type_name: &'static str,
        ready: Ready,
        next: Next,
        took: Duration,
        stats: Option<(IoStats, IoStats)>,
        /// How many sources the call has added.
        added: usize,
        /// Whether the peer has reset the connection.
        is_reset: bool,
    },
    Closure {
        origin: Origin,
        took: Duration,
    },
    Added {
        id: Id,
        type_name: &'static str,
    },
    Removed(Id),
    /// An event whose source was gone.
    Stale(Id),
    /// A sentence, and its chapter.
    Peer(String, &'static str),
    Note(String, &'static str),
}

#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
}

impl Log {
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() == LENGTH {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(entry);
    }

    /// Moves the entries of another log to the end of this one.
    pub fn append(&mut self, other: &mut Log) {
        let lost = mem::take(&mut other.first);
        if lost > 0 {
            self.first = self.next() + lost; // the other log is full, and replaces all entries
            self.entries.clear();
        }
        other.entries.drain(..).for_each(|entry| self.push(entry));
    }

    /// Returns the number of the next entry.
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Returns the entries as `[number, kind, sentence, chapter]`. `name` names a connection.
    pub fn to_json(&self, name: impl Fn(Id) -> String) -> Value {
        let line = |(entry, number): (&Entry, u64)| {
            let (kind, text, chapter) = entry.sentence(&name);
            json!([number, kind, text, chapter])
        };
        self.entries.iter().zip(self.first..).map(line).collect()
    }
}

impl Entry {
    /// Returns the kind, the sentence, and the chapter.
    fn sentence(&self, name: impl Fn(Id) -> String) -> (&'static str, String, &'static str) {
        match self {
            Entry::Poll { turn, at, for_a_sample: true, .. } => (
                "poll",
                format!("Turn {turn}, at {}: the laboratory woke the loop to show its state.", seconds(*at)),
                "timers",
            ),
            Entry::Poll { turn, at, slept, timeout, events, first, only_timers, .. } => {
                let turn = format!("Turn {turn}, at {}", seconds(*at));
                let first = first.map_or("another thread".into(), name);
                let reported = match events {
                    0 => "no event".into(),
                    1 => format!("1 event, for {first}"),
                    _ => format!("{events} events, the first for {first}"),
                };
                match (timeout, events) {
                    (Some(Duration::ZERO), _) => {
                        let (due, chapter) = if *only_timers {
                            ("a timer was due", "timers")
                        } else {
                            ("the queue had entries", "budget")
                        };
                        let text =
                            format!("{turn}: the poll did not sleep, because {due}. It reported {reported}.");
                        ("poll", text, chapter)
                    }
                    (Some(_), 0) => (
                        "poll",
                        format!("{turn}: the poll slept for {}, until a timer was due.", duration(*slept)),
                        "timers",
                    ),
                    _ => {
                        let slept = match slept.as_micros() {
                            0..100 => "returned at once".into(),
                            _ => format!("slept for {}", duration(*slept)),
                        };
                        let text = format!("{turn}: the poll {slept}. It reported {reported}.");
                        ("poll", text, "readiness")
                    }
                }
            }
            Entry::Call { id, type_name, ready, next, took, stats, added, is_reset } => {
                let type_name = short_name(type_name);
                let kind = type_name.split('<').next().unwrap_or(&type_name);
                let cause =
                    if *ready == Ready::NONE { "from the queue".into() } else { format!("{ready:?}") };
                let mut text = format!("{kind} {} was called ({cause}).", name(*id));
                let mut chapter = "edge";
                if kind == "Listener" {
                    let accepted = match added {
                        0 => " It accepted no connection.".into(),
                        1 => " It accepted one connection.".into(),
                        _ => format!(" It accepted {added} connections."),
                    };
                    text += &accepted;
                    chapter = if *added == 0 { "hostile" } else { "edge" };
                }
                if let Some((before, after)) = stats {
                    let (read, sent) = after.moved_since(before);
                    match (read, sent) {
                        (0, 0) => {}
                        (_, 0) => text += &format!(" It read {}.", bytes(read)),
                        (0, _) => text += &format!(" It sent {}.", bytes(sent)),
                        _ => text += &format!(" It read {} and sent {}.", bytes(read), bytes(sent)),
                    }
                    if *is_reset {
                        text += " The peer has reset the connection.";
                        chapter = "closing";
                    } else if ready.intersects(Ready::READ_CLOSED) {
                        text += " The peer has ended its side.";
                        chapter = "closing";
                    }
                    match (before.backpressured, after.backpressured) {
                        (false, true) => {
                            text += " Its write buffer went above the high-water mark: reading is paused.";
                            chapter = "backpressure";
                        }
                        (true, false) => {
                            text += " Its write buffer fell to the low-water mark: reading continues.";
                            chapter = "backpressure";
                        }
                        _ => {}
                    }
                }
                match next {
                    Next::Wait => {}
                    Next::Again => {
                        text += " Its budget is used up, so it is queued.";
                        chapter = "budget";
                    }
                    Next::Done => {
                        text += " It has finished.";
                        chapter = "closing";
                    }
                }
                if *took > Duration::from_millis(100) {
                    text += &format!(" It blocked the loop for {}.", duration(*took));
                    chapter = "blocking";
                }
                ("call", text, chapter)
            }
            Entry::Closure { origin, took } => {
                let (what, chapter) = match origin {
                    Origin::Timer => ("A timer's closure", "timers"),
                    _ => ("A closure from the queue", "timers"),
                };
                let took_text = duration(*took);
                if *took > Duration::from_millis(100) {
                    let text =
                        format!("{what} blocked the loop for {took_text}. Meanwhile, no peer was served.");
                    ("slow", text, "blocking")
                } else {
                    ("call", format!("{what} was called. It took {took_text}."), chapter)
                }
            }
            Entry::Added { id, type_name } => {
                let type_name = short_name(type_name);
                let kind = type_name.split('<').next().unwrap_or(&type_name);
                ("slab", format!("{kind} {} moved into its slot.", name(*id)), "slab")
            }
            Entry::Removed(id) => {
                ("slab", format!("{} left its slot. From now on, this id is stale.", name(*id)), "slab")
            }
            Entry::Stale(id) => (
                "stale",
                format!("The event for {} was dropped, because the id is stale.", name(*id)),
                "slab",
            ),
            Entry::Peer(text, chapter) => ("peer", text.clone(), chapter),
            Entry::Note(text, chapter) => ("note", text.clone(), chapter),
        }
    }
}

pub fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".into(),
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count >> 20),
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
}

fn duration(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
