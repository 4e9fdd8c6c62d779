//! Fuzzing mailboxes, inputs, outputs, remote calls and signals: bytes are commands, as in
//! `reactor.rs`.
//!
//! Workers are sources that send, receive and write, and that wait if they must. A model of each
//! mailbox and of each pipe shows what every call must return, and which worker must be woken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};

use echo_reactor::{Framing, Id, Input as PipeInput, Mailbox, Next, Reactor, Ready, Source, Task};
use rustix::process::Signal;

use super::calls::Callbacks;
use super::descriptors;
use super::input::Input;

mod models;
mod pipes;
mod remote;

use models::{List, Queue, State, Workers};
use pipes::{InputPipe, OutputPipe, drain, feed, open_input, open_output, receive_chunk, write};
use remote::{SCRIPT, SIGNALS, SignalModel, call_remotely, receive_in_task, signal};

const MOST: usize = 4;
const LOW_WATER: usize = 16 * 1024;
const REMOTE_CALLS_PER_TURN: usize = 1024;

struct Script {
    input: Input,
    workers: Workers,
    queues: Vec<Queue>,
    inputs: Vec<InputPipe>,
    outputs: Vec<OutputPipe>,
    tasks: Vec<(Task<()>, usize)>,
    remote_calls: Callbacks,
    signals: [SignalModel; 2],
    /// How many callbacks were called.
    calls: usize,
}

impl Script {
    /// Returns how many bytes were received from all pipes.
    fn received(&self) -> usize {
        let inputs = self.inputs.iter().map(|input| &input.model);
        let models = inputs.chain(self.outputs.iter().map(|output| &output.model));
        models.map(|model| model.received).sum()
    }
}

type Shared = Rc<RefCell<Script>>;

struct Working {
    number: usize,
    script: Shared,
}

impl Source for Working {
    fn ready(&mut self, _: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        let mut script = self.script.borrow_mut();
        script.calls += 1;
        if ready.intersects(Ready::WOKEN) {
            script.workers.woken(self.number);
        }
        let command = script.input.byte();
        drop(script);
        match command % 4 {
            0 | 1 => work(&self.script, self.number, command / 4, reactor),
            2 => outside(&self.script, command / 4, reactor),
            _ => {}
        }
        match self.script.borrow_mut().input.byte() % 8 {
            1 => Next::Again,
            2 => Next::Done,
            _ => Next::Wait,
        }
    }

    fn removed(&mut self, _: Id, reactor: &mut Reactor) {
        let mut script = self.script.borrow_mut();
        let worker = &mut script.workers.all[self.number];
        assert!(!worker.is_gone, "removed twice");
        worker.is_gone = true;
        drop(script);
        called(&self.script, reactor);
    }
}

/// Takes the next command in a callback.
fn called(script: &Shared, reactor: &mut Reactor) {
    script.borrow_mut().calls += 1;
    let command = script.borrow_mut().input.byte();
    if command % 4 == 1 {
        outside(script, command / 4, reactor);
    }
}

/// Takes a command of a worker, which waits if it must.
fn work(script: &Shared, number: usize, command: u8, reactor: &mut Reactor) {
    let mut guard = script.borrow_mut();
    let script = &mut *guard;
    let id = script.workers.all[number].id;
    let argument = usize::from(script.input.byte());
    let (queue, input, output) = (
        argument % script.queues.len().max(1),
        argument % script.inputs.len().max(1),
        argument % script.outputs.len().max(1),
    );
    let (waits, list) = match command % 8 {
        1..=4 if !script.queues.is_empty() => {
            let model = &mut script.queues[queue];
            if model.is_running {
                script.workers.poke(number, true); // it tries again
            }
            if command % 8 < 3 {
                let sent = model.handle.try_send(reactor, id, model.next);
                (model.sent(sent), List::Room(queue))
            } else {
                let received = model.handle.try_recv(reactor, id);
                (model.received(received), List::Items(queue))
            }
        }
        5 if !script.inputs.is_empty() => {
            (receive_chunk(&mut script.inputs[input], id, reactor), List::Chunks(input))
        }
        6 | 7 if !script.outputs.is_empty() => {
            (write(&mut script.outputs[output], id, argument, reactor), List::Output(output))
        }
        _ => return,
    };
    if waits {
        script.workers.wait(number, list);
    }
}

