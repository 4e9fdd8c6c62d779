//! What all connections count together: a source without a descriptor, found through its handle.

use std::time::Duration;

use echo_reactor::cli::Histogram;
use echo_reactor::{Id, Next, Reactor, Ready, Source};

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Talk,
    /// To be there.
    Idle,
}

#[derive(Default)]
pub struct Tally {
    /// Connections that nobody has begun to make.
    to_talk: usize,
    to_idle: usize,
    /// Connections that do not stand yet.
    missing: usize,
    pub bytes: u64,
    pub latencies: Histogram,
    /// Why it cannot go on.
    pub failure: Option<String>,
}

impl Tally {
    pub fn new(to_talk: usize, to_idle: usize) -> Self {
        Tally { to_talk, to_idle, missing: to_talk + to_idle, ..Tally::default() }
    }

    /// What the next connection is for, if there is to be one: first those that are idle.
    pub fn next(&mut self) -> Option<Role> {
        if let Some(left) = self.to_idle.checked_sub(1) {
            self.to_idle = left;
            return Some(Role::Idle);
        }
        self.to_talk = self.to_talk.checked_sub(1)?;
        Some(Role::Talk)
    }

    pub fn connected(&mut self) {
        self.missing = self.missing.saturating_sub(1);
    }

    /// Whether all connections stand.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// A message of so many bytes came back after so long.
    pub fn echoed(&mut self, bytes: u64, latency: Duration) {
        self.bytes += bytes;
        self.latencies.add(latency);
    }

    pub fn messages(&self) -> u64 {
        self.latencies.count()
    }

    pub fn start_again(&mut self) {
        self.bytes = 0;
        self.latencies = Histogram::default();
    }
}

impl Source for Tally {
    /// Nobody wakes it: it is only looked at.
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait
    }
}
