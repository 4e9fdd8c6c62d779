//! Mistake: the loop wakes up every 10 ms, to look whether something is due.
//! Verdict: `poll` returned 5 times while nothing was due, the last time with Some(10) ms

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    let timeout = timers.first().map(|(when, _)| {
        let left = when.saturating_sub(kernel.now());
        left.as_micros().div_ceil(1000) as u64
    });
    kernel.poll(Some(timeout.unwrap_or(10).min(10)));
    for message in messages.try_iter() {
        kernel.handle(message);
    }
    let later = timers.split_off(&(kernel.now(), u32::MAX));
    for (_, number) in std::mem::replace(timers, later) {
        kernel.run(number, timers);
    }
}
