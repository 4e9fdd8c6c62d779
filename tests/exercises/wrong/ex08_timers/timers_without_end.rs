//! Mistake: a timer that sets itself again for now runs again in the same turn.
//! Verdict: timer 3 ran twice in one turn: it sets itself again, for now, and the turn does not end

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    let timeout = timers.first().map(|(when, _)| {
        let left = when.saturating_sub(kernel.now());
        left.as_micros().div_ceil(1000) as u64
    });
    kernel.poll(timeout);
    for message in messages.try_iter() {
        kernel.handle(message);
    }
    while timers.first().is_some_and(|(when, _)| *when <= kernel.now()) {
        let (_, number) = timers.pop_first().unwrap();
        kernel.run(number, timers);
    }
}
