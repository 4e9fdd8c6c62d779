//! What the tests share: the real programs, pseudo-terminals, and waiting with a deadline.
#![allow(dead_code)] // each test file uses its part

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use echo_reactor::{Protocol, Reactor, Transport};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test gives up. Nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough to see that nothing happens.
pub const A_WHILE: Duration = Duration::from_millis(200);

// ---- waiting

/// Asks again and again until the answer is yes.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Turns the reactor until the condition holds. It may become true elsewhere, in a thread of the test,
/// so no turn sleeps for long.
#[track_caller]
pub fn turn_until(reactor: &mut Reactor, what: &str, mut condition: impl FnMut(&mut Reactor) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition(reactor) {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
}

/// Turns until a turn finds nothing more to do.
pub fn turn_until_quiet(reactor: &mut Reactor) {
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

// ---- bytes

/// Bytes that look random, the same for the same seed. No two places look alike, so a piece that is
/// lost, repeated or moved is seen.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares without printing megabytes.
#[track_caller]
pub fn assert_same_bytes(found: &[u8], expected: &[u8]) {
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        found.len() == expected.len() && first.is_none(),
        "{} bytes where {} were expected; first difference at {first:?}",
        found.len(),
        expected.len(),
    );
}

// ---- protocols

/// The echo server of the documentation, with backpressure.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
    fn pause_writing(&mut self, transport: &mut Transport) {
        transport.pause_reading();
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }
}

// ---- places

/// A directory of the test's own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("echo-reactor-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port on which nobody listens, and which nobody else can get while this lives, except a server that
/// is told to share it (`--reuse-port`).
pub struct DeadPort(rustix::fd::OwnedFd, pub SocketAddr);

impl DeadPort {
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        DeadPort(socket, address)
    }
}

// ---- processes

pub fn server_command() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_echo-server")))
}

pub fn client_command() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_echo-client")))
}

fn clean(mut command: Command) -> Command {
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A child that does not outlive its test.
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

    /// Its exit status; it has to come within the patience.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    #[track_caller]
    pub fn wait_code(&mut self) -> i32 {
        self.wait().code().expect("ended by a signal")
    }

    /// CPU time used so far, and times that it went to sleep of its own accord.
    pub fn activity(&self) -> (u64, u64) {
        let fields = self.stat();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        (ticks, self.status_field("voluntary_ctxt_switches"))
    }

    /// Waits until it sleeps, for the last thing that it did to be over.
    #[track_caller]
    pub fn falls_asleep(&self) {
        eventually("it sleeps", || self.stat()[0] == "S");
    }

    /// The fields of `/proc/PID/stat` behind the name, see `proc(5)`: state, ...
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

    /// The lowest descriptor that is free. (The test's own parent may have handed some down.)
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

/// The lines of a stream, as they come.
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
        self.0.recv_timeout(PATIENCE).expect("no line came")
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

    /// All lines to the end of the stream.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.0.recv_timeout(PATIENCE).ok()).collect()
    }

    /// The lines that have come so far.
    pub fn so_far(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }
}

/// Raises the soft limit on descriptors, which is 1024 in many places, for the test and its children.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    });
}

/// A running `echo-server`.
pub struct Server {
    pub process: Process,
    pub out: Lines,
    pub err: Lines,
    /// As it says it: `127.0.0.1:4711`, `unix:/tmp/x`.
    pub addresses: Vec<String>,
}

impl Server {
    /// On a TCP port of this machine.
    pub fn start(arguments: &[&str]) -> Self {
        Self::on(&["127.0.0.1:0"], arguments)
    }

    #[track_caller]
    pub fn on(addresses: &[&str], arguments: &[&str]) -> Self {
        Self::run(server_command().args(arguments).args(addresses), addresses.len())
    }

    #[track_caller]
    pub fn run(command: &mut Command, addresses: usize) -> Self {
        allow_many_descriptors();
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let out = Lines::of(process.child.stdout.take().unwrap());
        let err = Lines::of(process.child.stderr.take().unwrap());
        let addresses = (0..addresses)
            .map(|_| out.next().strip_prefix("listening on ").expect("it listens").to_owned())
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

    /// The line of statistics, as its numbers: open, accepted, refused, in, out, buffered, turns.
    #[track_caller]
    pub fn statistics(&self) -> Vec<u64> {
        self.process.signal(Signal::USR1);
        let line = self.err.next_with("connections:");
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

/// A connection to a test's server, with a deadline on each read and write.
#[track_caller]
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a message and waits for its echo.
#[track_caller]
pub fn ping(stream: &mut (impl Read + Write), message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_same_bytes(&echo, message);
}

/// Sends a message again and again until the peer takes no more. Returns how many bytes it took.
pub fn send_until_stalled(stream: &mut TcpStream, message: &[u8]) -> usize {
    let chunk = message.repeat(64 * 1024 / message.len());
    let mut sent = 0;
    stream.set_nonblocking(true).unwrap();
    let mut stalled_since = Instant::now();
    while stalled_since.elapsed() < A_WHILE {
        match stream.write(&chunk[sent % chunk.len()..]) {
            Ok(count) => {
                sent += count;
                stalled_since = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

/// What a client run gave.
pub struct Outcome {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Runs a command to its end, with these bytes on a pipe as stdin.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped());
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdin = process.child.stdin.take().unwrap();
    let input = input.to_vec();
    thread::spawn(move || stdin.write_all(&input));
    outcome(process)
}

/// Waits for a process whose stdout and stderr are pipes.
#[track_caller]
pub fn outcome(mut process: Process) -> Outcome {
    let stdout: ChildStdout = process.child.stdout.take().unwrap();
    let stderr: ChildStderr = process.child.stderr.take().unwrap();
    let (stdout, stderr) = (collect(stdout), collect(stderr));
    let code = process.wait_code();
    let stdout = stdout.recv_timeout(PATIENCE).unwrap();
    let stderr = String::from_utf8(stderr.recv_timeout(PATIENCE).unwrap()).unwrap();
    Outcome { code, stdout, stderr }
}

/// Reads a stream to its end in the background.
pub fn collect(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A server that does with its only connection what a test says.
pub fn serve_once<R: Send + 'static>(
    f: impl FnOnce(TcpStream) -> R + Send + 'static,
) -> (String, thread::JoinHandle<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        f(stream)
    });
    (address, thread)
}

/// Has the next close of the socket send a reset.
pub fn reset_on_close(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// Whether the description is non-blocking.
pub fn is_nonblocking(descriptor: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(descriptor).unwrap().contains(rustix::fs::OFlags::NONBLOCK)
}

// ---- terminals

/// A pseudo-terminal: the test is the person in front of it.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    pub line: OwnedFd,
}

impl Terminal {
    pub fn new() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let line = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { keyboard, screen, shown: String::new(), line }
    }

    pub fn stdio(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen after what was seen before, and counts it as seen.
    #[track_caller]
    pub fn see(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} never came; the screen shows {:?}", self.shown),
            }
        }
    }

    /// What is on the screen and was not waited for.
    pub fn unseen(&mut self) -> String {
        while let Ok(bytes) = self.screen.recv_timeout(A_WHILE) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        std::mem::take(&mut self.shown)
    }
}

/// A diagnostic is one line, names these things, and is no panic.
#[track_caller]
pub fn assert_one_line(text: &str, parts: &[&str]) {
    assert_eq!(text.lines().count(), 1, "not one line: {text:?}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!text.contains("panicked"), "{text:?}");
}

pub fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}
