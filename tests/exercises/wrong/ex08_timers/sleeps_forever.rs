//! Mistake: `poll` has no timeout, so a timer runs when somebody wakes the loop.
//! Verdict: timer 1 was due at 10ms, and has run at 20.8ms: too late

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    kernel.poll(None);
    for message in messages.try_iter() {
        kernel.handle(message);
    }
    let later = timers.split_off(&(kernel.now(), u32::MAX));
    for (_, number) in std::mem::replace(timers, later) {
        kernel.run(number, timers);
    }
}
