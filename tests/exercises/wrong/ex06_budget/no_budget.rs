//! Mistake: a connection is read until `WouldBlock`.
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
    let mut called = mem::take(again);
    called.extend(events);
    for id in called {
        if serve(&mut connections[id]) {
            again.insert(id);
        }
    }
    if again.is_empty() { None } else { Some(Duration::ZERO) }
}

fn serve(connection: &mut Connection) -> bool {
    while connection.read().is_ok() {}
    false
}
