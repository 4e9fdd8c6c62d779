//! The observers that implement `-vv`, `-vvv` and `--timeline`.
//!
//! Read next: `../reactor/observe.rs`.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use log::Level;

use super::{Escaped, cannot, counted};
use crate::observe::{CallbackEnd, DispatchEnd, Observer, Origin, PollEnd, TurnEnd};
use crate::timeline::short_name;
use crate::{Reactor, Timeline};

/// A callback that runs for longer is reported as a warning.
const SLOW: Duration = Duration::from_millis(100);

/// Adds the observers that the options ask for. With `-vv`, a warning names each callback that
/// blocks the loop. With `-vvv`, each turn is logged. With `--timeline`, everything is written to a
/// file. Without these options, there is no observer.
///
/// # Errors
/// Names the file that cannot be created.
pub fn add_observers(reactor: &mut Reactor, timeline: Option<&PathBuf>) -> io::Result<()> {
    if log::log_enabled!(Level::Debug) {
        reactor.add_observer(TurnLogger);
    }
    if let Some(path) = timeline {
        let what = format!("write the timeline {}", Escaped(path.as_os_str().as_bytes()));
        reactor.add_observer(Timeline::create(path).map_err(cannot(&what))?);
    }
    Ok(())
}

/// Logs slow callbacks and, at the trace level, each turn in columns.
struct TurnLogger;

impl Observer for TurnLogger {
    fn on_poll(&mut self, poll: &PollEnd) {
        let why = match (poll.events, poll.timeout) {
            (0, Some(Duration::ZERO)) => "more work is queued".into(),
            (0, _) => "a timer or a signal".into(),
            (events, _) => counted(events, "event"),
        };
        log::trace!("slept {:>9.1?}  {why}", poll.ended - poll.began);
    }

    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let took = dispatch.ended - dispatch.began;
        let name = short_name(dispatch.type_name);
        if took > SLOW {
            log::warn!("source {} ({name}) blocked the loop for {took:.1?}", dispatch.id);
        }
        if log::log_enabled!(Level::Trace) {
            let moved = dispatch.stats.map_or_else(String::new, |(before, after)| {
                let received = after.bytes_in - before.bytes_in;
                let sent = after.bytes_out - before.bytes_out;
                format!("{received:>7} in {sent:>7} out {:>7} buffered", after.buffered)
            });
            let (id, ready) = (dispatch.id.to_string(), dispatch.ready);
            let next = dispatch.next;
            log::trace!("  {id:>8}  {name:<20} {ready:<34?} {moved:<39} {took:>9.1?}  {next:?}");
        }
    }

    fn on_callback(&mut self, callback: &CallbackEnd) {
        let took = callback.ended - callback.began;
        let what = if callback.origin == Origin::Timer { "a timer's callback" } else { "a queued callback" };
        if took > SLOW {
            log::warn!("{what} blocked the loop for {took:.1?}");
        }
        log::trace!("  {what:<104} {took:>9.1?}");
    }

    fn on_turn_end(&mut self, turn: &TurnEnd) {
        log::trace!("turn {:>6} took {:>9.1?}", turn.number, turn.ended - turn.began);
    }
}
