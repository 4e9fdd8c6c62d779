//! Mistake: the distance to a timer that is overdue is negative.
//! Verdict: your answer panicked in a turn that begins when a timer is overdue: overflow when subtracting durations

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    let timeout = timers.first().map(|(when, _)| {
        let left = *when - kernel.now();
        left.as_micros().div_ceil(1000) as u64
    });
    kernel.poll(timeout);
    for message in messages.try_iter() {
        kernel.handle(message);
    }
    let later = timers.split_off(&(kernel.now(), u32::MAX));
    for (_, number) in std::mem::replace(timers, later) {
        kernel.run(number, timers);
    }
}
