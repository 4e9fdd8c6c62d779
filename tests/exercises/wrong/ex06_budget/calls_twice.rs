//! Mistake: a connection in the queue that also has an event is called for each.
//! Verdict: connection 0 was read 32 times in one turn: the budget is 16

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::checks::ex06_budget::{BUDGET, Connection};

pub fn turn(
    connections: &mut [Connection],
    again: &mut BTreeSet<usize>,
    events: &[usize],
) -> Option<Duration> {
    let queued = mem::take(again);
    for id in queued.iter().chain(events) {
        if serve(&mut connections[*id]) {
            again.insert(*id);
        }
    }
    if again.is_empty() { None } else { Some(Duration::ZERO) }
}

fn serve(connection: &mut Connection) -> bool {
    (0..BUDGET).all(|_| connection.read().is_ok())
}
