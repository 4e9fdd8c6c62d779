//! The watcher: an observer that takes samples of the observed loop, and calls the gate at each
//! step.
//!
//! Invariant: the loop never waits for a page. The watcher stores a sample for the other thread, at
//! most about twenty times a second. A sample that the thread has not read is replaced. Between two
//! samples, calls are only counted, and the log keeps the last of them.
//!
//! Read next: `gate.rs`; `site.rs`, which sends the samples to the pages.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_reactor::observe::{
    CallbackEnd, ConnectionState, DispatchEnd, IoStats, Observer, Phase, PollEnd, Slot, TurnEnd,
};
use echo_reactor::timeline::short_name;
use echo_reactor::{Address, Id, Next, Reactor, Ready};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::log::{Entry, Log};

/// The mean time between two samples.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// How many samples may follow each other without a delay, so that a short burst is shown to its
/// end.
const BURST: u32 = 10;
/// How many events of a poll are listed.
const LISTED: usize = 12;

/// What happened to an event.
#[derive(Clone, Copy)]
enum Fate {
    Waiting,
    Delivered,
    Stale,
    /// The source was queued already. Its queued call gets the event, too.
    Queued,
}

pub struct Watcher {
    lab: Arc<Lab>,
    /// The entries since the last sample. They are collected here, so that a call needs no lock.
    log: Log,
    /// Whether the next turn has to begin without a sample.
    must_wait: Rc<Cell<bool>>,
    turn: u64,
    /// The poll of this turn, until it is in the log.
    poll: Option<PollEnd>,
    calls: u64,
    phase: Phase,
    events: Vec<(Option<Id>, Ready, Fate)>,
    /// The index of the event that is delivered next.
    next_event: usize,
    /// Whether a source was called since the last step.
    called: bool,
    /// A source that had something to read but received and accepted nothing, until the next step.
    idle_call: Option<Id>,
    /// The next event, if it reports that the peer has reset its connection.
    reset: Option<Id>,
    /// How many calls of this turn's queue are left. `None`: not counted.
    queue_left: Option<usize>,
    /// Whether the queue was empty before the poll, so that only a timer can be due.
    queue_was_empty: bool,
    /// The time of each phase in this turn, and in the last one.
    times: [Duration; 5],
    last_times: [Duration; 5],
    /// The time of the calls since the last step.
    spent: Duration,
    /// The letters of the connections' peers. New connections are added at the next step.
    letters: HashMap<Id, char>,
    new: Vec<Id>,
    /// How many sources were added since the last call.
    added: usize,
    /// When writing to a peer was paused.
    stalled: HashMap<Id, Instant>,
    /// How many samples may be taken now, and when that was computed.
    allowance: u32,
    counted: Instant,
}

impl Watcher {
    pub fn new(lab: Arc<Lab>, must_wait: Rc<Cell<bool>>) -> Self {
        Watcher {
            lab,
            log: Log::default(),
            must_wait,
            turn: 0,
            poll: None,
            calls: 0,
            phase: Phase::Timeout,
            events: Vec::new(),
            next_event: 0,
            called: false,
            idle_call: None,
            reset: None,
            queue_left: None,
            queue_was_empty: true,
            times: [Duration::ZERO; 5],
            last_times: [Duration::ZERO; 5],
            spent: Duration::ZERO,
            letters: HashMap::new(),
            new: Vec::new(),
            added: 0,
            stalled: HashMap::new(),
            allowance: BURST,
            counted: Instant::now(),
        }
    }

    fn log(&mut self, entry: Entry) {
        self.log.push(entry);
    }

    /// Records that an event was delivered, or that its source was gone.
    fn finish_event(&mut self, reactor: &Reactor) {
        let Some((id, _, fate)) = self.events.get_mut(self.next_event) else { return };
        self.next_event += 1;
        *fate = Fate::Delivered;
        if let Some(id) = *id
            && !self.called
        {
            if reactor.slot(id).is_some() {
                *fate = Fate::Queued;
            } else {
                *fate = Fate::Stale;
                self.log(Entry::Stale(id));
            }
        }
    }

    /// Returns the source of the next event if both directions have ended, although the server has
    /// not ended its own: then the peer has reset the connection.
    fn next_reset(&self, reactor: &Reactor) -> Option<Id> {
        let (id, ready, _) = self.events.get(self.next_event)?;
        if !ready.intersects(Ready::WRITE_CLOSED) {
            return None;
        }
        let slot = reactor.slot((*id)?)?;
        (slot.connection?.write == "open").then_some(slot.id)
    }

