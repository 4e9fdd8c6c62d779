//! Mistake: a connection stops at its budget, and waits for an event.
//! Verdict: connection 0 used up its budget, and is not in the queue

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::checks::ex06_budget::{BUDGET, Connection};

pub fn turn(
    connections: &mut [Connection],
    again: &mut BTreeSet<usize>,
    events: &[usize],
) -> Option<Duration> {
    for id in events {
        serve(&mut connections[*id]);
    }
    None
}

fn serve(connection: &mut Connection) -> bool {
    (0..BUDGET).all(|_| connection.read().is_ok())
}
