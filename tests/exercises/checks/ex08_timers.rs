//! A loop with timers and messages, on a kernel whose clock moves in `poll` and while something
//! runs.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::judge::{Verdict, doing, ensure, stop};

/// The timers that are set: when they are due, and their numbers.
pub type Timers = BTreeSet<(Duration, u32)>;

/// Another thread sends messages at these times, and then wakes the loop once.
const WAKE_UPS: [(u64, &[u32]); 3] = [(20_500, &[1]), (47_000, &[2, 3, 4]), (150_000, &[5])];

/// When the timers are due, in microseconds. The third one sets itself again. Numbers 6 and 7 are
/// due exactly when the second wake-up comes, and when its messages are handled.
const TIMERS: [(u64, u32); 7] =
    [(10_000, 1), (31_200, 2), (47_000, 6), (47_900, 7), (60_000, 3), (60_000, 4), (100_300, 5)];

/// How long it takes to handle a message, and to run what a timer is set for.
const WORK: Duration = Duration::from_micros(300);

/// So many polls may end early, with nothing to do.
const NEEDLESS_POLLS: usize = 5;

/// The clock, `poll`, and what the loop calls.
pub struct Kernel {
    now: Duration,
    /// What `now` has returned last.
    read: Cell<Duration>,
    sender: Sender<u32>,
    wake_ups: usize,
    messages: Vec<u32>,
    /// The timers that have run, and those since the last `poll`.
    ran: Vec<u32>,
    ran_in_this_turn: Vec<u32>,
    /// When the first timer was due, as the turn began.
    first_timer: Option<Duration>,
    needless_polls: usize,
}

impl Kernel {
    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.read.set(self.now);
        self.now
    }

    /// Sleeps until another thread wakes the loop, but at most so many milliseconds. `None` has no
    /// limit.
    pub fn poll(&mut self, milliseconds: Option<u64>) {
        let sent: usize = WAKE_UPS[..self.wake_ups].iter().map(|(_, messages)| messages.len()).sum();
        let left = sent - self.messages.len();
        if left > 0 {
            stop(format!(
                "{left} messages are not handled, and no wake-up comes for them. One wake-up may stand \
                 for many messages: take all that are there"
            ));
        }
        let wake_up = WAKE_UPS.get(self.wake_ups).map(|(time, _)| Duration::from_micros(*time));
        // It is a little late, as all kernels are.
        let timeout = milliseconds
            .map(|count| self.now.saturating_add(Duration::from_millis(count)) + Duration::from_micros(5));
        let Some(until) = wake_up.into_iter().chain(timeout).min() else {
            stop(
                "`poll` sleeps without a limit, and a timer is set: pass the distance to the first one"
                    .to_owned(),
            )
        };
        self.now = until.max(self.now);
        self.ran_in_this_turn.clear();
        if wake_up == Some(until) {
            for message in WAKE_UPS[self.wake_ups].1 {
                self.sender.send(*message).unwrap();
            }
            self.wake_ups += 1;
        } else if self.first_timer.is_none_or(|due| self.now < due) {
            self.needless_polls += 1;
        }
        if self.needless_polls == NEEDLESS_POLLS {
            stop(format!(
                "`poll` returned {NEEDLESS_POLLS} times while nothing was due, the last time with \
                 {milliseconds:?} ms at {:?}: the loop wakes up for nothing. The timeout is the distance to the \
                 first timer, rounded *up*, and `None` if there is no timer",
                self.now
            ));
        }
    }

    /// Handles a message.
    pub fn handle(&mut self, message: u32) {
        self.messages.push(message);
        self.now += WORK;
    }

    /// Runs what a timer is set for. This may set timers.
    pub fn run(&mut self, timer: u32, timers: &mut Timers) {
        let due = TIMERS.iter().find(|(_, number)| *number == timer);
        let Some(due) = due.map(|(time, _)| Duration::from_micros(*time)) else {
            stop(format!("there is no timer {timer}"))
        };
        if self.now < due {
            stop(format!(
                "timer {timer} is due at {due:?}, and ran at {:?}: too early. `poll` may return \
                 before the timer is due, for example for a message: compare it with the clock",
                self.now
            ));
        }
        if !self.ran.contains(&timer) && self.now > due + Duration::from_millis(2) {
            stop(format!(
                "timer {timer} was due at {due:?}, and has run at {:?}: too late. `poll` may sleep \
                 only until the first timer, and each turn runs all that are due",
                self.now
            ));
        }
        if self.ran_in_this_turn.contains(&timer) {
            let reason = if timer == 3 {
                "it sets itself again, for now, and the turn does not end. Take the due \
                 timers out of `timers` before you run the first"
            } else {
                "it was not removed from `timers`"
            };
            stop(format!("timer {timer} ran twice in one turn: {reason}"));
        }
        let count = self.ran.iter().filter(|number| **number == timer).count();
        if count > 0 && timer != 3 {
            stop(format!("timer {timer} ran twice: it was not removed from `timers`"));
        }
        if timer == 3 && count < 4 {
            timers.insert((self.now, timer));
        }
        self.ran.push(timer);
        self.now += WORK;
        self.ran_in_this_turn.push(timer);
    }
}

type Turn = fn(&mut Kernel, &mut Timers, &Receiver<u32>);

pub fn check(turn: Turn) -> Verdict {
    let (sender, messages) = mpsc::channel();
    let mut kernel = Kernel {
        now: Duration::ZERO,
        read: Cell::default(),
        sender,
        wake_ups: 0,
        messages: Vec::new(),
        ran: Vec::new(),
        ran_in_this_turn: Vec::new(),
        first_timer: None,
        needless_polls: 0,
    };
    let mut timers: Timers = TIMERS.map(|(time, number)| (Duration::from_micros(time), number)).into();
    for _ in 0..100 {
        if kernel.messages.len() == 5 {
            break;
        }
        let is_overdue = timers.first().is_some_and(|(when, _)| *when < kernel.now);
        doing(if is_overdue { "in a turn that begins when a timer is overdue" } else { "in `turn`" });
        kernel.first_timer = timers.first().map(|(when, _)| *when);
        let before = timers.clone();
        turn(&mut kernel, &mut timers, &messages);
        let read = kernel.read.get();
        if let Some((_, timer)) = timers.intersection(&before).find(|(when, _)| *when == read) {
            ensure!(
                false,
                "timer {timer} is due at {read:?}, which is the last time that `now` returned, and it has not run: \
                 a timer for exactly now is due, whatever its number"
            );
        }
        let now = kernel.now;
        let forgotten = timers.first().filter(|(when, _)| *when + Duration::from_millis(2) < now);
        if let Some((when, timer)) = forgotten {
            ensure!(
                false,
                "timer {timer} was due at {when:?}, and has not run at {now:?}: each turn runs all timers that are due"
            );
        }
    }
    ensure!(kernel.messages == [1, 2, 3, 4, 5], "5 messages were sent, and {:?} handled", kernel.messages);
    ensure!(
        kernel.ran.iter().filter(|timer| **timer == 3).count() == 5,
        "timer 3 set itself again in its call, and was lost: do not replace `timers` after the calls"
    );
    Ok(())
}
