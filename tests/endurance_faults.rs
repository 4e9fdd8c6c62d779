//! For minutes, system calls of a server fail at random while clients come, check their echo, and
//! go. After each round the faults end, and then nothing may be left behind.
//!
//! It runs for `ENDURANCE` seconds, and only on request. `strace` attaches to the server for some
//! seconds at a time, each time with other faults. `SEED` decides which, and is printed. With
//! `LOAD=1` there are more clients, and a busy thread for each core:
//! `LOAD=1 ENDURANCE=600 cargo test --release --test endurance_faults -- --ignored --nocapture`.

#![cfg(target_os = "linux")] // it reads /proc
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Outcome, Process, Random, Scratch, Server, client_command, eventually, has_strace, noise};
use rustix::process::Signal;

/// The time between two checks for leaks.
const ROUND: Duration = Duration::from_secs(60);

/// A client that takes longer than this hangs. Without a fault it takes a second at most.
const LIMIT: Duration = Duration::from_secs(120);

/// What the allocator may keep of the memory that was freed, and the most that a server with a
/// few connections may need, in KiB.
const KEPT: u64 = 8 << 10;
const PEAK: u64 = 64 << 10;

/// The calls of a server that is running, and the errors that they may return. Other errors of
/// `epoll_wait` mean that the loop is broken, and end the server. `close` is not here: `strace`
/// does not carry out a call that it makes fail, so the descriptor would stay open.
const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EINTR", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM", "EPROTO"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait", &["EINTR"]),
    ("fcntl", &["EMFILE", "EINVAL"]),
    ("recvfrom", &["EINTR", "ECONNRESET", "ETIMEDOUT", "ENOMEM", "EHOSTUNREACH"]),
    ("sendto", &["EINTR", "ECONNRESET", "EPIPE", "ENOBUFS", "ETIMEDOUT", "EHOSTUNREACH"]),
    ("setsockopt", &["EINVAL", "ENOPROTOOPT", "ENOBUFS"]),
    ("write", &["EINTR", "EIO", "ENOSPC"]),
];

impl Random {
    /// Half of the calls, each with one fault: at every occurrence, or at each of so many.
    fn faults(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for &(call, errors) in ERRORS {
            if self.below(2) == 0 {
                continue;
            }
            let effect = match self.below(errors.len() as u64 + 2) as usize {
                n if n < errors.len() => format!("error={}", errors[n]),
                n if n == errors.len() => "signal=WINCH".into(),
                _ => format!("delay_exit={}", 1 + self.below(5000)),
            };
            // A call that is always interrupted is repeated forever.
            let least = u64::from(effect.starts_with("signal") || effect.ends_with("EINTR"));
            let step = 1 << (least + self.below(8 - least));
            faults.push(format!("inject={call}:{effect}:when={}+{step}", 1 + self.below(step)));
        }
        faults
    }
}

/// `strace`, attached to a server.
struct Faults<'a> {
    strace: Process,
    server: &'a Server,
    log: PathBuf,
}

impl<'a> Faults<'a> {
    fn attach(server: &'a Server, scratch: &Scratch, faults: &[String]) -> Self {
        let log = scratch.path("strace");
        let calls: Vec<&str> = ERRORS.iter().map(|(call, _)| *call).collect();
        let mut command = Command::new("strace");
        command.args(["-q", "-s0", "-o"]).arg(&log).args(["-e", &format!("trace={}", calls.join(","))]);
        command.args(faults.iter().flat_map(|fault| ["-e", fault]));
        command.arg(format!("--attach={}", server.process.pid().as_raw_nonzero()));
        let faults = Faults { strace: Process::spawn(&mut command), server, log };
        eventually("strace has attached to the server", || !faults.log_tail(100).is_empty());
        faults
    }

