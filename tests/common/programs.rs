//! The real programs as children of a test.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{A_WHILE, PATIENCE, assert_same_bytes, collect, connect, eventually};

pub fn server_command() -> Command {
    program(env!("CARGO_BIN_EXE_echo-server"))
}

pub fn client_command() -> Command {
    program(env!("CARGO_BIN_EXE_echo-client"))
}

/// The path of an example. `cargo test --test NAME` does not build examples, so this function fails
/// if the example is missing or older than its source.
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let path = Path::new(env!("CARGO_BIN_EXE_echo-server")).with_file_name("examples").join(name);
    let mut sources = vec![PathBuf::from("examples").join(name).with_extension("rs")];
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.extension() {
                _ if entry.is_dir() && !entry.ends_with("bin") => folders.push(entry),
                Some(extension) if extension == "rs" => sources.push(entry),
                _ => {}
            }
        }
    }
    let newest = sources.iter().filter_map(|source| changed(source)).max();
    let is_current = changed(&path).is_some() && changed(&path) >= newest;
    assert!(is_current, "{} is missing or older than its source: cargo build --examples", path.display());
    path
}

/// A command whose stderr is a pipe, as [`Server::run`] needs it. It does not ignore SIGINT, even
/// if the tests run in a background job of a script, which ignores SIGINT.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default(); // only Linux has it
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    let wanted = [Signal::HUP, Signal::INT, Signal::QUIT].map(|signal| 1_u64 << (signal.as_raw() - 1));
    let is_ignored = u64::from_str_radix(ignored.trim(), 16).unwrap() & wanted.iter().sum::<u64>() != 0;
    let mut command = Command::new(if is_ignored { OsStr::new("env") } else { path.as_ref() });
    if is_ignored {
        command.arg("--default-signal=HUP,INT,QUIT").arg(path);
    }
    command.env_remove("RUST_LOG").env("TERM", "xterm").stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Whether `strace` is installed and may trace, and the machine's system calls have the names that
/// the guide shows. If not, prints that the test is skipped.
pub fn has_strace() -> bool {
    let run = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let has = cfg!(target_arch = "x86_64") && run.is_ok_and(|status| status.success());
    if !has {
        println!("skipped: it needs strace, on x86-64");
    }
    has
}

/// A child process that is killed on drop.
pub struct Process {
    pub child: Child,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        Process { child: command.spawn().unwrap() }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops the process, and waits until it has stopped. SIGCONT lets it go on.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
    }

    /// Waits for its exit status, with a deadline.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Waits for its exit status as a shell shows it: 128+N if signal N ended it.
    #[track_caller]
    pub fn wait_code(&mut self) -> i32 {
        let status = self.wait();
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// The CPU time used so far, and the number of voluntary context switches.
    pub fn activity(&self) -> (u64, u64) {
        let fields = self.stat();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        (ticks, self.status_field("voluntary_ctxt_switches"))
    }

    /// Waits until the process sleeps for a while without a wake-up. A process that polls
    /// repeatedly never does.
    #[track_caller]
    pub fn comes_to_rest(&self) {
        eventually("the process sleeps", || {
            let before = self.activity();
            thread::sleep(A_WHILE); // the thing under test: nothing happens
            self.stat()[0] == "S" && self.activity() == before
        });
    }

    /// The fields of `/proc/PID/stat` after the name, see `proc(5)`. The first is the state.
    fn stat(&self) -> Vec<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid().as_raw_nonzero())).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect()
    }

    /// Resident memory in KiB: now, and at its peak.
    pub fn resident(&self) -> u64 {
        self.status_field("VmRSS")
    }

    pub fn peak_resident(&self) -> u64 {
        self.status_field("VmHWM")
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero())).unwrap().count()
    }

    /// The lowest free descriptor. (The test itself may have inherited some.)
    pub fn next_descriptor(&self) -> u64 {
        let pid = self.pid().as_raw_nonzero();
        (0..).find(|fd| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_err()).unwrap()
    }

    fn status_field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a stream, as they arrive.
pub struct Lines(Receiver<String>);

