//! Mistake: a timer for exactly now is later than `(now, 0)`, so it does not run.
//! Verdict: a timer for exactly now is due, whatever its number

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
    let later = timers.split_off(&(kernel.now(), 0));
    for (_, number) in std::mem::replace(timers, later) {
        kernel.run(number, timers);
    }
}
