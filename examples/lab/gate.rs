//! The gate: holds the observed loop between two calls, and lets it continue.
//!
//! Invariant: only the observed loop waits here. Its turns are real. A loop that is not held does
//! the same, only faster.
//!
//! Read next: `watcher.rs`, which calls the gate at each step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use echo_reactor::observe::Phase;

/// How the loop continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Run,
    /// It waits for this long before each call.
    Slow(Duration),
    /// It stops where the next turn begins.
    Turn,
    /// It stops at the next step.
    Held,
}

struct State {
    pace: Pace,
    /// Whether the loop waits here.
    waiting: bool,
    /// Whether the loop may make one call although it is held.
    pass: bool,
}

pub struct Gate {
    state: Mutex<State>,
    /// Whether the loop runs freely. Then it does not lock the state.
    is_open: AtomicBool,
    changed: Condvar,
}

impl Gate {
    pub fn new() -> Self {
        let state = State { pace: Pace::Run, waiting: false, pass: false };
        Gate { state: Mutex::new(state), is_open: AtomicBool::new(true), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, pace: Pace) {
        let mut state = self.lock();
        state.pace = pace;
        self.is_open.store(pace == Pace::Run, Ordering::Release);
        self.changed.notify_all();
    }

    /// Lets the loop make one call. If it sleeps in the poll, it stops when it wakes.
    pub fn one_call(&self) {
        let mut state = self.lock();
        state.pace = Pace::Held;
        state.pass = state.waiting;
        self.is_open.store(false, Ordering::Release);
        self.changed.notify_all();
    }

    /// Returns the pace, and whether the loop is waiting here.
    pub fn look(&self) -> (Pace, bool) {
        let state = self.lock();
        (state.pace, state.waiting)
    }

    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Called by the observed loop at each step. If the loop has to wait, calls `before` and waits.
    /// Returns whether it has waited.
    pub fn pass(&self, phase: Phase, before: impl FnOnce()) -> bool {
        let mut state = self.lock();
        if state.pace == Pace::Turn && phase == Phase::Timeout {
            state.pace = Pace::Held;
        }
        if matches!(state.pace, Pace::Run | Pace::Turn) {
            return false;
        }
        drop(state);
        before();
        let mut state = self.lock();
        state.waiting = true;
        let began = Instant::now();
        while !state.pass {
            state = match state.pace {
                Pace::Run | Pace::Turn => break,
                Pace::Held => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Pace::Slow(delay) => {
                    let left = delay.saturating_sub(began.elapsed());
                    if left.is_zero() {
                        break;
                    }
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        (state.waiting, state.pass) = (false, false);
        true
    }
}
