//! Input from outside of the loop: calls from other threads, and signals.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use common::{turn_until, turn_until_panic, turn_until_quiet};
use echo_reactor::{Id, Next, Reactor, Ready, Source, Stopped};
use rustix::process::{Signal, getpid, kill_process};

/// Signals belong to the process, so these tests run one at a time.
fn signals() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counter() -> (Rc<Cell<u32>>, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    (count.clone(), count)
}

#[test]
fn remote_calls_all_arrive_although_wakeups_coalesce() {
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote().unwrap();
    let sum = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (remote, sum) = (remote.clone(), sum.clone());
            thread::spawn(move || {
                for number in 0..1000 {
                    let sum = sum.clone();
                    remote.call(move |_| *sum.lock().unwrap() += number).unwrap();
                }
            })
        })
        .collect();
    turn_until(&mut reactor, "all calls have run", |_| *sum.lock().unwrap() == 4 * 499_500);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn remote_call_wakes_a_sleeping_loop() {
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote().unwrap();
    let thread = thread::spawn(move || remote.call(Reactor::stop));
    reactor.run().unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn source_can_be_woken_from_another_thread() {
    struct Woken(Rc<Cell<u32>>);
    impl Source for Woken {
        fn ready(&mut self, _: Id, ready: Ready, _: &mut Reactor) -> Next {
            assert_eq!(ready, Ready::WOKEN);
            self.0.set(self.0.get() + 1);
            Next::Wait
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (count, note) = counter();
    let id = reactor.insert(Woken(note)).id();
    let remote = reactor.remote().unwrap();
    thread::spawn(move || remote.wake(id)).join().unwrap().unwrap();
    turn_until(&mut reactor, "the source was woken", |_| count.get() == 1);
}

#[test]
fn remote_call_to_a_dropped_reactor_is_an_error() {
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote().unwrap();
    drop(reactor);
    assert_eq!(remote.call(|_| ()), Err(Stopped));
}

#[test]
fn signal_is_handled_once_per_turn() {
    let _guard = signals();
    let mut reactor = Reactor::new().unwrap();
    let (count, note) = counter();
    reactor.on_signal(Signal::USR2.as_raw(), move |_| note.set(note.get() + 1)).unwrap();
    kill_process(getpid(), Signal::USR2).unwrap();
    turn_until(&mut reactor, "the signal was handled", |_| count.get() > 0);
    turn_until_quiet(&mut reactor);
    assert_eq!(count.get(), 1);
}

#[test]
fn new_handler_replaces_only_the_handler_of_its_signal() {
    let _guard = signals();
    let mut reactor = Reactor::new().unwrap();
    let (first, note_first) = counter();
    let (second, note_second) = counter();
    let (other, note_other) = counter();
    reactor.on_signal(Signal::USR2.as_raw(), move |_| note_first.set(1)).unwrap();
    reactor.on_signal(Signal::USR2.as_raw(), move |_| note_second.set(1)).unwrap();
    reactor.on_signal(Signal::WINCH.as_raw(), move |_| note_other.set(1)).unwrap();
    kill_process(getpid(), Signal::USR2).unwrap();
    kill_process(getpid(), Signal::WINCH).unwrap();
    turn_until(&mut reactor, "both signals were handled", |_| second.get() + other.get() == 2);
    assert_eq!(first.get(), 0);
}

#[test]
fn only_one_reactor_at_a_time_handles_signals() {
    let _guard = signals();
    let mut first = Reactor::new().unwrap();
    let mut second = Reactor::new().unwrap();
    first.on_signal(Signal::WINCH.as_raw(), |_| ()).unwrap();
    let error = second.on_signal(Signal::WINCH.as_raw(), |_| ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    drop(first);
    let (count, note) = counter();
    second.on_signal(Signal::WINCH.as_raw(), move |_| note.set(1)).unwrap();
    kill_process(getpid(), Signal::WINCH).unwrap();
    turn_until(&mut second, "the second reactor handled the signal", |_| count.get() == 1);
}

#[test]
fn callback_that_panics_gives_its_signal_back() {
    let _guard = signals();
    let mut reactor = Reactor::new().unwrap();
    reactor.on_signal(Signal::USR2.as_raw(), |_| panic!("as the test expects")).unwrap();
    kill_process(getpid(), Signal::USR2).unwrap();
    turn_until_panic(&mut reactor);
    turn_until_quiet(&mut reactor);
    Reactor::new().unwrap().on_signal(Signal::USR2.as_raw(), |_| ()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn signals_are_handled_again_after_the_pipe_of_the_library_was_removed() {
    let _guard = signals();
    let mut reactor = Reactor::new().unwrap();
    let (count, note) = counter();
    reactor.on_signal(Signal::WINCH.as_raw(), |_| ()).unwrap();
    let pipe = reactor.slots().find(|slot| slot.type_name.is_some_and(|name| name.ends_with("SignalPipe")));
    reactor.remove(pipe.unwrap().id);
    assert_eq!(reactor.source_count(), 0, "the callback is removed, too");
    reactor.on_signal(Signal::USR2.as_raw(), move |_| note.set(1)).unwrap();
    kill_process(getpid(), Signal::USR2).unwrap();
    turn_until(&mut reactor, "the signal was handled", |_| count.get() == 1);
}

#[test]
fn dropped_reactor_restores_the_disposition_of_its_signals() {
    let _guard = signals();
    let is_caught = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (Signal::TTOU.as_raw() - 1) != 0
    };
    let mut reactor = Reactor::new().unwrap();
    assert!(!is_caught());
    reactor.on_signal(Signal::TTOU.as_raw(), |_| ()).unwrap();
    assert!(is_caught());
    drop(reactor);
    assert!(!is_caught());
}

#[test]
fn signals_that_cannot_be_caught_are_rejected() {
    let _guard = signals();
    let mut reactor = Reactor::new().unwrap();
    for signal in [Signal::KILL.as_raw(), 0, -1, 1000] {
        let error = reactor.on_signal(signal, |_| ()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{signal}");
    }
}

#[test]
fn pending_signal_reaches_the_replacement_callback() {
    let _signals = signals();
    let mut reactor = Reactor::new().unwrap();
    let raise = || rustix::process::kill_process(rustix::process::getpid(), Signal::USR2).unwrap();
    reactor.on_signal(12, |_| panic!("this callback was replaced")).unwrap();
    raise();
    reactor.on_signal(12, Reactor::stop).unwrap();
    reactor.run().unwrap();
    // Here the signal arrives between the turn's read of the pipe and the callback.
    reactor.on_signal(12, |_| panic!("this callback was replaced")).unwrap();
    reactor.call_soon(|reactor| reactor.on_signal(12, Reactor::stop).unwrap());
    raise();
    std::thread::sleep(common::A_WHILE); // another thread may run the signal handler
    reactor.run().unwrap();
}

#[test]
fn calls_of_other_threads_run_in_order_and_do_not_hold_the_loop() {
    const CALLS: usize = 5000;
    let mut reactor = Reactor::new().unwrap();
    let remote = reactor.remote().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..CALLS {
        let order = order.clone();
        remote.call(move |_| order.lock().unwrap().push(number)).unwrap();
    }
    // A thread that sends faster than the loop works must not keep it from its sources.
    reactor.turn(None).unwrap();
    let first = order.lock().unwrap().len();
    assert!((1..CALLS / 2).contains(&first), "the first turn ran {first} calls");
    // The other calls run without another wake-up.
    turn_until(&mut reactor, "all calls ran", |_| order.lock().unwrap().len() == CALLS);
    assert!(order.lock().unwrap().iter().copied().eq(0..CALLS));
}
