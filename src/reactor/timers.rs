//! What is to happen later: an ordered map from a deadline to a job.
//!
//! Invariant: a job runs at its deadline or after it, never before, in the order of the deadlines,
//! and in the order of setting where they are equal. A turn runs only what was set before it began
//! to run timers, so a timer that sets itself again at once does not hold the loop. What is due
//! and has not run yet can still be cancelled, and nothing stays behind when it is.
//!
//! Read next: `mod.rs`, step 4 of a turn.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Job;

/// A timer that was set, for [`Reactor::cancel`](super::Reactor::cancel). It goes stale harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    when: Instant,
    sequence: u64,
}

#[derive(Default)]
pub(super) struct Timers {
    jobs: BTreeMap<Timer, Job>,
    sequence: u64,
}

impl Timers {
    pub fn set(&mut self, when: Instant, job: Job) -> Timer {
        let timer = Timer { when, sequence: self.sequence };
        self.sequence += 1;
        self.jobs.insert(timer, job);
        timer
    }

    pub fn cancel(&mut self, timer: Timer) -> bool {
        self.jobs.remove(&timer).is_some()
    }

    /// The deadline that comes next.
    pub fn next(&self) -> Option<Instant> {
        self.jobs.first_key_value().map(|(timer, _)| timer.when)
    }

    /// Marks where the timers set so far end.
    pub fn mark(&self) -> u64 {
        self.sequence
    }

    /// Takes the next job that is due at `now` and was set before `mark`.
    pub fn take_due(&mut self, now: Instant, mark: u64) -> Option<Job> {
        let (&timer, _) = self
            .jobs
            .iter()
            .take_while(|(timer, _)| timer.when <= now)
            .find(|(timer, _)| timer.sequence < mark)?;
        self.jobs.remove(&timer)
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}