/// Takes a command that needs only the reactor.
fn outside(shared: &Shared, command: u8, reactor: &mut Reactor) {
    let argument = shared.borrow_mut().input.byte();
    let chosen = usize::from(argument);
    let mut guard = shared.borrow_mut();
    let script = &mut *guard;
    let worker = chosen % script.workers.all.len().max(1);
    let id = script.workers.all.get(worker).map(|worker| worker.id);
    let (queue, input, output) = (
        chosen % script.queues.len().max(1),
        chosen % script.inputs.len().max(1),
        chosen % script.outputs.len().max(1),
    );
    match (command % 20, id) {
        (1, _) if script.queues.len() < MOST => {
            let capacity = chosen % 3 + 1;
            let (handle, items) = (Mailbox::new(reactor, capacity), VecDeque::new());
            let (state, next, is_running, has_tasks) = (State::Open, 0, false, false);
            script.queues.push(Queue { handle, capacity, items, next, state, is_running, has_tasks });
        }
        (2, _) if script.workers.all.len() < 2 * MOST => {
            let number = script.workers.all.len();
            let handle = reactor.insert(Working { number, script: shared.clone() });
            script.workers.add(handle.id());
            script.workers.poke(number, reactor.wake(handle.id()));
        }
        (3, _) if script.inputs.len() < MOST => script.inputs.push(open_input(argument, reactor)),
        (4, _) if script.outputs.len() < MOST => {
            let (number, shared) = (script.outputs.len(), shared.clone());
            script.outputs.push(open_output(number, shared, reactor));
        }
        (5 | 6, _) if !script.queues.is_empty() => {
            let model = &mut script.queues[queue];
            script.workers.wake_all(List::Items(queue));
            script.workers.wake_all(List::Room(queue));
            if command % 20 == 6 {
                model.state = State::Removed;
                reactor.remove(model.handle.id());
                return;
            }
            model.handle.close(reactor);
            if model.is_running {
                let shared = shared.clone(); // it is closed from the queue
                reactor.call_soon(move |_| shared.borrow_mut().queues[queue].close());
            } else {
                model.close();
            }
        }
        (7, _) if !script.queues.is_empty() => {
            let (handle, command) = (script.queues[queue].handle, script.input.byte());
            drop(guard);
            let _ = reactor.with(handle, |_, reactor| {
                shared.borrow_mut().queues[queue].is_running = true;
                outside(shared, command, reactor);
                shared.borrow_mut().queues[queue].is_running = false;
            });
        }
        (8, Some(id)) => {
            script.workers.poke(worker, reactor.wake(id));
        }
        (9, Some(id)) => {
            drop(guard);
            reactor.remove(id);
        }
        (10 | 11, _) if !script.inputs.is_empty() => feed(script, input, argument),
        (12 | 13, _) if !script.outputs.is_empty() => drain(script, output, argument),
        (14, _) => call_remotely(script, argument, reactor),
        (15, _) => {
            drop(guard);
            signal(shared, argument, reactor);
        }
        (16, _) if !script.queues.is_empty() => {
            let task = script.tasks.pop_if(|_| argument.is_multiple_of(2));
            drop(guard);
            match task {
                Some((task, _)) => task.cancel(),
                None => receive_in_task(shared, queue, reactor),
            }
        }
        (17, _) => {
            let (shared, command) = (shared.clone(), script.input.byte());
            reactor.call_soon(move |reactor| outside(&shared, command, reactor));
        }
        (18, _) if !script.outputs.is_empty() => {
            let model = &mut script.outputs[output];
            let (place, handle, shared) = (model.on_flushed.register(), model.handle, shared.clone());
            handle.on_flushed(reactor, move |reactor| {
                shared.borrow_mut().outputs[output].on_flushed.call(place);
                called(&shared, reactor);
            });
        }
        (19, _) if argument.is_multiple_of(2) && !script.outputs.is_empty() => {
            script.outputs[output].is_removed = true;
            script.workers.wake_all(List::Output(output));
            reactor.remove(script.outputs[output].handle.id());
        }
        (19, _) if !script.inputs.is_empty() => {
            let model = &mut script.inputs[input];
            model.is_cut = true;
            script.workers.wake_all(List::Chunks(input));
            match argument / 2 % 3 {
                0 => model.chunks.close(reactor),
                1 => drop(reactor.remove(model.chunks.id())),
                _ => drop(reactor.remove(model.handle.id())),
            }
        }
        _ => {}
    }
}

