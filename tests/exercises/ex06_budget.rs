//! Exercise 6: a budget, and a queue for the rest.
//!
//! Some peers never stop sending, so `read` never returns `WouldBlock` for them. Write one turn of
//! the loop so that each connection is read at most `BUDGET` times in it, and none is forgotten: a
//! connection that stops before `WouldBlock` gets no event for what is left.
//! The types that you need are in `checks/ex06_budget.rs`. You may read it.
//!
//!     cargo test --test exercises ex06_budget -- --ignored

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::checks::ex06_budget::{BUDGET, Connection};

/// Reads from each connection in `events` and in `again`, the queue: both have indices of
/// `connections`. A connection that has used up its budget is in the queue afterwards. Returns the
/// timeout for the next `poll`: `None` sleeps until an event comes, and `Some(Duration::ZERO)` does
/// not sleep.
pub fn turn(
    connections: &mut [Connection],
    again: &mut BTreeSet<usize>,
    events: &[usize],
) -> Option<Duration> {
    todo!("take the queue before the first call, and merge the events into it")
}

/// Returns whether the budget ended before `WouldBlock`.
fn serve(connection: &mut Connection) -> bool {
    todo!("`connection.read()` returns `io::Result<usize>`, and its only error is `WouldBlock`")
}
