//! The data that the two threads share.
//!
//! Invariant: a thread that holds a lock never waits, so it does not delay the other thread.
//! Everything else goes from thread to thread through a `Remote`.
//!
//! Read next: `observed.rs`, the loop that is observed; `site.rs`, the loop that serves the page.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use echo_reactor::observe::Phase;

use crate::gate::Gate;
use crate::log::{Entry, Log};

pub struct Lab {
    pub gate: Gate,
    began: Instant,
    log: Mutex<Log>,
    /// The last sample of the observed loop, as JSON.
    sample: Mutex<String>,
    /// The letters of the peers, by their ports.
    letters: Mutex<HashMap<u16, char>>,
    /// The number of the phase that the observed loop is in, or enters next.
    phase: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lab {
    pub fn new() -> Self {
        Lab {
            gate: Gate::new(),
            began: Instant::now(),
            log: Mutex::default(),
            sample: Mutex::new("null".into()),
            letters: Mutex::default(),
            phase: AtomicUsize::new(Phase::Timeout as usize),
        }
    }

    /// The milliseconds from the start of the laboratory to `when`.
    pub fn millis(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub fn note(&self, text: impl Into<String>, chapter: &'static str) {
        self.log().push(Entry::Note(text.into(), chapter));
    }

    pub fn publish(&self, sample: String) {
        *lock(&self.sample) = sample;
    }

    pub fn sample(&self) -> String {
        lock(&self.sample).clone()
    }

    /// The letters stay locked until a new peer has its own, so that the loop cannot accept it
    /// earlier.
    pub fn letters(&self) -> MutexGuard<'_, HashMap<u16, char>> {
        lock(&self.letters)
    }

    pub fn letter(&self, port: u16) -> Option<char> {
        self.letters().get(&port).copied()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::Relaxed);
    }

    pub fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }
}
