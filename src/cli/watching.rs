//! What `-vvv` and `--timeline` show of the loop.
//!
//! Read next: `../reactor/observe.rs`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use log::Level;

use super::cannot;
use crate::timeline::short_name;
use crate::{Call, Observer, Reactor, Run, Sleep, Timeline, Turn};

/// A callback that holds the loop for longer is worth a warning.
const SLOW: Duration = Duration::from_millis(100);

/// Has the loop watched as the user asked for: callbacks that hold it are named with `-vv`, each turn is told
/// with `-vvv`, and all is written to a file with `--timeline`. Without any of these nobody watches.
///
/// # Errors
/// Names the file that cannot be created.
pub fn watch(reactor: &mut Reactor, timeline: Option<&PathBuf>) -> io::Result<()> {
    if log::log_enabled!(Level::Debug) {
        reactor.observe(Narrator);
    }
    if let Some(path) = timeline {
        let what = format!("write the timeline {}", path.display());
        reactor.observe(Timeline::create(path).map_err(cannot(&what))?);
    }
    Ok(())
}

/// Tells each turn in columns, as far as the log level goes.
struct Narrator;

impl Observer for Narrator {
    fn slept(&mut self, sleep: &Sleep) {
        let why = match (sleep.events, sleep.limit) {
            (0, Some(Duration::ZERO)) => "there is more to do".into(),
            (0, _) => String::from("a timer or a signal"),
            (1, _) => "1 event".into(),
            (events, _) => format!("{events} events"),
        };
        log::trace!("slept {:>9}  {why}", Short(sleep.ended - sleep.began));
    }

    fn ran(&mut self, run: &Run) {
        let took = run.ended - run.began;
        if took > SLOW {
            log::warn!("source {} ({}) held the loop for {}", run.id, short_name(run.kind), Short(took));
        }
        if log::log_enabled!(Level::Trace) {
            let (kind, ready) = (short_name(run.kind), run.ready);
            let moved = run.activity.map_or_else(String::new, |(before, after)| {
                let received = after.bytes_in - before.bytes_in;
                let sent = after.bytes_out - before.bytes_out;
                format!("{received:>7} in {sent:>7} out {:>7} buffered", after.buffered)
            });
            let next = format!("{:?}", run.next);
            let (id, took) = (run.id.to_string(), Short(took));
            log::trace!("  {id:>8}  {kind:<20} {ready:<34?} {moved:<39} {took:>9}  {next}");
        }
    }

    fn called(&mut self, call: &Call) {
        let took = call.ended - call.began;
        let what = if call.by_timer { "a timer's callback" } else { "a queued callback" };
        if took > SLOW {
            log::warn!("{what} held the loop for {}", Short(took));
        }
        log::trace!("  {what:<104} {:>9}", Short(took));
    }

    fn turned(&mut self, turn: &Turn) {
        log::trace!("turn {:>6} took {:>9}", turn.number, Short(turn.ended - turn.began));
    }
}

/// A duration in eight columns.
struct Short(Duration);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self.0.as_secs_f64() {
            seconds if seconds < 1e-3 => format!("{:.1} µs", seconds * 1e6),
            seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
            seconds => format!("{seconds:.1} s"),
        };
        f.pad(&text)
    }
}
