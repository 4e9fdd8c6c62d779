//! Compares `echo-server` with the three styles, and with asyncio and Node if this machine has
//! them.
//!
//! Run `cargo run --release --example compare`. It prints a table in Markdown. The server runs on
//! one core and the load generator on another. Rounds are interleaved, so that a disturbance
//! affects all servers. A figure is the median of its rounds.
//!
//! Look at `WORKLOADS`: the cost of a server depends on its load.
//!
//! This program runs only on Linux, because it chooses cores and reads `/proc`.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use lexopt::{Arg, Parser};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
Measures echo servers side by side, and prints a table.

Usage: compare [--rounds N] [--seconds N] [--only NAME,NAME]
";

/// The workloads for each server: a name, and the options of `load`.
const WORKLOADS: [(&str, &str); 8] = [
    ("1 × 64 B", "-n1 -s64"),
    ("50 × 64 B", "-n50 -s64"),
    ("500 × 64 B", "-n500 -s64"),
    ("50 × 1 KiB", "-n50 -s1K"),
    ("stream, 1", "-n1 -mstream"),
    ("stream, 8", "-n8 -mstream"),
    ("churn", "-n50 -mchurn"),
    ("idle", "-n10 -s64 --idle 10000"),
];

/// The servers that can be measured.
const NAMES: [&str; 7] = [
    "echo-server",
    "protocol_server",
    "sock_server",
    "stream_server",
    "asyncio, protocol",
    "asyncio, streams",
    "Node",
];

/// The workload whose rate and latency are shown.
const MAIN: &str = "50 × 64 B";

struct Options {
    rounds: usize,
    seconds: String,
    only: Option<String>,
}

/// A server to measure: its name, and the command that starts it.
struct Contender {
    name: &'static str,
    command: Vec<String>,
}

/// A running server.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The figures of one workload and one server, with one value per round.
type Figures = BTreeMap<&'static str, Vec<f64>>;

fn main() -> ExitCode {
    let (result, failure) = match options() {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(options)) => (compare(&options), 1),
        Err(error) => (Err(error), 2),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(failure)
        }
    }
}

fn compare(options: &Options) -> Result<()> {
    let programs = build()?;
    let cores = Cores::of_this_machine()?;
    let contenders = contenders(&programs, options.only.as_deref());
    let mut all: BTreeMap<(usize, usize), Figures> = BTreeMap::new();
    for round in 0..options.rounds {
        for (workload, (name, arguments)) in WORKLOADS.iter().enumerate() {
            for turn in 0..contenders.len() {
                let number = (turn + round) % contenders.len(); // each round starts with another server
                let contender = &contenders[number];
                progress(&format!("round {} of {}, {name}: {}", round + 1, options.rounds, contender.name));
                let figures = measure(contender, arguments, &options.seconds, &programs, &cores)?;
                let entry = all.entry((number, workload)).or_default();
                for (key, value) in figures {
                    entry.entry(key).or_default().push(value);
                }
            }
        }
    }
    let calls: Vec<Option<f64>> =
        contenders.iter().map(|contender| system_calls(contender, &programs, &cores)).collect();
    progress("");
    print_table(&contenders, &all, &calls, &cores);
    Ok(())
}

/// Shows the progress as one line that is redrawn.
fn progress(line: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    }
}

fn options() -> Result<Option<Options>> {
    let mut options = Options { rounds: 3, seconds: "1".into(), only: None };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rounds") => options.rounds = parser.value()?.to_string_lossy().parse()?,
            Arg::Long("seconds") => options.seconds = parser.value()?.to_string_lossy().into(),
            Arg::Long("only") => {
                let only = parser.value()?.to_string_lossy().into_owned();
                let is_known = |part: &&str| NAMES.iter().any(|name| name.contains(*part));
                if let Some(part) = only.split(',').find(|part| !is_known(part)) {
                    return Err(
                        format!("unknown server '{part}'; expected one of: {}", NAMES.join(", ")).into()
                    );
                }
                options.only = Some(only);
            }
            Arg::Short('h') | Arg::Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// Builds the programs to measure. Returns their directory.
fn build() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = env!("CARGO_MANIFEST_DIR");
    let arguments = ["build", "--release", "--bins", "--examples", "--quiet"];
    if !Command::new(cargo).args(arguments).current_dir(root).status()?.success() {
        return Err("cargo build failed".into());
    }
    let own = env::current_exe()?; // target/release/examples/compare
    Ok(own.parent().and_then(Path::parent).ok_or("no directory of programs")?.to_owned())
}

