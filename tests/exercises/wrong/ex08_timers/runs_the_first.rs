//! Mistake: the timer that the loop slept for runs after every sleep.
//! Verdict: timer 2 is due at 31.2ms, and ran at 20.8ms: too early

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
    if let Some((_, number)) = timers.pop_first() {
        kernel.run(number, timers);
    }
}
