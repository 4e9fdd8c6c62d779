//! The counters of `--ping`, and their summary: text like that of `ping`, or a JSON object.
//!
//! Invariant: each message is received, lost or pending. A lost message was not sent, or its echo
//! is late, wrong or missing.
//!
//! Read next: `statistics.rs`.

use std::time::{Duration, Instant};

use echo_reactor::cli::counted;

use super::statistics::{Statistics, milliseconds};

pub struct Tally {
    began: Instant,
    /// When the last message had its result.
    ended: Option<Instant>,
    /// The sequence number of the last message.
    pub sequence: u64,
    pub lost: u64,
    /// Lost messages that were not sent: there was no connection, or the server did not read.
    pub unsent: u64,
    /// Lost messages whose echo arrived late.
    pub late: u64,
    /// Lost messages whose echo had a wrong byte.
    pub wrong: u64,
    /// Bytes that are not the echo of any message.
    pub surplus: u64,
    /// The times of the messages that were received.
    pub round_trips: Statistics,
    pub connects: Statistics,
}

impl Tally {
    pub fn new() -> Self {
        Tally {
            began: Instant::now(),
            ended: None,
            sequence: 0,
            lost: 0,
            unsent: 0,
            late: 0,
            wrong: 0,
            surplus: 0,
            round_trips: Statistics::default(),
            connects: Statistics::default(),
        }
    }

    pub fn is_success(&self) -> bool {
        self.lost == 0 && self.surplus == 0
    }

    /// Counts the messages up to `count` as lost, because they cannot be sent.
    pub fn lose_rest(&mut self, count: u64) {
        let rest = count - self.sequence;
        self.unsent += rest;
        self.lost += rest;
        self.sequence = count;
    }

    pub fn sent(&self) -> u64 {
        self.sequence - self.unsent
    }

    /// Returns how many echoes have not arrived, or only in part. An echo that arrives later is
    /// counted as late instead.
    fn missing(&self) -> u64 {
        self.lost - self.unsent - self.late - self.wrong
    }

    /// Stops the clock: the wait for the server to close does not count.
    pub fn stop(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }

    pub fn took(&self) -> Duration {
        self.ended.map_or_else(|| self.began.elapsed(), |ended| ended - self.began)
    }

    /// Returns the summary for a person.
    pub fn to_text(&self, server: &str) -> String {
        #[allow(clippy::cast_precision_loss)] // three digits are shown
        let percent = (1e5 * self.lost as f64 / self.sequence.max(1) as f64).round() / 1e3;
        let mut counts = vec![
            format!("{} sent", self.sent()),
            format!("{} received", self.round_trips.count()),
            format!("{} lost ({percent} %)", self.lost),
        ];
        let reasons = [
            (self.unsent, "not sent"),
            (self.late, "late"),
            (self.wrong, "wrong"),
            (self.missing(), "missing"),
        ];
        for (count, what) in reasons {
            counts.extend((count > 0).then(|| format!("{count} {what}")));
        }
        counts.extend((self.surplus > 0).then(|| counted(self.surplus, "surplus byte") + " (an error)"));
        counts.push(format!("time {} ms", self.took().as_millis()));
        let mut lines = vec![format!("--- {server} ping statistics ---"), counts.join(", ")];
        lines.extend(self.connects.summary().map(|connects| match self.connects.count() {
            1 => format!("connect = {:.3} ms", connects.avg),
            count => {
                let (min, avg, max) = (connects.min, connects.avg, connects.max);
                format!("{count} connects, min/avg/max = {min:.3}/{avg:.3}/{max:.3} ms")
            }
        }));
        lines.extend(self.round_trips.summary().map(|rtt| {
            let figures = [rtt.min, rtt.avg, rtt.median, rtt.p99, rtt.max, rtt.mdev];
            let figures = figures.map(|figure| format!("{figure:.3}")).join("/");
            format!("rtt min/avg/median/p99/max/mdev = {figures} ms")
        }));
        lines.join("\n") + "\n"
    }

    /// Returns the summary for a program: one line of JSON.
    pub fn to_json(&self, server: &str, size: usize) -> String {
        // An address has no control characters, so only two characters need an escape.
        let server = server.replace('\\', r"\\").replace('"', r#"\""#);
        let counters = [
            ("size", size as u64),
            ("sent", self.sent()),
            ("received", self.round_trips.count()),
            ("lost", self.lost),
            ("not_sent", self.unsent),
            ("late", self.late),
            ("wrong", self.wrong),
            ("missing", self.missing()),
            ("surplus_bytes", self.surplus),
            ("connects", self.connects.count()),
        ];
        let counters = counters.map(|(key, count)| format!(r#""{key}": {count}"#)).join(", ");
        let (took, connects) = (milliseconds(self.took()), figures(&self.connects));
        let rtt = figures(&self.round_trips);
        format!(
            "{{\"address\": \"{server}\", {counters}, \"time_ms\": {took:.3}, \"connect_ms\": {connects}, \
             \"rtt_ms\": {rtt}}}\n"
        )
    }
}

fn figures(statistics: &Statistics) -> String {
    let Some(summary) = statistics.summary() else { return "null".into() };
    let figures = [
        ("min", summary.min),
        ("avg", summary.avg),
        ("median", summary.median),
        ("p99", summary.p99),
        ("max", summary.max),
        ("mdev", summary.mdev),
    ];
    format!("{{{}}}", figures.map(|(key, figure)| format!(r#""{key}": {figure:.6}"#)).join(", "))
}