    /// The log of `strace`, or at most this many bytes at its end.
    fn log_tail(&self, most: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.log) {
            let length = file.metadata().unwrap().len();
            file.seek(SeekFrom::Start(length.saturating_sub(most))).unwrap();
            file.read_to_end(&mut text).unwrap();
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Detaches, and counts the faults of each call. The server is stopped before: if `strace`
    /// leaves in the middle of a call that it makes fail, the call returns `ENOSYS`.
    fn detach(mut self, counts: &mut BTreeMap<String, u64>) {
        self.server.process.signal(Signal::STOP);
        eventually("the server is stopped, or has ended", || {
            let tail = self.log_tail(100);
            tail.contains("--- stopped by SIGSTOP ---") || tail.contains("+++ ")
        });
        let tail = self.log_tail(1000);
        assert!(!tail.contains("+++ "), "the server has ended: {tail}\n{:?}", self.server.err.so_far().pop());
        self.strace.signal(Signal::TERM);
        self.strace.wait();
        self.server.process.signal(Signal::CONT);
        let log = self.log_tail(u64::MAX);
        fs::remove_file(&self.log).unwrap();
        for line in log.lines().filter(|line| line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)")) {
            let (call, result) = (line.split('(').next().unwrap().trim(), line.rsplit_once("= -1 "));
            let error = result.filter(|_| line.ends_with("(INJECTED)")).map_or("delay", |(_, error)| error);
            let error = error.split(' ').next().unwrap();
            *counts.entry(format!("{call} {error}")).or_default() += 1;
        }
        *counts.entry("signal".into()).or_default() += log.matches("--- SIGWINCH").count() as u64;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Check,
    Reconnect,
    Ping,
    /// Is killed in the middle of its transfer.
    Killed,
}

/// Runs a client, and returns its outcome for the table.
fn run_client(random: &mut Random, server: &str, scratch: &Scratch, number: u64) -> &'static str {
    let mode = match random.below(8) {
        0..=2 => Mode::Check,
        3..=4 => Mode::Reconnect,
        5..=6 => Mode::Ping,
        _ => Mode::Killed,
    };
    let magnitude = random.below(21);
    let size = 2 + random.below(1 << magnitude) as usize;
    let count = 1 + random.below(100);
    let mut command = client_command();
    match mode {
        Mode::Check | Mode::Killed => command.arg("--check"),
        Mode::Reconnect => command.args(["--check", "--reconnect"]),
        Mode::Ping => {
            let (size, count) = (format!("-s{}", 1 + size / 100), format!("-c{count}"));
            command.args(["--ping", "-q", "-i0", "-w1h", &size, &count])
        }
    };
    let input = scratch.file(&format!("in{number}"), &noise(size, number));
    let (out, err) = (scratch.path(&format!("out{number}")), scratch.path(&format!("err{number}")));
    command.arg(server).stdin(fs::File::open(&input).unwrap());
    command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    let mut process = Process::spawn(&mut command);
    if mode == Mode::Killed {
        thread::sleep(Duration::from_millis(random.below(50)));
        process.signal(Signal::KILL);
    }
    let end = Instant::now() + LIMIT;
    while process.child.try_wait().unwrap().is_none() {
        let diagnostics = || fs::read_to_string(&err).unwrap();
        assert!(Instant::now() < end, "client {number} hangs: {command:?}: {}", diagnostics());
        thread::sleep(Duration::from_millis(5));
    }
    let take = |path: &Path| {
        let text = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        text
    };
    take(&input);
    let code = process.wait_code();
    let (stdout, stderr) = (take(&out), String::from_utf8(take(&err)).unwrap());
    let outcome = Outcome { code, stdout, stderr };
    judge(mode, size, count, &outcome).unwrap_or_else(|| {
        panic!("client {number}, {command:?}: {code}, {}", outcome.stderr);
    })
}

