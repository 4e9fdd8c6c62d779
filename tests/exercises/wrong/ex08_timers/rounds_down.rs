//! Mistake: the timeout is rounded down, so the last millisecond is spent in a busy loop.
//! Verdict: the last time with Some(0) ms

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    let timeout = timers.first().map(|(when, _)| {
        let left = when.saturating_sub(kernel.now());
        left.as_millis() as u64
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