impl Lines {
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines(receiver)
    }

    #[track_caller]
    pub fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line before the deadline")
    }

    /// The next line, or `None` at the end of the stream.
    #[track_caller]
    pub fn next_or_end(&self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line before the deadline"),
        }
    }

    /// The next line that contains `text`.
    #[track_caller]
    pub fn next_with(&self, text: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// All remaining lines.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.0.recv_timeout(PATIENCE).ok()).collect()
    }

    /// The lines that have arrived so far.
    pub fn so_far(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }
}

/// Raises the soft descriptor limit, often 1024, for the test and its children. Returns whether
/// `needed` are allowed. If not, prints that the test is skipped.
pub fn has_descriptors(needed: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    static MAXIMUM: OnceLock<Option<u64>> = OnceLock::new();
    let maximum = MAXIMUM.get_or_init(|| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
        maximum
    });
    let has = maximum.is_none_or(|maximum| maximum >= needed);
    if !has {
        println!("skipped: it needs {needed} descriptors");
    }
    has
}

/// A running `echo-server`.
pub struct Server {
    pub process: Process,
    pub out: Lines,
    pub err: Lines,
    /// The addresses, as the server prints them: `127.0.0.1:4711`, `unix:/tmp/x`.
    pub addresses: Vec<String>,
}

impl Server {
    /// Starts a server on a free TCP port of the loopback interface.
    pub fn start(arguments: &[&str]) -> Self {
        Self::on(&["127.0.0.1:0"], arguments)
    }

    #[track_caller]
    pub fn on(addresses: &[&str], arguments: &[&str]) -> Self {
        Self::run(server_command().args(arguments).args(addresses), addresses.len())
    }

    /// Starts a command, and waits until it listens on this many addresses. The caller has set its
    /// stderr to a pipe, so no other stderr is replaced silently.
    #[track_caller]
    pub fn run(command: &mut Command, addresses: usize) -> Self {
        has_descriptors(0);
        let mut process = Process::spawn(command.stdout(Stdio::piped()));
        let out = Lines::of(process.child.stdout.take().unwrap());
        let Some(err) = process.child.stderr.take().map(Lines::of) else {
            panic!("Server::run reads stderr: set it to Stdio::piped(), or use Process::spawn");
        };
        let addresses = (0..addresses)
            .map(|_| out.next().strip_prefix("listening on ").expect("'listening on'").to_owned())
            .collect();
        Server { process, out, err, addresses }
    }

    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    pub fn port(&self) -> u16 {
        self.address().rsplit(':').next().unwrap().parse().unwrap()
    }

    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// The statistics line as numbers: open, accepted, refused, in, out, buffered, turns.
    #[track_caller]
    pub fn statistics(&self) -> Vec<u64> {
        self.process.signal(Signal::USR1);
        let line = self.err.next_with(" accepted, ");
        line.split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().unwrap())
            .collect()
    }

    #[track_caller]
    pub fn open_connections(&self) -> u64 {
        self.statistics()[0]
    }
}

/// What a finished program left: exit status and output.
pub struct Outcome {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Runs a command to its end, with `input` on a pipe as stdin.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped());
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdin = process.child.stdin.take().unwrap();
    let input = input.to_vec();
    thread::spawn(move || stdin.write_all(&input));
    outcome(process)
}

/// Waits for a process, and collects its output from pipes.
#[track_caller]
pub fn outcome(mut process: Process) -> Outcome {
    outcome_of(&mut process)
}

#[track_caller]
pub fn outcome_of(process: &mut Process) -> Outcome {
    let stdout: ChildStdout = process.child.stdout.take().unwrap();
    let stderr: ChildStderr = process.child.stderr.take().unwrap();
    let (stdout, stderr) = (collect(stdout), collect(stderr));
    let code = process.wait_code();
    let stdout = stdout.recv_timeout(PATIENCE).unwrap();
    let stderr = String::from_utf8(stderr.recv_timeout(PATIENCE).unwrap()).unwrap();
    Outcome { code, stdout, stderr }
}

/// Starts a client with `stdin` as its stdin, and pipes as stdout and stderr.
pub fn client_reading(address: &str, stdin: impl Into<Stdio>) -> Process {
    Process::spawn(client_command().arg(address).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// Asserts that the client exited with 0, printed these bytes and no message.
#[track_caller]
pub fn assert_echoed(outcome: &Outcome, bytes: &[u8]) {
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_same_bytes(&outcome.stdout, bytes);
}
