//! Timers run in order and never early, and can be cancelled until they run.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{A_WHILE, turn_until};
use echo_reactor::Reactor;

const SECOND: Duration = Duration::from_secs(1);
const NO_WAIT: Option<Duration> = Some(Duration::ZERO);

type Log = Rc<RefCell<Vec<u32>>>;

/// A reactor whose clock is stopped, and the time that it shows.
fn stopped() -> (Reactor, Instant, Log) {
    let mut reactor = Reactor::new().unwrap();
    let now = Instant::now();
    reactor.set_now(now);
    (reactor, now, Log::default())
}

fn note(log: &Log, number: u32) -> impl FnOnce(&mut Reactor) + 'static + use<> {
    let log = log.clone();
    move |_| log.borrow_mut().push(number)
}

#[test]
fn timers_run_in_order_of_deadline_then_of_creation() {
    let (mut reactor, now, log) = stopped();
    reactor.call_later(3 * SECOND, note(&log, 3));
    reactor.call_later(SECOND, note(&log, 1));
    reactor.call_later(2 * SECOND, note(&log, 21));
    reactor.call_later(2 * SECOND, note(&log, 22));
    reactor.set_now(now + 5 * SECOND);
    reactor.turn(NO_WAIT).unwrap();
    assert_eq!(*log.borrow(), [1, 21, 22, 3]);
}

#[test]
fn timer_is_never_early() {
    let (mut reactor, now, log) = stopped();
    reactor.call_later(SECOND, note(&log, 1));
    reactor.set_now(now + SECOND - Duration::from_nanos(1));
    reactor.turn(NO_WAIT).unwrap();
    assert!(log.borrow().is_empty());
    reactor.set_now(now + SECOND);
    reactor.turn(NO_WAIT).unwrap();
    assert_eq!(*log.borrow(), [1]);
}

#[test]
fn timer_is_never_early_on_the_real_clock() {
    let mut reactor = Reactor::new().unwrap();
    for micros in [1, 300, 999, 1500, 4321] {
        let ran = Rc::new(RefCell::new(None));
        let (began, delay) = (Instant::now(), Duration::from_micros(micros));
        let note = ran.clone();
        reactor.call_at(began + delay, move |_| *note.borrow_mut() = Some(Instant::now()));
        turn_until(&mut reactor, "the timer ran", |_| ran.borrow().is_some());
        assert!(ran.borrow().unwrap() >= began + delay);
    }
}

#[test]
fn rescheduled_timer_waits_for_the_next_turn() {
    fn forever(reactor: &mut Reactor) {
        reactor.call_later(Duration::ZERO, forever);
    }
    let (mut reactor, _, _) = stopped();
    forever(&mut reactor);
    reactor.turn(NO_WAIT).unwrap();
    reactor.turn(NO_WAIT).unwrap();
    assert_eq!((reactor.turn_count(), reactor.timer_count()), (2, 1));
}

#[test]
fn due_timer_can_be_cancelled_by_an_earlier_one() {
    let (mut reactor, now, log) = stopped();
    let second = reactor.call_later(2 * SECOND, note(&log, 2));
    let log_of_first = log.clone();
    reactor.call_later(SECOND, move |reactor| {
        assert!(reactor.cancel(second));
        log_of_first.borrow_mut().push(1);
    });
    reactor.set_now(now + 5 * SECOND);
    reactor.turn(NO_WAIT).unwrap();
    assert_eq!(*log.borrow(), [1]);
    assert!(!reactor.cancel(second), "a timer cannot be cancelled twice");
    assert_eq!(reactor.timer_count(), 0, "no timer is left");
}

#[test]
fn time_does_not_advance_within_a_turn() {
    let mut reactor = Reactor::new().unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..2 {
        let seen = seen.clone();
        reactor.call_soon(move |reactor| {
            let read = Instant::now();
            while Instant::now() < read + Duration::from_millis(2) {}
            seen.borrow_mut().push(reactor.now());
        });
    }
    reactor.turn(None).unwrap();
    assert_eq!(seen.borrow()[0], seen.borrow()[1]);
    reactor.turn(NO_WAIT).unwrap();
    let between_turns = reactor.now();
    assert!(between_turns > seen.borrow()[0]);
    while Instant::now() <= between_turns {}
    assert!(reactor.now() > between_turns);
}

#[test]
fn slow_callback_does_not_delay_the_next_timer() {
    let mut reactor = Reactor::new().unwrap();
    let began = Instant::now();
    reactor.call_soon(move |_| while began.elapsed() < Duration::from_millis(300) {});
    let ran = Rc::new(RefCell::new(false));
    let note = ran.clone();
    reactor.call_at(began + Duration::from_millis(300), move |_| *note.borrow_mut() = true);
    reactor.turn(None).unwrap();
    let second = Instant::now();
    turn_until(&mut reactor, "the timer ran", |_| *ran.borrow());
    assert!(second.elapsed() < Duration::from_millis(250), "the sleep ignored the time that had passed");
}

#[test]
fn timer_that_expires_during_poll_runs_in_the_next_turn() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (began, delay) = (Instant::now(), A_WHILE); // the poll begins earlier, also on a busy machine
    reactor.call_later(delay, note(&log, 1));
    reactor.turn(None).unwrap();
    assert!(log.borrow().is_empty() && began.elapsed() >= delay);
    reactor.turn(None).unwrap();
    assert_eq!(*log.borrow(), [1]);
}

#[test]
fn delay_beyond_the_range_of_the_clock_never_fires() {
    let mut reactor = Reactor::new().unwrap();
    let timer = reactor.call_later(Duration::MAX, |_| panic!("never"));
    reactor.turn(NO_WAIT).unwrap();
    assert!(reactor.cancel(timer));
}