/// The outcome of a client, or `None` if it breaks a promise.
fn judge(mode: Mode, size: usize, count: u64, outcome: &Outcome) -> Option<&'static str> {
    let is_complete = match mode {
        Mode::Ping => {
            let text = String::from_utf8_lossy(&outcome.stdout);
            text.contains(&format!("{count} sent, {count} received"))
        }
        _ => outcome.stderr.contains(&format!("echo-client: {size} bytes came back unchanged\n")),
    };
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let is_wrong = outcome.stderr.contains(" differs at "); // a lost or changed byte
    let is_named = !is_wrong && lines.iter().all(|line| line.starts_with("echo-client: "));
    match outcome.code {
        0 if is_complete && is_named => Some("complete"),
        1 if !is_complete && is_named && lines.len() == 1 && mode != Mode::Reconnect => Some("one line"),
        137 if mode == Mode::Killed => Some("killed"),
        _ => None,
    }
}

/// The statistics of a server, which has not panicked.
fn statistics(server: &Server) -> Vec<u64> {
    server.process.signal(Signal::USR1);
    loop {
        let line = server.err.next();
        assert!(line.starts_with("echo-server: "), "{line}");
        if line.contains(" accepted, ") {
            let numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
            return numbers.map(|number| number.parse().unwrap()).collect();
        }
    }
}

/// Runs clients, and makes calls of the server fail, until `end`.
fn run_round(
    server: &Server,
    clients: u64,
    random: &mut Random,
    end: Instant,
    scratch: &Scratch,
    injected: &mut BTreeMap<String, u64>,
) -> BTreeMap<&'static str, u64> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let address = server.address();
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..clients {
            let mut random = Random(random.below(u64::MAX) | 1);
            let outcomes = &outcomes;
            scope.spawn(move || {
                while Instant::now() < end {
                    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                    let outcome = run_client(&mut random, address, scratch, number);
                    *outcomes.lock().unwrap().entry(outcome).or_default() += 1;
                }
            });
        }
        while Instant::now() < end {
            let faults = Faults::attach(server, scratch, &random.faults());
            thread::sleep(Duration::from_millis(500 + random.below(3000)));
            faults.detach(injected);
        }
    });
    outcomes.into_inner().unwrap()
}

#[test]
#[ignore = "takes minutes, and needs strace"]
fn minutes_of_random_faults_leave_nothing_behind() {
    if !has_strace() {
        return;
    }
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (seconds, seed) = (number("ENDURANCE").unwrap_or(60), number("SEED").unwrap_or(now));
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let (clients, busy) = if number("LOAD").is_some() { (16, cores) } else { (4, 0) };
    println!("SEED={seed}, {seconds} s, {clients} clients, {busy} busy threads");
    let mut random = Random(seed | 1 << 40);
    let scratch = Scratch::new();
    let mut server = Server::start(&["-v"]);
    let descriptors = server.process.descriptors();
    let mut injected = BTreeMap::new();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = EndOnDrop(&is_over);
        for _ in 0..busy {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let mut first = None;
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let round_end = end.min(Instant::now() + ROUND);
            let outcomes = run_round(&server, clients, &mut random, round_end, &scratch, &mut injected);
            eventually("the server has no connection", || statistics(&server)[0] == 0);
            assert_eq!(server.process.descriptors(), descriptors);
            let statistics = statistics(&server);
            assert_eq!(statistics[5], 0, "no byte is buffered");
            server.process.comes_to_rest();
            let (resident, peak) = (server.process.resident(), server.process.peak_resident());
            let first = *first.get_or_insert(resident);
            assert!(resident < first + KEPT, "{resident} KiB idle, {first} KiB after the first round");
            assert!(peak < PEAK, "{peak} KiB at the peak");
            common::ping(&mut server.connect(), &noise(100_000, 1));
            println!(
                "clients {outcomes:?}; server: {} accepted, {resident} KiB idle, {peak} KiB at the peak",
                statistics[1]
            );
        }
    });
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    println!("faults: {injected:?}");
    assert!(injected.len() > 10, "the server was hardly disturbed: {injected:?}");
}

/// Ends the busy threads, also if the test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