    /// Says why a call received nothing.
    fn explain_idle_call(&mut self, reactor: &Reactor) {
        let Some(id) = self.idle_call.take() else { return };
        let Some(slot) = reactor.slot(id) else { return };
        let is_discarding = slot.connection.is_some_and(|state| state.read == "discarding");
        let retries = slot.type_name.is_some_and(|name| name.contains("Listener"))
            && reactor.timers().any(|(_, source)| source == Some(id));
        if retries {
            let text = "The system call accept failed with EMFILE: no descriptor is left. The listener tries again in a second.";
            self.log(Entry::Note(text.into(), "hostile"));
        } else if is_discarding {
            let text = format!(
                "Connection {} discarded what it read, because the server has closed.",
                self.name(id)
            );
            self.log(Entry::Note(text, "closing"));
        }
    }

    /// Returns the phase that follows a step.
    fn next_phase(&self, phase: Phase) -> Phase {
        match phase {
            Phase::Timeout => Phase::Poll,
            _ if self.next_event < self.events.len() => Phase::Events,
            Phase::Timers => Phase::Timers,
            _ => Phase::Queue,
        }
    }

    fn name_new_connections(&mut self, reactor: &Reactor) {
        for id in std::mem::take(&mut self.new) {
            let slot = reactor.slot(id);
            let letter = slot.and_then(|slot| self.lab.letter(port(&slot)?));
            self.letters.extend(letter.map(|letter| (id, letter)));
        }
    }

    /// Computes how many samples may be taken.
    fn count_allowance(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.counted).as_millis() / INTERVAL.as_millis();
        if periods > 0 {
            self.allowance = BURST.min(self.allowance + u32::try_from(periods).unwrap_or(BURST));
            self.counted = now;
        }
    }

    fn sample(&mut self, reactor: &Reactor) {
        self.lab.log().append(&mut self.log);
        let at = |when: Instant| self.lab.millis(when);
        let timers: Vec<Value> =
            reactor.timers().take(LISTED).map(|(when, id)| json!([at(when), self.who(id)])).collect();
        let queue = reactor.queue();
        let listed: Vec<Value> = queue.iter().take(LISTED).map(|&id| self.who(id)).collect();
        if self.phase != Phase::Queue {
            self.queue_left = Some(queue.len());
        }
        let slots: Vec<Value> = reactor.slots().map(|slot| self.slot(&slot)).collect();
        let events: Vec<Value> = self
            .events
            .iter()
            .take(LISTED)
            .map(|(id, ready, fate)| {
                let fate = match fate {
                    Fate::Waiting => "waiting",
                    Fate::Delivered => "delivered",
                    Fate::Stale => "stale",
                    Fate::Queued => "queued",
                };
                json!([self.who(*id), format!("{ready:?}"), fate])
            })
            .collect();
        let log = self.lab.log().to_json(|id| self.name(id));
        let micros = |times: [Duration; 5]| times.map(|time| time.as_micros() as u64);
        let sample = json!({
            "turn": self.turn, "calls": self.calls, "phase": format!("{:?}", self.phase).to_lowercase(),
            "times": micros(if self.phase == Phase::Timeout { self.last_times } else { self.times }),
            "events": events, "eventCount": self.events.len(), "timers": timers,
            "timerCount": reactor.timer_count(), "queue": listed, "queueCount": queue.len(),
            "queueLeft": self.queue_left, "slots": slots, "log": log, "at": at(Instant::now()),
        });
        self.lab.publish(sample.to_string());
    }

    fn slot(&self, slot: &Slot) -> Value {
        let connection = slot.connection.as_ref().map(|state| self.connection(slot.id, state));
        json!({
            "id": slot.id.to_string(), "type": slot.type_name.map(short_name),
            "pending": slot.queued.map(|ready| format!("{ready:?}")), "connection": connection,
        })
    }

    fn connection(&self, id: Id, state: &ConnectionState) -> Value {
        let stalled = self.stalled.get(&id).map(|&since| self.lab.millis(since));
        json!({
            "peer": self.letters.get(&id).map(char::to_string), "read": state.read, "write": state.write,
            "ready": format!("{:?}", state.ready), "in": state.stats.bytes_in, "out": state.stats.bytes_out,
            "buffered": state.stats.buffered, "high": state.high, "low": state.low,
            "paused": state.stats.backpressured, "stalledSince": stalled,
        })
    }

    /// Describes the source of an event, of a timer or of an entry of the queue. `None` means that
    /// it has no source.
    fn who(&self, id: Option<Id>) -> Value {
        id.map_or(Value::Null, |id| match self.letters.get(&id) {
            Some(letter) => json!(format!("{id} {letter}")),
            None => json!(id.to_string()),
        })
    }

    fn name(&self, id: Id) -> String {
        match self.letters.get(&id) {
            Some(letter) => format!("{id} (peer {letter})"),
            None => id.to_string(),
        }
    }
}