fn contenders(programs: &Path, only: Option<&str>) -> Vec<Contender> {
    let program = |name: &str| programs.join(name).display().to_string();
    let peer = |name: &str| format!("{}/examples/bench/peers/{name}", env!("CARGO_MANIFEST_DIR"));
    let port = || String::from("127.0.0.1:0");
    let commands = [
        vec![program("echo-server"), port()],
        vec![program("examples/protocol_server"), port()],
        vec![program("examples/sock_server"), port()],
        vec![program("examples/stream_server"), port()],
        vec!["python3".into(), peer("asyncio_protocol.py")],
        vec!["python3".into(), peer("asyncio_streams.py")],
        vec!["node".into(), peer("node.js")],
    ];
    let is_wanted = |name: &str| {
        // The others are compared with the first one, so it is always measured.
        name == "echo-server" || only.is_none_or(|only| only.split(',').any(|part| name.contains(part)))
    };
    NAMES
        .into_iter()
        .zip(commands)
        .filter(|(name, command)| is_wanted(name) && is_present(&command[0]))
        .map(|(name, command)| Contender { name, command })
        .collect()
}

fn is_present(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The cores for the server and for the load. They differ if the machine has two.
struct Cores {
    server: usize,
    load: usize,
    count: usize,
}

#[cfg(target_os = "linux")]
impl Cores {
    fn of_this_machine() -> Result<Self> {
        use rustix::thread::{CpuSet, sched_getaffinity};
        let all = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core)).collect();
        Ok(Cores { server: cores[0], load: cores[cores.len() - 1], count: cores.len() })
    }

    /// Runs this thread, and the children that it starts, on one core.
    fn run_on(core: usize) -> Result<()> {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        Ok(rustix::thread::sched_setaffinity(None, &set)?)
    }
}

#[cfg(not(target_os = "linux"))]
impl Cores {
    fn of_this_machine() -> Result<Self> {
        Err("this program runs only on Linux".into())
    }

    fn run_on(_: usize) -> Result<()> {
        Err("this program runs only on Linux".into())
    }
}

/// Starts a server on its core: a child inherits the cores of its parent.
fn start(command: &[String], cores: &Cores) -> Result<Server> {
    Cores::run_on(cores.server)?;
    let child =
        Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    Cores::run_on(cores.load)?;
    let mut server = Server { child: child?, address: String::new() };
    let mut line = String::new();
    let stdout = server.child.stdout.take().ok_or("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .ok_or_else(|| format!("{} printed {line:?}", command[0]))?;
    server.address = address.into();
    // Open and close a first connection. asyncio reads at half the speed until it has received an
    // end of file.
    drop(TcpStream::connect(&server.address)?);
    Ok(server)
}

fn measure(
    contender: &Contender,
    arguments: &str,
    seconds: &str,
    programs: &Path,
    cores: &Cores,
) -> Result<Vec<(&'static str, f64)>> {
    let server = start(&contender.command, cores)?;
    let pid = server.child.id();
    let resident = resident(pid)?;
    let json = load(&server, &format!("{arguments} --warm-up 0.3 -d{seconds}"), programs)?;
    let figure = |key| number(&json, key);
    let idle = figure("idle")?;
    Ok(vec![
        ("rate", figure("messages_per_second")?),
        ("cpu", figure("server_cpu_us_per_message")?),
        ("p50", figure("p50_us")?),
        ("p99", figure("p99_us")?),
        ("memory", (figure("server_rss_before")? - resident) / idle.max(1.0)),
    ])
}

fn load(server: &Server, arguments: &str, programs: &Path) -> Result<String> {
    let mut command = Command::new(programs.join("examples/load"));
    command.args(arguments.split(' ')).args([
        "--json",
        "--pid",
        &server.child.id().to_string(),
        &server.address,
    ]);
    let output = command.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the system calls per message, if `strace` is installed. It uses the difference of two
/// runs, which excludes the calls for starting and connecting.
fn system_calls(contender: &Contender, programs: &Path, cores: &Cores) -> Option<f64> {
    let counted = |seconds: u32| -> Result<(f64, f64)> {
        let report = env::temp_dir().join(format!("compare-{}.strace", std::process::id()));
        let mut command: Vec<String> = ["strace", "-f", "-c", "-o"].map(String::from).to_vec();
        command.push(report.display().to_string());
        command.extend(contender.command.iter().cloned());
        let mut server = start(&command, cores)?;
        let json = load(&server, &format!("-n50 -s64 --warm-up 0 -d{seconds}"), programs)?;
        let messages = number(&json, "messages")?;
        // strace writes its report when its child ends.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.child.id()))?;
        for pid in
            children.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?))
        {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        }
        server.child.wait()?;
        let text = fs::read_to_string(&report)?;
        fs::remove_file(&report)?;
        let total = text.lines().find(|line| line.ends_with(" total")).ok_or("no total")?;
        Ok((total.split_whitespace().nth(3).ok_or("no count")?.parse()?, messages))
    };
    if !is_present("strace") {
        return None;
    }
    let (short, long) = (counted(1).ok()?, counted(3).ok()?);
    Some((long.0 - short.0) / (long.1 - short.1))
}