pub fn run(data: &[u8]) {
    static SIGNAL_PIPE: Once = Once::new(); // it is never closed
    SIGNAL_PIPE.call_once(|| Reactor::new().unwrap().on_signal(SIGNALS[0].as_raw(), |_| ()).unwrap());
    let before = descriptors();
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote().unwrap();
    // libFuzzer does not ignore it, as the runtime of Rust does.
    reactor.on_signal(Signal::PIPE.as_raw(), |_| ()).unwrap();
    let script = Rc::new(RefCell::new(Script {
        input: Input::new(data),
        workers: Workers::default(),
        queues: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        tasks: Vec::new(),
        remote_calls: Callbacks::default(),
        signals: Default::default(),
        calls: 0,
    }));
    SCRIPT.set(Rc::downgrade(&script));
    for command in [1, 2, 2, 2, 3, 4] {
        outside(&script, command, &mut reactor); // so that short scripts find something
    }
    while !script.borrow().input.is_empty() {
        let command = script.borrow_mut().input.byte();
        match command % 3 {
            0 => turn(&script, &mut reactor),
            _ => outside(&script, command / 3, &mut reactor),
        }
    }
    // Some scripts drop the reactor in the middle.
    if !data.len().is_multiple_of(8) {
        settle(&script, &mut reactor);
        assert_nothing_waits(&script, &reactor);
        finish(&script, &mut reactor);
    }
    drop(reactor);
    assert!(remote.call(|_| ()).is_err(), "a call to a reactor that is gone");
    let mut script = script.borrow_mut();
    assert!(script.workers.all.iter().all(|worker| worker.is_gone), "a worker does not know that it is gone");
    (script.inputs, script.outputs, script.tasks) = (Vec::new(), Vec::new(), Vec::new());
    drop(script);
    assert_eq!(descriptors(), before, "a descriptor is left");
}

fn turn(script: &Shared, reactor: &mut Reactor) {
    let before = script.borrow().remote_calls.called;
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let called = script.borrow().remote_calls.called - before;
    assert!(called <= REMOTE_CALLS_PER_TURN, "{called} remote calls in one turn");
}

/// Runs turns until nothing happens any more.
fn settle(script: &Shared, reactor: &mut Reactor) {
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

fn assert_nothing_waits(script: &Shared, reactor: &Reactor) {
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
            _ => model.has_line() || model.sent - model.received >= PipeInput::LONGEST_LINE,
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
fn finish(script: &Shared, reactor: &mut Reactor) {
    let waiter = Mailbox::<u8>::new(reactor, 1).id();
    script.borrow_mut().tasks.clear();
    settle(script, reactor);
    let mut guard = script.borrow_mut();
    for queue in &mut guard.queues {
        queue.has_tasks = false;
        queue.close();
        queue.handle.close(reactor);
        while queue.state == State::Closed && !queue.items.is_empty() {
            queue.received(queue.handle.try_recv(reactor, waiter));
        }
        reactor.remove(queue.handle.id());
    }
    for input in 0..guard.inputs.len() {
        feed(&mut guard, input, 255);
    }
    drop(guard);
    let mut quiet = 0;
    while quiet < 8 {
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
