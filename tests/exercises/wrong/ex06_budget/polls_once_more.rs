//! Mistake: after each turn in which something ran, `poll` does not sleep.
//! Verdict: the queue is empty, so `poll` can sleep until an event comes (`None`): its timeout is Some(0ns)

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::checks::ex06_budget::{BUDGET, Connection};

pub fn turn(
    connections: &mut [Connection],
    again: &mut BTreeSet<usize>,
    events: &[usize],
) -> Option<Duration> {
    let mut called = mem::take(again);
    called.extend(events);
    for id in called {
        if serve(&mut connections[id]) {
            again.insert(id);
        }
    }
    if again.is_empty() && events.is_empty() { None } else { Some(Duration::ZERO) }
}

fn serve(connection: &mut Connection) -> bool {
    (0..BUDGET).all(|_| connection.read().is_ok())
}
