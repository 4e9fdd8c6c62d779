//! The observers that implement `-vv`, `-vvv` and `--timeline`.
//!
//! Read next: `../reactor/observe.rs`.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::Level;

use super::{Escaped, cannot, counted};
use crate::observe::{CallbackEnd, DispatchEnd, IoStats, Observer, Origin, Phase, PollEnd, TurnEnd};
use crate::timeline::short_name;
use crate::{Id, Reactor, Timeline};

/// A callback that runs longer than this causes a warning.
const SLOW: Duration = Duration::from_millis(100);

/// Adds the observers that the options ask for. With `-vv`, a warning names each callback that
/// blocks the loop. With `-vvv`, each turn is logged. With `--timeline`, everything is written to a
/// file. Without these options, there is no observer.
///
/// # Errors
/// The error names the file that cannot be created.
pub fn add_observers(reactor: &mut Reactor, timeline: Option<&PathBuf>) -> io::Result<()> {
    if log::log_enabled!(Level::Debug) {
        reactor.add_observer(TurnLogger::default());
    }
    if let Some(path) = timeline {
        let what = format!("write the timeline {}", Escaped(path.as_os_str().as_bytes()));
        reactor.add_observer(Timeline::create(path).map_err(cannot(&what))?);
    }
    Ok(())
}

/// The names of the columns.
fn header() -> String {
    let [id, name, peer, why] = ["id", "source", "peer", "called because"];
    let [received, sent, buffered, took, next] = ["in", "out", "buffered", "took", "answer"];
    format!(
        "  {id:<9} {name:<21} {peer:<23} {why:<34} {received:>9} {sent:>9} {buffered:>9} {took:>11}  {next}"
    )
}

/// Logs slow callbacks and, at the trace level, each turn with its calls, in columns.
#[derive(Default)]
struct TurnLogger {
    has_header: bool,
    /// How the poll of this turn has ended.
    poll: String,
    /// The lines of this turn.
    lines: Vec<String>,
    /// The peer of each connection.
    peers: HashMap<Id, String>,
    /// New sources, whose peers are looked up at the next step.
    new: Vec<Id>,
}

impl Observer for TurnLogger {
    fn on_poll(&mut self, poll: &PollEnd) {
        let why = match (poll.events, poll.timeout) {
            (0, Some(Duration::ZERO)) => "more work is queued".into(),
            (0, _) => "a timer or a signal".into(),
            (events, _) => counted(events, "event"),
        };
        self.poll = format!("slept {:.1?}, {why}", poll.ended - poll.began);
    }

    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let took = dispatch.ended - dispatch.began;
        let name = short_name(dispatch.type_name);
        if took > SLOW {
            log::warn!("source {} ({name}) blocked the loop for {took:.1?}", dispatch.id);
        }
        if log::log_enabled!(Level::Trace) {
            let moved = dispatch.stats.map_or_else(String::new, |(before, after)| {
                let (received, sent) = after.moved_since(&before);
                format!("{received:>9} {sent:>9} {:>9}", after.buffered)
            });
            let (id, ready) = (dispatch.id.to_string(), dispatch.ready);
            let peer = self.peers.get(&dispatch.id).map_or("", String::as_str);
            let next = dispatch.next;
            self.lines.push(format!(
                "  {id:<9} {name:<21} {peer:<23} {ready:<34?} {moved:<29} {took:>11.1?}  {next:?}"
            ));
        }
    }

    fn on_callback(&mut self, callback: &CallbackEnd) {
        let took = callback.ended - callback.began;
        let what = if callback.origin == Origin::Timer { "a timer's callback" } else { "a queued callback" };
        if took > SLOW {
            log::warn!("{what} blocked the loop for {took:.1?}");
        }
        if log::log_enabled!(Level::Trace) {
            self.lines.push(format!("  {:<9} {what:<110} {took:>11.1?}", ""));
        }
    }

    fn on_added(&mut self, id: Id, _: &'static str, _: Option<IoStats>, _: Instant) {
        self.new.push(id);
    }

    fn on_removed(&mut self, id: Id, _: Instant) {
        self.peers.remove(&id);
    }

    fn on_step(&mut self, _: Phase, reactor: &Reactor) {
        for id in self.new.drain(..) {
            let connection = reactor.slot(id).and_then(|slot| slot.connection);
            let peer = connection.and_then(|connection| connection.peer);
            self.peers.extend(peer.map(|peer| (id, peer.to_string())));
        }
    }

    fn on_turn_end(&mut self, turn: &TurnEnd) {
        if !log::log_enabled!(Level::Trace) {
            return;
        }
        if !std::mem::replace(&mut self.has_header, true) {
            log::trace!("{}", header());
        }
        log::trace!("turn {}: {}", turn.number, self.poll);
        for line in self.lines.drain(..) {
            log::trace!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{ConnectOptions, Protocol, Transport, create_connection};

    struct Silent;
    impl Protocol for Silent {
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    }

    #[test]
    fn peer_of_a_removed_connection_is_forgotten() {
        let mut reactor = Reactor::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        let connection = create_connection(&mut reactor, &[address], &ConnectOptions::default(), Silent);
        while reactor.get(connection).is_err() {
            reactor.turn(None).unwrap(); // until it is connected
        }
        let (id, mut logger) = (connection.id(), TurnLogger::default());
        logger.on_added(id, "", None, reactor.now());
        logger.on_step(Phase::Queue, &reactor);
        assert_eq!(logger.peers.len(), 1);
        logger.on_removed(id, reactor.now());
        assert!(logger.peers.is_empty());
    }
}
