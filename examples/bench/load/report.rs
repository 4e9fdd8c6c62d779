//! The report: text with a histogram of the latencies, or a JSON object.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use echo_reactor::cli::counted;

use crate::options::Options;
use crate::tally::Tally;

const MIB: f64 = 1_048_576.0;

/// The resources that a process has used.
#[derive(Clone, Copy)]
pub struct Usage {
    cpu_time: Duration,
    /// Resident memory in bytes.
    memory: u64,
}

impl Usage {
    /// Adds up the threads of a process (see `proc(5)`).
    pub fn of(pid: u32) -> io::Result<Self> {
        let describe = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot read the usage of process {pid}: {error}"))
        };
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(describe)? {
            // A thread may have ended in the meantime.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(describe)?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(Usage { cpu_time: Duration::from_nanos(nanoseconds), memory: kibibytes.unwrap_or(0) * 1024 })
    }
}

pub struct Report {
    pub options: Options,
    pub measured: Tally,
    pub took: Duration,
    /// The usage of the server, before and after.
    pub usage: Option<(Usage, Usage)>,
}

/// The latencies that are reported.
const QUANTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

/// The maximum number of rows of the histogram.
const ROWS: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.options.json { self.write_json(f) } else { self.write_text(f) }
    }
}

impl Report {
    fn rate(&self) -> f64 {
        self.measured.messages() as f64 / self.took.as_secs_f64()
    }

    fn mebibytes(&self) -> f64 {
        self.measured.bytes as f64 / self.took.as_secs_f64() / MIB
    }

    /// Returns the server's CPU time per message, and its share of a core.
    fn cpu_usage(&self) -> Option<(Duration, f64)> {
        let (before, after) = self.usage?;
        let used = after.cpu_time.saturating_sub(before.cpu_time);
        let each = used.as_secs_f64() / self.measured.messages().max(1) as f64;
        Some((Duration::from_secs_f64(each), used.as_secs_f64() / self.took.as_secs_f64()))
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { mode, connections, size, idle, .. } = &self.options;
        let (on, each) = (counted(*connections, "connection"), counted(*size, "byte"));
        write!(f, "{} on {on}, {each} per message", mode.name())?;
        if *idle > 0 {
            write!(f, ", {}", counted(*idle, "idle connection"))?;
        }
        let (messages, seconds) = (self.measured.messages(), self.took.as_secs_f64());
        writeln!(
            f,
            "\n{} in {seconds:.2} s: {:.0}/s, {:.1} MiB/s each way",
            counted(messages, "message"),
            self.rate(),
            self.mebibytes()
        )?;
        if let (Some((each, core)), Some((_, after))) = (self.cpu_usage(), self.usage) {
            let memory = after.memory as f64 / MIB;
            writeln!(
                f,
                "server: {} CPU per message, {:.0}% of a core, {memory:.1} MiB",
                Short(each),
                core * 100.0
            )?;
        }
        let latencies = &self.measured.latencies;
        write!(f, "latency:")?;
        for (name, part) in QUANTILES {
            write!(f, " {name} {},", Short(latencies.quantile(part)))?;
        }
        writeln!(f, " max {}", Short(latencies.max()))?;
        let rows = latencies.rows(ROWS);
        let highest = rows.iter().map(|&(_, count)| count).max().unwrap_or(0).max(1);
        for (start, count) in rows {
            writeln!(f, "{:>9} ┤{:<40} {}", Short(start).to_string(), bar(count, highest, 40), count)?;
        }
        Ok(())
    }

    fn write_json(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { mode, connections, size, idle, .. } = &self.options;
        write!(
            f,
            r#"{{"mode": "{}", "connections": {connections}, "size": {size}, "idle": {idle}"#,
            mode.name()
        )?;
        write!(
            f,
            r#", "seconds": {:.6}, "messages": {}"#,
            self.took.as_secs_f64(),
            self.measured.messages()
        )?;
        write!(
            f,
            r#", "messages_per_second": {:.1}, "mebibytes_per_second": {:.3}"#,
            self.rate(),
            self.mebibytes()
        )?;
        for (name, part) in QUANTILES {
            write!(f, r#", "{name}_us": {:.3}"#, microseconds(self.measured.latencies.quantile(part)))?;
        }
        write!(f, r#", "max_us": {:.3}"#, microseconds(self.measured.latencies.max()))?;
        if let (Some((each, core)), Some((before, after))) = (self.cpu_usage(), self.usage) {
            write!(
                f,
                r#", "server_cpu_us_per_message": {:.4}, "server_cores": {core:.4}"#,
                microseconds(each)
            )?;
            write!(f, r#", "server_rss_before": {}, "server_rss": {}"#, before.memory, after.memory)?;
        }
        writeln!(f, "}}")
    }
}

/// Returns the line that is shown during the measurement.
pub fn progress(elapsed: Duration, total: Duration, messages: u64) -> String {
    let (elapsed, total) = (elapsed.as_secs_f64(), total.as_secs_f64());
    let rate = messages as f64 / elapsed;
    format!("{elapsed:.1} of {total:.1} s, {}, {rate:.0}/s", counted(messages, "message"))
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Shows a duration with three digits and a unit.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0.as_secs_f64() {
            seconds if seconds < 1e-3 => (seconds * 1e6, "µs"),
            seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
            seconds => (seconds, "s"),
        };
        let digits = usize::from(number < 100.0) + usize::from(number < 10.0);
        write!(f, "{number:.digits$} {unit}")
    }
}

/// Returns a bar of up to `width` characters, in steps of an eighth. A count above zero is always
/// visible.
fn bar(count: u64, highest: u64, width: u64) -> String {
    let eighths = (count * width * 8).div_ceil(highest) as usize;
    let mut bar = "█".repeat(eighths / 8);
    if let Some(part) = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8) {
        bar += part;
    }
    bar
}
