//! The end of a script: nothing may wait for what has happened, and nothing may be left.

use std::time::{Duration, Instant};

use echo_reactor::{Framing, Id, Input, Mailbox, Reactor};

use super::models::{List, State};
use super::pipes::{drain, feed, receive_chunk};
use super::{Shared, turn};

const LOW_WATER: usize = 16 * 1024;

/// Runs turns until nothing happens any more.
pub fn settle(script: &Shared, reactor: &mut Reactor) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut quiet = 0;
    while quiet < 4 {
        assert!(Instant::now() < deadline, "the loop spins, or a signal is lost");
        let before = script.borrow().calls;
        turn(script, reactor);
        let script = script.borrow();
        let is_quiet = reactor.queue().is_empty() && script.signals.iter().all(|signal| !signal.is_due);
        quiet = if is_quiet && script.calls == before { quiet + 1 } else { 0 };
    }
}

pub fn assert_nothing_waits(script: &Shared, reactor: &Reactor) {
    let script = script.borrow();
    let workers = &script.workers;
    assert!(!workers.is_any_poked(), "a wake is lost");
    assert_eq!(script.remote_calls.called, script.remote_calls.registered, "a remote call is lost");
    for (number, queue) in script.queues.iter().enumerate() {
        let is_open = queue.state == State::Open;
        let waits_rightly = is_open && queue.items.is_empty();
        assert!(waits_rightly || !workers.is_any_waiting(List::Items(number)), "a receiver still waits");
        let mut tasks = script.tasks.iter().filter(|(_, queue)| *queue == number);
        assert!(waits_rightly || tasks.all(|(task, _)| task.is_finished()), "a task still waits");
        let waits_rightly = is_open && queue.items.len() >= queue.capacity;
        assert!(waits_rightly || !workers.is_any_waiting(List::Room(number)), "a sender still waits");
    }
    for (number, input) in script.inputs.iter().enumerate() {
        let model = &input.model;
        let has_chunk = match input.framing {
            Framing::Bytes => model.sent > model.received,
            _ => model.has_line() || model.sent - model.received >= Input::LONGEST_LINE,
        };
        let is_due = has_chunk || input.is_cut || input.sender.is_none();
        assert!(!is_due || !workers.is_any_waiting(List::Chunks(number)), "a chunk is not delivered");
        assert!(!input.is_cut || !reactor.contains(input.handle.id()), "nothing can receive from it");
    }
    for (number, output) in script.outputs.iter().enumerate() {
        let waits_rightly = output.handle.buffered(reactor).is_ok_and(|buffered| buffered > LOW_WATER);
        assert!(waits_rightly || !workers.is_any_waiting(List::Output(number)), "a writer still waits");
        assert!(output.is_removed || output.has_failed == output.receiver.is_none(), "on_error");
    }
}

/// Empties every pipe and mailbox, and removes everything. Nothing may be left.
pub fn finish(script: &Shared, reactor: &mut Reactor) {
    let waiter = Mailbox::<u8>::new(reactor, 1).id();
    script.borrow_mut().tasks.clear();
    settle(script, reactor);
    let mut guard = script.borrow_mut();
    for queue in &mut guard.queues {
        queue.has_tasks = false;
        queue.close();
        queue.handle.close(reactor);
        while queue.state == State::Closed && !queue.items.is_empty() {
            queue.received(queue.handle.try_recv(reactor, waiter), false);
        }
        reactor.remove(queue.handle.id());
    }
    for input in 0..guard.inputs.len() {
        feed(&mut guard, input, 255);
    }
    drop(guard);
    let mut quiet = 0;
    let turns = 8 + 2 * script.borrow().workers.all.len(); // for each worker that waits and takes nothing
    while quiet < turns {
        let before = script.borrow().received();
        turn(script, reactor);
        let mut script = script.borrow_mut();
        for input in script.inputs.iter_mut().filter(|input| !input.is_cut) {
            while input.model.received < input.model.sent && !receive_chunk(input, waiter, reactor) {}
        }
        for output in 0..script.outputs.len() {
            drain(&mut script, output, 254);
        }
        quiet = if script.received() == before { quiet + 1 } else { 0 };
    }
    let mut guard = script.borrow_mut();
    for (number, input) in guard.inputs.iter().enumerate() {
        assert!(input.is_cut || input.model.received == input.model.sent, "input {number} has lost bytes");
        assert!(!reactor.contains(input.handle.id()), "input {number} is left");
        reactor.remove(input.chunks.id());
    }
    for output in &guard.outputs {
        let is_open = !output.is_removed && !output.has_failed;
        assert!(!is_open || output.model.received == output.model.sent, "an output has lost bytes");
        assert_eq!(output.on_flushed.called, output.on_flushed.registered, "on_flushed");
        reactor.remove(output.handle.id());
    }
    let workers: Vec<Id> = guard.workers.all.iter().map(|worker| worker.id).collect();
    guard.inputs.clear();
    guard.outputs.clear();
    drop(guard);
    for id in workers {
        reactor.remove(id);
    }
    reactor.remove(waiter);
    settle(script, reactor);
    let is_internal =
        |slot: &echo_reactor::observe::Slot| slot.type_name.is_some_and(|name| name.contains("signals"));
    let left = reactor.slots().filter(|slot| slot.type_name.is_some() && !is_internal(slot));
    assert_eq!((left.count(), reactor.timer_count()), (0, 0), "a source or a timer is left");
}
