//! Mistake: one message is taken for each wake-up.
//! Verdict: 2 messages are not handled, and no wake-up comes for them

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    let timeout = timers.first().map(|(when, _)| {
        let left = when.saturating_sub(kernel.now());
        left.as_micros().div_ceil(1000) as u64
    });
    kernel.poll(timeout);
    if let Ok(message) = messages.try_recv() {
        kernel.handle(message);
    }
    let later = timers.split_off(&(kernel.now(), u32::MAX));
    for (_, number) in std::mem::replace(timers, later) {
        kernel.run(number, timers);
    }
}
