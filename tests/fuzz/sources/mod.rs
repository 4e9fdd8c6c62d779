//! Fuzzing mailboxes, inputs, outputs, remote calls and signals: bytes are commands, as in
//! `reactor.rs`.
//!
//! Workers are sources that send, receive and write, and that wait if they must. A model of each
//! mailbox and of each pipe shows what every call must return, and which worker must be woken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use echo_reactor::{Id, Mailbox, Next, Reactor, Ready, Source, Task};
use rustix::process::Signal;

use super::calls::Callbacks;
use super::descriptors;
use super::input::Input;

mod end;
mod models;
mod pipes;
mod remote;

use end::{assert_nothing_waits, finish, settle};
use models::{List, Queue, State, Workers};
use pipes::{InputPipe, OutputPipe, drain, feed, open_input, open_output, receive_chunk, write};
use remote::{SCRIPT, SIGNALS, SignalModel, call_remotely, receive_in_task, signal};

const MOST: usize = 4;
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
            script.workers.woken(self.number, &reactor.queue());
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
    let (waits, list) = match command % 8 {
        1..=4 => {
            let queue = argument % script.queues.len();
            let model = &mut script.queues[queue];
            script.workers.poke(number, model.is_running); // it tries again
            if command % 8 < 3 {
                let sent = model.handle.try_send(reactor, id, model.next);
                (model.sent(sent, script.workers.has_waited(List::Room(queue))), List::Room(queue))
            } else {
                let received = model.handle.try_recv(reactor, id);
                (model.received(received, script.workers.has_waited(List::Items(queue))), List::Items(queue))
            }
        }
        5 => {
            let input = argument % script.inputs.len();
            (receive_chunk(&mut script.inputs[input], id, reactor), List::Chunks(input))
        }
        6 | 7 => {
            let output = argument % script.outputs.len();
            let list = List::Output(output);
            let others_waited = script.workers.has_waited(list);
            (write(&mut script.outputs[output], id, argument, others_waited, reactor), list)
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
    let command = command % 20;
    match command {
        1 if script.queues.len() < MOST => {
            let capacity = chosen % 3 + 1;
            let (handle, items) = (Mailbox::new(reactor, capacity), VecDeque::new());
            let (state, next, is_running, has_tasks) = (State::Open, 0, false, false);
            script.queues.push(Queue { handle, capacity, items, next, state, is_running, has_tasks });
        }
        2 if script.workers.all.len() < 2 * MOST => {
            let number = script.workers.all.len();
            let handle = reactor.insert(Working { number, script: shared.clone() });
            script.workers.add(handle.id());
            script.workers.poke(number, reactor.wake(handle.id()));
        }
        3 if script.inputs.len() < MOST => script.inputs.push(open_input(argument, reactor)),
        4 if script.outputs.len() < MOST => {
            let (number, shared) = (script.outputs.len(), shared.clone());
            script.outputs.push(open_output(number, shared, reactor));
        }
        5 | 6 => {
            let queue = chosen % script.queues.len();
            let model = &mut script.queues[queue];
            script.workers.wake_all(List::Items(queue));
            script.workers.wake_all(List::Room(queue));
            if command == 6 {
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
        7 => {
            let queue = chosen % script.queues.len();
            let (handle, command) = (script.queues[queue].handle, script.input.byte());
            drop(guard);
            let _ = reactor.with(handle, |_, reactor| {
                shared.borrow_mut().queues[queue].is_running = true;
                outside(shared, command, reactor);
                shared.borrow_mut().queues[queue].is_running = false;
            });
        }
        8 => {
            let worker = chosen % script.workers.all.len();
            let is_woken = reactor.wake(script.workers.all[worker].id);
            script.workers.poke(worker, is_woken);
        }
        9 => {
            let id = script.workers.all[chosen % script.workers.all.len()].id;
            drop(guard);
            reactor.remove(id);
        }
        10 | 11 => feed(script, chosen % script.inputs.len(), argument),
        12 | 13 => drain(script, chosen % script.outputs.len(), argument),
        14 => call_remotely(script, argument, reactor),
        15 => {
            drop(guard);
            signal(shared, argument, reactor);
        }
        16 => {
            let queue = chosen % script.queues.len();
            let task = script.tasks.pop_if(|_| argument.is_multiple_of(2));
            drop(guard);
            match task {
                Some((task, _)) => task.cancel(),
                None => receive_in_task(shared, queue, reactor),
            }
        }
        17 => {
            let (shared, command) = (shared.clone(), script.input.byte());
            reactor.call_soon(move |reactor| outside(&shared, command, reactor));
        }
        18 => {
            let output = chosen % script.outputs.len();
            let model = &mut script.outputs[output];
            let (place, handle, shared) = (model.on_flushed.register(), model.handle, shared.clone());
            handle.on_flushed(reactor, move |reactor| {
                shared.borrow_mut().outputs[output].on_flushed.call(place);
                called(&shared, reactor);
            });
        }
        19 if argument.is_multiple_of(2) => {
            let output = chosen % script.outputs.len();
            script.outputs[output].is_removed = true;
            script.workers.wake_all(List::Output(output));
            reactor.remove(script.outputs[output].handle.id());
        }
        19 => {
            let input = chosen % script.inputs.len();
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
    let with_reactor = descriptors();
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
        assert_eq!(descriptors(), with_reactor, "a descriptor is left");
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
