//! Mistake: the turn goes on until the queue is empty.
//! Verdict: one connection was read 1,000 times in one turn

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::checks::ex06_budget::{BUDGET, Connection};

pub fn turn(
    connections: &mut [Connection],
    again: &mut BTreeSet<usize>,
    events: &[usize],
) -> Option<Duration> {
    again.extend(events);
    while let Some(id) = again.pop_first() {
        if serve(&mut connections[id]) {
            again.insert(id);
        }
    }
    None
}

fn serve(connection: &mut Connection) -> bool {
    (0..BUDGET).all(|_| connection.read().is_ok())
}
