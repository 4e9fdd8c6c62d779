//! The counters that all clients share: a source without a descriptor, which they reach through its
//! handle.

use std::time::Duration;

use echo_reactor::cli::Histogram;
use echo_reactor::{Id, Next, Reactor, Ready, Source};

/// The role of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It sends messages.
    Active,
    /// It sends nothing.
    Idle,
}

#[derive(Default)]
pub struct Tally {
    /// The active connections that are not attempted yet.
    active_left: usize,
    /// The idle connections that are not attempted yet.
    idle_left: usize,
    /// The connections that are not established yet.
    unconnected: usize,
    pub bytes: u64,
    pub latencies: Histogram,
    /// The first error. It ends the measurement.
    pub failure: Option<String>,
}

impl Tally {
    pub fn new(active: usize, idle: usize) -> Self {
        Tally { active_left: active, idle_left: idle, unconnected: active + idle, ..Tally::default() }
    }

    /// Returns the role of the next connection, if one is left. The idle connections are first.
    pub fn next(&mut self) -> Option<Role> {
        if let Some(left) = self.idle_left.checked_sub(1) {
            self.idle_left = left;
            return Some(Role::Idle);
        }
        self.active_left = self.active_left.checked_sub(1)?;
        Some(Role::Active)
    }

    pub fn add_connection(&mut self) {
        self.unconnected = self.unconnected.saturating_sub(1);
    }

    pub fn are_all_connected(&self) -> bool {
        self.unconnected == 0
    }

    /// Counts an echoed message.
    pub fn add_echo(&mut self, bytes: u64, latency: Duration) {
        self.bytes += bytes;
        self.latencies.add(latency);
    }

    pub fn messages(&self) -> u64 {
        self.latencies.count()
    }

    pub fn reset(&mut self) {
        self.bytes = 0;
        self.latencies = Histogram::default();
    }
}

impl Source for Tally {
    /// Never called, because nothing wakes the counters.
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait
    }
}
