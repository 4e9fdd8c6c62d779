//! Remote calls from the same thread, signals, and tasks that receive from mailboxes.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Weak;

use echo_reactor::{Reactor, TryRecv};
use rustix::process::{Signal, getpid, kill_process};

use super::{Script, Shared, called};

/// Signals that a process ignores by default.
pub const SIGNALS: [Signal; 2] = [Signal::WINCH, Signal::URG];

#[derive(Default)]
pub struct SignalModel {
    /// How many callbacks were registered. Each one replaces the one before.
    pub registered: usize,
    pub raised: usize,
    pub called: usize,
    pub is_due: bool,
}

thread_local! {
    /// For remote calls, which are `Send`.
    pub static SCRIPT: RefCell<Weak<RefCell<Script>>> = RefCell::default();
}

pub fn call_remotely(script: &mut Script, argument: u8, reactor: &mut Reactor) {
    let (remote, worker) =
        (reactor.remote().unwrap(), usize::from(argument) % script.workers.all.len().max(1));
    if argument.is_multiple_of(4)
        && let Some(one) = script.workers.all.get(worker)
    {
        remote.wake(one.id).unwrap();
        return script.workers.poke_later(worker);
    }
    let count = if argument == 255 { 1100 } else { 1 };
    for _ in 0..count {
        let place = script.remote_calls.register();
        let call = move |reactor: &mut Reactor| {
            let Some(shared) = SCRIPT.with_borrow(Weak::upgrade) else { return };
            shared.borrow_mut().remote_calls.call(place);
            if count == 1 {
                called(&shared, reactor);
            }
        };
        remote.call(call).unwrap();
    }
}

/// Registers a callback for a signal, or raises it.
pub fn signal(shared: &Shared, argument: u8, reactor: &mut Reactor) {
    let number = usize::from(argument) % 2;
    let raw = SIGNALS[number].as_raw();
    let mut guard = shared.borrow_mut();
    let model = &mut guard.signals[number];
    match argument / 2 % 4 {
        0 => {
            model.registered += 1;
            let (generation, shared) = (model.registered, shared.clone());
            let registered = reactor.on_signal(raw, move |reactor| {
                let mut script = shared.borrow_mut();
                let model = &mut script.signals[number];
                model.called += 1;
                model.is_due = false;
                assert!(model.registered == generation && model.called <= model.raised);
                drop(script);
                called(&shared, reactor);
            });
            registered.unwrap();
        }
        1 => {
            let other = Reactor::new().unwrap().on_signal(raw, |_| ());
            assert!(other.is_err_and(|error| error.kind() == ErrorKind::ResourceBusy));
        }
        _ if model.registered > 0 => {
            model.raised += 1;
            model.is_due = true;
            kill_process(getpid(), SIGNALS[number]).unwrap();
        }
        _ => {}
    }
}

pub fn receive_in_task(shared: &Shared, queue: usize, reactor: &mut Reactor) {
    let mut script = shared.borrow_mut();
    script.queues[queue].has_tasks = true;
    let (mailbox, receiving) = (script.queues[queue].handle, shared.clone());
    let handle = reactor.handle().unwrap();
    let loop_handle = handle.clone();
    let task = handle.spawn(async move {
        let item = loop_handle.recv(mailbox).await;
        let mut script = receiving.borrow_mut();
        script.calls += 1;
        script.queues[queue].received(item.map_or(TryRecv::Closed, TryRecv::Item), false);
    });
    script.tasks.push((task, queue));
}