/// Returns the port of a connection's peer.
pub fn port(slot: &Slot) -> Option<u16> {
    match slot.connection.as_ref()?.peer {
        Some(Address::Tcp(address)) => Some(address.port()),
        _ => None,
    }
}

impl Observer for Watcher {
    fn on_poll(&mut self, poll: &PollEnd) {
        self.added = 0;
        self.turn += 1;
        self.events.clear();
        self.next_event = 0;
        self.queue_left = None;
        self.times = [Duration::ZERO; 5];
        let slept = poll.ended - poll.began;
        self.times[Phase::Poll as usize] = slept;
        self.poll = Some(*poll);
    }

    fn on_event(&mut self, id: Option<Id>, ready: Ready) {
        self.events.push((id, ready, Fate::Waiting));
    }

    fn on_dispatch(&mut self, call: &DispatchEnd) {
        self.calls += 1;
        self.called = true;
        let took = call.ended - call.began;
        self.spent += took;
        if let Some((before, after)) = call.stats
            && before.backpressured != after.backpressured
        {
            if after.backpressured {
                self.stalled.insert(call.id, call.ended);
            } else {
                self.stalled.remove(&call.id);
            }
        }
        let (id, type_name, ready, next) = (call.id, call.type_name, call.ready, call.next);
        let added = std::mem::take(&mut self.added);
        let is_idle =
            added == 0 && call.stats.is_none_or(|(before, after)| before.bytes_in == after.bytes_in);
        self.idle_call =
            (is_idle && (ready.intersects(Ready::READABLE) || next == Next::Again)).then_some(id);
        self.log(Entry::Call {
            id,
            type_name,
            ready,
            next,
            took,
            stats: call.stats,
            added,
            is_reset: self.reset == Some(id),
        });
    }

    fn on_callback(&mut self, call: &CallbackEnd) {
        self.calls += 1;
        let took = call.ended - call.began;
        self.spent += took;
        self.log(Entry::Closure { origin: call.origin, took });
    }

    fn on_added(&mut self, id: Id, type_name: &'static str, _: Option<IoStats>, _: Instant) {
        self.new.push(id);
        self.added += 1;
        self.log(Entry::Added { id, type_name });
    }

    fn on_removed(&mut self, id: Id, _: Instant) {
        self.stalled.remove(&id);
        self.log(Entry::Removed(id));
    }

    fn on_turn_end(&mut self, turn: &TurnEnd) {
        self.last_times = self.times;
        self.count_allowance(turn.ended);
        self.must_wait.set(self.allowance == 0);
    }

    fn on_step(&mut self, phase: Phase, reactor: &Reactor) {
        self.phase = phase;
        self.name_new_connections(reactor);
        self.times[phase as usize] += std::mem::take(&mut self.spent);
        if let Some(poll) = self.poll.take() {
            let first = self.events.first().and_then(|(id, ..)| *id);
            let (turn, at) = (self.turn, self.lab.millis(poll.ended));
            let for_a_sample = self.must_wait.get() && poll.events == 0 && poll.timeout == Some(INTERVAL);
            self.log(Entry::Poll {
                turn,
                at,
                for_a_sample,
                only_timers: self.queue_was_empty,
                slept: poll.ended - poll.began,
                timeout: poll.timeout,
                events: poll.events,
                first,
            });
        }
        self.explain_idle_call(reactor);
        if phase == Phase::Queue {
            self.queue_left = self.queue_left.map(|left| left.saturating_sub(1));
        }
        if phase == Phase::Events {
            self.finish_event(reactor);
        }
        self.reset = self.next_reset(reactor);
        self.called = false;
        let lab = &self.lab;
        let waited = !lab.gate.is_open() && lab.clone().gate.pass(phase, || self.sample(reactor));
        if phase == Phase::Timeout && (waited || self.allowance > 0) {
            self.allowance = self.allowance.saturating_sub(1);
            self.sample(reactor);
        }
        if phase == Phase::Timeout {
            self.queue_was_empty = reactor.queue().is_empty();
        }
        self.lab.set_phase(self.next_phase(phase));
    }
}