/// Returns the resident memory of a process in bytes.
fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// Returns the number of a key in a flat JSON object.
fn number(json: &str, key: &str) -> Result<f64> {
    let (_, rest) = json.split_once(&format!("\"{key}\": ")).ok_or_else(|| format!("no {key} in {json}"))?;
    Ok(rest.split([',', '}']).next().unwrap_or_default().trim().parse()?)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn print_table(
    contenders: &[Contender],
    all: &BTreeMap<(usize, usize), Figures>,
    calls: &[Option<f64>],
    cores: &Cores,
) {
    println!("{}, {} cores, Linux {}\n", processor(), cores.count, kernel());
    let workload = |name: &str| WORKLOADS.iter().position(|(workload, _)| *workload == name).unwrap_or(0);
    let mut columns: Vec<(String, usize, &str, &str)> = vec![
        (format!("messages/s, {MAIN}"), workload(MAIN), "rate", ""),
        (format!("p50, {MAIN}"), workload(MAIN), "p50", " µs"),
        (format!("p99, {MAIN}"), workload(MAIN), "p99", " µs"),
    ];
    for (index, (name, _)) in WORKLOADS.iter().enumerate().filter(|(_, (name, _))| *name != "idle") {
        columns.push((format!("CPU, {name}"), index, "cpu", " µs"));
    }
    columns.push(("CPU, 10 × 64 B and 10,000 idle".into(), workload("idle"), "cpu", " µs"));
    columns.push(("memory per idle connection".into(), workload("idle"), "memory", " B"));

    let names: Vec<&str> = contenders.iter().map(|contender| contender.name).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "--:|".repeat(names.len()));
    let row = |title: &str, values: &[Option<f64>], unit: &str| {
        let base = values[0];
        let shown: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(index, value)| match (value, base) {
                (None, _) => "–".into(),
                (Some(value), _) if index == 0 => format!("{}{unit}", short(*value)),
                (Some(value), Some(base)) => format!("{:.2}", value / base),
                (Some(value), None) => short(*value),
            })
            .collect();
        println!("| {title} | {} |", shown.join(" | "));
    };
    for (title, workload, key, unit) in columns {
        let value =
            |number| all.get(&(number, workload)).and_then(|figures| figures.get(key)).map(|v| median(v));
        row(&title, &(0..names.len()).map(value).collect::<Vec<_>>(), unit);
    }
    row("system calls per message", calls, "");
}

/// Formats a figure with three digits, or as a whole number.
fn short(value: f64) -> String {
    let digits = usize::from(value < 100.0) + usize::from(value < 10.0);
    format!("{value:.digits$}")
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor").into()
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.split('-').next().unwrap_or_default().trim().into()
}
