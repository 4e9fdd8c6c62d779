//! Each step of the course behaves as the table in `src/guide/steps.md` shows.
//!
//! `UPDATE=1 cargo test --test steps` writes the table. The test `mine` prints a column of it for
//! `examples/mine.rs`, which the reader writes in chapter 7.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Process, Server, assert_same_bytes, collect, noise};
use rustix::process::Signal;

const SERVERS: [&str; 11] = [
    "01_blocking",
    "02_threads",
    "03_busy",
    "04_poll",
    "05_epoll",
    "06_slab",
    "07_budget",
    "08_write_buffer",
    "09_timers",
    "11_callbacks",
    "12_task",
];

const TABLE: &str = "src/guide/steps.md";

/// The reader's own program, `examples/mine.rs`.
const MINE: &str = "mine";

fn path(step: &str) -> PathBuf {
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_echo-server"));
    let file = if step == MINE { MINE.to_owned() } else { format!("step_{step}") };
    let path = programs.with_file_name("examples").join(file);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

fn step(name: &str) -> Command {
    common::program(path(name))
}

// ---- the conversation

#[test]
fn every_step_echoes_all_bytes_and_closes_after_a_half_close() {
    let bytes = noise(1 << 20, 16);
    for name in SERVERS {
        println!("{name}"); // names the step if the test fails
        let server = Server::run(step(name).arg("127.0.0.1:0"), 1);
        for bytes in [&bytes[..], b"hello", b""] {
            let mut stream = server.connect();
            let echo = collect(stream.try_clone().unwrap());
            stream.write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_same_bytes(&echo.recv_timeout(PATIENCE).unwrap(), bytes);
        }
    }
}

/// The client reads stdin of every kind, without blocking and without changing its flags.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn step_10_echoes_every_kind_of_stdin() {
    let server = Server::run(step("09_timers").arg("127.0.0.1:0"), 1);
    let client = || {
        let mut command = step("10_stdin");
        command.arg(server.address());
        command
    };
    let bytes = noise(4 << 20, 18);
    let outcome = common::run(&mut client(), &bytes); // a pipe
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_same_bytes(&outcome.stdout, &bytes);
    let scratch = common::Scratch::new();
    let path = scratch.file("input", b"first\nsecond\n");
    for (stdin, expected) in [(path.as_path(), &b"second\n"[..]), ("/dev/null".as_ref(), b"")] {
        let mut file = fs::File::open(stdin).unwrap();
        let _ = file.read(&mut [0; 6]).unwrap(); // another process has read a part
        let output = client().stdin(file).output().unwrap();
        assert!(output.status.success());
        assert_same_bytes(&output.stdout, expected);
    }
}

#[test]
fn step_10_echoes_before_its_input_ends_and_ends_with_the_server() {
    let mut server = Server::run(step("09_timers").arg("127.0.0.1:0").stdin(Stdio::piped()), 1);
    let (stdin, mut keyboard) = io::pipe().unwrap();
    let shared = stdin.try_clone().unwrap();
    let mut command = step("10_stdin");
    let command = command.arg(server.address()).stdin(stdin).stdout(Stdio::piped());
    let mut client = Process::spawn(command);
    let out = common::Lines::of(client.child.stdout.take().unwrap());
    for line in ["one", "two"] {
        keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(out.next(), line);
    }
    assert!(!common::is_nonblocking(&shared), "other processes share this flag");
    server.process.child.kill().unwrap();
    assert_ne!(client.wait_code(), 128 + 6, "the client does not panic");
}

/// A diff between two steps shows one idea. A step that grew too much has two.
#[test]
fn each_step_adds_at_most_45_lines_of_code() {
    let lines = |name: &str| -> usize {
        let text = fs::read_to_string(format!("examples/steps/{name}.rs")).unwrap();
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        text.lines().filter(is_code).count()
    };
    for pair in SERVERS.windows(2) {
        let (before, after) = (lines(pair[0]), lines(pair[1]));
        assert!(after <= before + 45, "{}: {before} lines, then {after}", pair[1]);
    }
    assert!(lines("10_stdin") <= lines("09_timers"), "the client is smaller than the server");
}

// ---- the table

/// What the table shows of a behaviour.
#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Yes,
    No,
    /// The step lacks the part that this behaviour is about.
    NotApplicable,
}

impl Cell {
    fn text(self) -> &'static str {
        match self {
            Cell::Yes => "✓",
            Cell::No => "✗",
            Cell::NotApplicable => "–",
        }
    }
}

/// Nothing, or a sentence about what happened instead of the behaviour.
type Verdict = Result<(), String>;

/// Returns from a trial with a sentence, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(format!($($sentence)+));
        }
    };
}

/// One try to see a behaviour of a step.
struct Trial<'a> {
    step: &'a str,
    /// How long to wait for a result that the table does not expect.
    limit: Duration,
    /// Doubles with each try. Times that are part of a behaviour depend on it.
    unit: Duration,
}

impl Trial<'_> {
    fn serve(&self) -> Server {
        self.serve_with_idle_limit(Duration::from_secs(60))
    }

    fn serve_with_idle_limit(&self, limit: Duration) -> Server {
        let mut command = step(self.step);
        command.arg("127.0.0.1:0").arg(limit.as_millis().to_string()).stdin(Stdio::piped());
        Server::run(&mut command, 1)
    }

    /// Under `strace`, with these expressions.
    fn serve_traced(&self, trace: &Path, expressions: &[&str], idle_limit: Duration) -> Server {
        let mut command = common::program("strace");
        command.arg("-D").args(expressions.iter().flat_map(|expression| ["-e", expression]));
        command.arg("-o").arg(trace).arg(path(self.step)).arg("127.0.0.1:0");
        command.arg(idle_limit.as_millis().to_string()).stdin(Stdio::piped());
        Server::run(&mut command, 1)
    }

    /// Makes each poll take so long that much happens before its events are handled.
    fn slow_polls(&self) -> String {
        format!("inject=epoll_wait:delay_exit={}ms", self.unit.as_millis() / 5)
    }

    /// A peer gets its echo.
    fn answers(&self, who: &str, stream: &mut TcpStream) -> Verdict {
        stream.set_read_timeout(Some(self.limit)).unwrap();
        let mut echo = [0; 6];
        let result = stream.write_all(b"hello\n").and_then(|()| stream.read_exact(&mut echo));
        ensure!(result.is_ok(), "{who} sent 6 bytes and got no echo: {}", self.reason(result.unwrap_err()));
        ensure!(&echo == b"hello\n", "{who} sent `hello\\n` and got `{}`", echo.escape_ascii());
        Ok(())
    }

    /// A peer has ended its side. It gets these bytes and the end.
    fn gets_the_rest(&self, who: &str, stream: &mut TcpStream, bytes: &[u8]) -> Verdict {
        stream.set_read_timeout(Some(self.limit)).unwrap();
        let mut echo = Vec::new();
        let result = stream.read_to_end(&mut echo);
        let (got, sent) = (echo.len(), bytes.len());
        let end = result.map_or_else(|error| self.reason(error), |_| "then the server closed".to_owned());
        ensure!(got == sent, "{who} got {got} of {sent} bytes: {end}");
        ensure!(echo == bytes, "{who} got other bytes than it sent");
        ensure!(!end.contains("waited"), "{who} got all {sent} bytes, but not the end: {end}");
        Ok(())
    }

    fn reason(&self, error: io::Error) -> String {
        match error.kind() {
            ErrorKind::WouldBlock => format!("it waited for {:?}", self.limit),
            ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
            _ => error.to_string(),
        }
    }

    fn happens(&self, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + self.limit;
        while !condition() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Sends without reading, until the server takes no more, or `stop` returns true. Returns how
    /// many bytes were sent.
    fn send_until_stalled(&self, stream: &mut TcpStream, mut stop: impl FnMut() -> bool) -> usize {
        stream.set_nonblocking(true).unwrap();
        let (mut sent, mut taken_last) = (0, Instant::now());
        while taken_last.elapsed() < self.unit / 2 && !stop() {
            match stream.write(&[7; 1 << 16]) {
                Ok(count) => (sent, taken_last) = (sent + count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => break,
            }
        }
        stream.set_nonblocking(false).unwrap();
        sent
    }

    /// Waits until the server has done what it can do. (Step 3 never has.)
    fn wait_until_asleep(&self, server: &Server) {
        let deadline = Instant::now() + self.unit;
        let mut before = None;
        while Instant::now() < deadline {
            let now = Some(server.process.activity());
            if now == before && state(&server.process) == 'S' {
                break;
            }
            before = now;
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the process while it sleeps. (Step 3 never does.)
    fn stop_asleep(&self, server: &Server) {
        let deadline = Instant::now() + self.unit;
        while state(&server.process) != 'S' && Instant::now() < deadline {}
        stop_process(server);
    }
}

/// The calls that `strace` shows of a turn.
const TURNS: &str = "trace=epoll_wait,accept4,recvfrom";

/// Returns true when the server has 8 MiB more than now.
fn has_grown(server: &Server) -> impl Fn() -> bool {
    let before = server.process.resident();
    move || server.process.resident() > before + (8 << 10)
}

fn stop_process(server: &Server) {
    server.process.signal(Signal::STOP);
    common::eventually("the server is stopped", || matches!(state(&server.process), 'T' | 'Z'));
}

fn serves_a_second_peer(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let _silent = server.connect();
    trial.answers("the second peer", &mut server.connect())
}

fn serves_while_a_peer_does_not_read(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut other = server.connect();
    let mut stalled = server.connect();
    trial.answers("the first peer", &mut other)?;
    trial.answers("the second peer", &mut stalled)?;
    trial.send_until_stalled(&mut stalled, has_grown(&server));
    trial.answers("while another peer did not read, a peer", &mut other)
}

fn needs_one_thread(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
    trial.answers("the first of three peers", &mut streams[0])?;
    // A step may have one more thread, for stdin. A short wait is enough, because a thread for a
    // connection starts at once.
    for stream in &mut streams {
        stream.write_all(b"hello").unwrap();
    }
    let deadline = Instant::now() + trial.unit / 2;
    while Instant::now() < deadline {
        let threads = threads(&server.process);
        ensure!(threads <= 2, "the server has {threads} threads for three peers");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn threads(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap().count()
}

fn sleeps_while_nothing_happens(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut silent = server.connect();
    trial.answers("the first peer", &mut silent)?;
    let mut stalled = server.connect();
    trial.send_until_stalled(&mut stalled, has_grown(&server));
    stalled.shutdown(Shutdown::Write).unwrap();
    let is_asleep = trial.happens(|| {
        let before = server.process.activity();
        let is_asleep = (0..5).all(|_| {
            thread::sleep(trial.unit / 10);
            state(&server.process) == 'S'
        });
        is_asleep && server.process.activity() == before
    });
    ensure!(
        is_asleep,
        "one peer is silent, and another one has ended its side and does not read: the server went on running"
    );
    Ok(())
}

fn state(process: &Process) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

fn bounds_the_memory_of_a_peer(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    let is_large = has_grown(&server);
    let sent = trial.send_until_stalled(&mut stream, &is_large);
    ensure!(!is_large(), "the peer sent {sent} bytes and read none: the server took 8 MiB more for it");
    let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
    while got < sent {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => got += count,
            result => {
                let reason =
                    result.map_or_else(|error| trial.reason(error), |_| "the server closed".to_owned());
                return Err(format!(
                    "the peer sent first and read then, and got {got} of {sent} bytes: {reason}"
                ));
            }
        }
    }
    Ok(())
}

/// One peer has sent some megabytes when another peer sends a few bytes. A fair server echoes the
/// few bytes before it has echoed all the megabytes.
fn serves_while_a_peer_floods(trial: &Trial) -> Verdict {
    let server = trial.serve();
    // The lowest priority, so that the server does not get far before it is stopped.
    rustix::process::setpriority_process(Some(server.process.pid()), 19).unwrap();
    let mut verdict = Ok(());
    // On a busy machine, the server may echo everything before this thread runs again.
    for _ in 0..20 {
        let (mut flood, mut other) = (server.connect(), server.connect());
        trial.answers("the first peer", &mut flood)?;
        trial.answers("the second peer", &mut other)?;
        trial.answers("the first peer", &mut flood)?;
        trial.stop_asleep(&server);
        flood.set_nonblocking(true).unwrap();
        let sent = count(QUIET, || flood.write(&[7; 1 << 16]));
        other.write_all(b"now").unwrap();
        server.process.signal(Signal::CONT);
        let result = other.read_exact(&mut [0; 3]);
        ensure!(result.is_ok(), "the second peer sent 3 bytes and got no echo during the flood");
        stop_process(&server);
        let echoed = count(QUIET, || flood.read(&mut [0; 1 << 16]));
        server.process.signal(Signal::CONT);
        assert!(sent > 1 << 20);
        if echoed < sent / 4 * 3 {
            return Ok(());
        }
        verdict = Err(format!(
            "the server echoed {echoed} of {sent} bytes of a peer that flooded, before it echoed 3 bytes of \
             another peer"
        ));
    }
    verdict
}

/// How long a kernel needs at most to move bytes that have room.
const QUIET: Duration = Duration::from_millis(5);

/// Repeats a call until it has moved no byte for a while. Returns the number of bytes.
fn count(quiet: Duration, mut call: impl FnMut() -> io::Result<usize>) -> usize {
    let (mut sum, mut moved_last) = (0, Instant::now());
    while moved_last.elapsed() < quiet {
        if let Ok(count) = call() {
            (sum, moved_last) = (sum + count, Instant::now());
        }
    }
    sum
}

/// Counts the calls between two polls, with many connections at once and a peer that floods. A call
/// of a connection makes at most 16 reads.
fn reads_at_most_16_times_in_a_turn(trial: &Trial) -> Verdict {
    if !common::has_strace() {
        return Ok(()); // not checked here
    }
    let scratch = common::Scratch::new();
    let trace = scratch.path("trace");
    let mut server = trial.serve_traced(&trace, &[TURNS, &trial.slow_polls()], PATIENCE);
    let mut peers: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let bytes = noise(1 << 20, 19);
    let mut sender = peers[0].try_clone().unwrap();
    let mut echo = vec![0; bytes.len()];
    peers[0].set_read_timeout(Some(trial.limit)).unwrap();
    let result = thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&bytes));
        peers[0].read_exact(&mut echo)
    });
    ensure!(result.is_ok(), "a peer sent 1 MiB and got less of it: {}", trial.reason(result.unwrap_err()));
    trial.answers("the last of 40 peers", &mut peers[39])?;
    server.process.signal(Signal::KILL);
    server.process.wait();
    let trace = || fs::read_to_string(&trace).unwrap();
    assert!(trial.happens(|| trace().contains("+++ killed")), "strace writes everything");
    for turn in trace().split("epoll_wait(") {
        let mut calls = HashMap::new();
        for (call, _) in turn.lines().skip(1).filter_map(|line| line.split_once(',')) {
            let count = calls.entry(call).or_insert(0);
            *count += 1;
            ensure!(*count <= 16, "the server called `{call}, …)` more than 16 times between two polls");
        }
    }
    Ok(())
}

/// There are more peers than descriptors. A peer leaves when it has its echo. Then one `accept`
/// fails, and a connection waits behind the error.
fn accepts_waiting_peers_after_an_error(trial: &Trial) -> Verdict {
    let mut command = common::program("bash");
    command.args(["-c", "ulimit -n 12; exec \"$@\"", "bash"]).arg(path(trial.step)).arg("127.0.0.1:0");
    let server = Server::run(command.stdin(Stdio::piped()), 1);
    trial.stop_asleep(&server);
    let peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    for (number, mut peer) in (1..).zip(peers) {
        let who =
            format!("the server may have 12 descriptors, the peers before it left, and peer {number} of 20");
        trial.answers(&who, &mut peer)?;
    }
    if !common::has_strace() {
        return Ok(()); // the rest is not checked here
    }
    let fault = ["trace=accept4", "inject=accept4:error=ECONNABORTED:when=1"];
    let server = trial.serve_traced("/dev/null".as_ref(), &fault, PATIENCE);
    let who = "the first `accept` failed (`ECONNABORTED`), and the peer that waited behind it";
    trial.answers(who, &mut server.connect())
}

fn sends_the_rest_after_a_half_close(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let half_close = |stream: &mut TcpStream, bytes: &[u8]| {
        let _ = stream.write_all(bytes); // the peer sees what it gets
        let _ = stream.shutdown(Shutdown::Write);
    };
    // The bytes and the end come in one event.
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    trial.stop_asleep(&server);
    half_close(&mut stream, b"bye");
    server.process.signal(Signal::CONT);
    trial.gets_the_rest(
        "the peer sent `bye` and its end, which came in one event, and",
        &mut stream,
        b"bye",
    )?;

    // How many bytes the kernel keeps for a peer that does not read
    let mut stream = server.connect();
    trial.send_until_stalled(&mut stream, has_grown(&server));
    stop_process(&server);
    stream.set_nonblocking(true).unwrap();
    let kept = count(trial.unit / 2, || stream.read(&mut [0; 1 << 16]));
    common::reset_on_close(&stream);
    drop(stream);
    server.process.signal(Signal::CONT);

    // It differs a little. So only some of the rounds leave the server with a part of the bytes when
    // it reads the end, and one has to do for the steps.
    let rounds = if trial.step == MINE { 7 } else { 1 };
    let bytes = noise(kept + (112 << 10), 17);
    for number in 0..rounds {
        let mut stream = server.connect();
        let bytes = &bytes[(112 << 10) * number / (rounds + 1)..];
        half_close(&mut stream, bytes);
        trial.wait_until_asleep(&server);
        trial.gets_the_rest("after the half-close, a peer that reads late", &mut stream, bytes)?;
    }
    Ok(())
}

fn survives_a_reset(trial: &Trial) -> Verdict {
    let mut server = trial.serve();
    let mut first = server.connect();
    trial.answers("the first peer", &mut first)?;
    first.shutdown(Shutdown::Write).unwrap();
    trial.gets_the_rest("the first peer", &mut first, b"")?;
    let before = server.process.descriptors();
    for number in 0..20 {
        let mut stream = server.connect();
        let _ = stream.write_all([&[7; 100_000][..], b"hello", b""][number % 3]);
        common::reset_on_close(&stream);
    }
    trial.answers("after 20 resets, a new peer", &mut server.connect())?;
    let status = server.process.child.try_wait().unwrap();
    ensure!(status.is_none(), "after 20 resets, the server had ended");
    let now = || server.process.descriptors();
    ensure!(
        trial.happens(|| now() <= before),
        "after 20 resets, the server had {} descriptors and not {before}: it has to close the connection",
        now()
    );
    Ok(())
}

fn survives_ctrl_z_and_fg(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    trial.stop_asleep(&server);
    server.process.signal(Signal::CONT);
    trial.answers("after Ctrl-Z and `fg`, the peer", &mut stream)
}

/// Waits until the server closes an idle connection.
fn is_closed(trial: &Trial, stream: &mut TcpStream, idle_limit: Duration) -> Verdict {
    stream.set_read_timeout(Some(trial.limit)).unwrap();
    let end = stream.read(&mut [0]);
    ensure!(
        end.is_ok_and(|count| count == 0),
        "the idle limit is {idle_limit:?} (the second argument, in milliseconds), and a silent peer was still \
         connected after {:?}",
        trial.limit
    );
    Ok(())
}

fn closes_an_idle_peer(trial: &Trial) -> Verdict {
    let server = trial.serve_with_idle_limit(trial.unit);
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    is_closed(trial, &mut stream, trial.unit)
}

/// While a poll takes its time, each of a hundred peers sends a byte. So there are always more
/// events than the first list has room for.
fn closes_an_idle_peer_while_many_are_busy(trial: &Trial) -> Verdict {
    if !common::has_strace() {
        return Ok(()); // not checked here
    }
    let scratch = common::Scratch::new();
    let server = trial.serve_traced(&scratch.path("trace"), &[TURNS, &trial.slow_polls()], 3 * trial.unit);
    let mut idle = server.connect();
    let mut peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    peers.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for peer in &mut peers {
                    let _ = (peer.write(&[7]), peer.read(&mut [0; 64]));
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let verdict = is_closed(trial, &mut idle, 3 * trial.unit);
        is_over.store(true, Ordering::Relaxed);
        verdict
    })
}

fn stale_timer_closes_nobody(trial: &Trial) -> Verdict {
    let unit = trial.unit;
    let server = trial.serve_with_idle_limit(2 * unit);
    let mut first = server.connect();
    trial.answers("the first peer", &mut first)?;
    let began = Instant::now();
    first.shutdown(Shutdown::Write).unwrap();
    trial.gets_the_rest("the first peer", &mut first, b"")?; // the slot is free
    thread::sleep(unit.saturating_sub(began.elapsed()));
    let mut second = server.connect(); // in the same slot, whose old timer is due after one unit
    trial.answers("the second peer", &mut second)?;
    thread::sleep((unit * 5 / 2).saturating_sub(began.elapsed()));
    trial.answers("when the first peer would have been idle for too long, the second peer", &mut second)
}

/// More peers than one list of events has room for.
fn serves_all_whose_bytes_came_while_it_was_stopped(trial: &Trial) -> Verdict {
    let server = trial.serve_with_idle_limit(3 * trial.unit);
    let mut peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    trial.answers("the last of 100 peers", &mut peers[99])?;
    trial.stop_asleep(&server);
    for peer in &mut peers {
        peer.write_all(b"hello\n").unwrap();
    }
    thread::sleep(3 * trial.unit); // the thing under test: all are idle for too long
    server.process.signal(Signal::CONT);
    for peer in &mut peers {
        peer.set_read_timeout(Some(trial.limit)).unwrap();
        let result = peer.read_exact(&mut [0; 6]);
        ensure!(
            result.is_ok(),
            "a peer whose bytes had come got no echo: {}",
            trial.reason(result.unwrap_err())
        );
    }
    Ok(())
}

fn is_woken_by_another_thread(trial: &Trial) -> Verdict {
    let mut server = trial.serve();
    stop(&mut server);
    let ends = trial.happens(|| server.process.child.try_wait().unwrap().is_some());
    ensure!(ends, "the line `stop` came on stdin, and the server ran on for {:?}", trial.limit);
    Ok(())
}

fn stops_when_the_last_connection_has_ended(trial: &Trial) -> Verdict {
    let mut server = trial.serve();
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    stop(&mut server);
    let closes = trial.happens(|| TcpListener::bind(server.address()).is_ok());
    ensure!(closes, "the line `stop` came on stdin, and the server listened on for {:?}", trial.limit);
    trial.answers("after the line `stop` on stdin, the peer", &mut stream)?;
    drop(stream);
    let code = server.process.wait_code();
    ensure!(code == 0, "the server ended with exit status {code}");
    Ok(())
}

/// Writes the line that stops the server.
fn stop(server: &mut Server) {
    let _ = server.process.child.stdin.as_mut().unwrap().write_all(b"stop\n"); // a server may not read it
}

struct Behaviour {
    text: &'static str,
    show: fn(&Trial) -> Verdict,
    /// The first step that has the part that this behaviour is about.
    from: &'static str,
}

const BEHAVIOURS: [Behaviour; 17] = [
    Behaviour {
        text: "serves a second peer while the first is silent",
        show: serves_a_second_peer,
        from: "01",
    },
    Behaviour {
        text: "serves others while a peer does not read",
        show: serves_while_a_peer_does_not_read,
        from: "01",
    },
    Behaviour { text: "serves others while a peer floods", show: serves_while_a_peer_floods, from: "01" },
    Behaviour {
        text: "reads from no connection more than 16 times in a turn",
        show: reads_at_most_16_times_in_a_turn,
        from: "07",
    },
    Behaviour {
        text: "accepts waiting peers after an error",
        show: accepts_waiting_peers_after_an_error,
        from: "01",
    },
    Behaviour { text: "needs no thread for each connection", show: needs_one_thread, from: "01" },
    Behaviour { text: "sleeps while nothing happens", show: sleeps_while_nothing_happens, from: "01" },
    Behaviour {
        text: "bounds the memory of a peer that reads late",
        show: bounds_the_memory_of_a_peer,
        from: "01",
    },
    Behaviour {
        text: "sends the rest after a half-close",
        show: sends_the_rest_after_a_half_close,
        from: "01",
    },
    Behaviour { text: "survives a reset", show: survives_a_reset, from: "01" },
    Behaviour { text: "survives Ctrl-Z and `fg`", show: survives_ctrl_z_and_fg, from: "01" },
    Behaviour { text: "closes an idle peer", show: closes_an_idle_peer, from: "01" },
    Behaviour {
        text: "closes an idle peer while many are busy",
        show: closes_an_idle_peer_while_many_are_busy,
        from: "09",
    },
    Behaviour { text: "a stale timer closes nobody", show: stale_timer_closes_nobody, from: "09" },
    Behaviour {
        text: "closes no peer whose bytes came while it was stopped",
        show: serves_all_whose_bytes_came_while_it_was_stopped,
        from: "09",
    },
    Behaviour { text: "is woken by another thread", show: is_woken_by_another_thread, from: "01" },
    Behaviour {
        text: "stops when the last connection has ended",
        show: stops_when_the_last_connection_has_ended,
        from: "01",
    },
];

/// Tries until the result is the expected one, because a loaded machine can hide a behaviour.
fn find(behaviour: &Behaviour, step: &str, expected: Option<bool>) -> (Cell, Verdict) {
    if step < behaviour.from {
        return (Cell::NotApplicable, Ok(()));
    }
    let mut unit = Duration::from_millis(100);
    let mut verdict = Ok(());
    for _ in 0..3 {
        // A slow machine may delay the expected result. An unexpected result would come at once.
        let limit = match expected {
            Some(true) => PATIENCE / 4,
            Some(false) => unit,
            None => 10 * unit,
        };
        let trial = Trial { step, limit, unit };
        // A trial that fails in the middle does not show the behaviour.
        verdict = panic::catch_unwind(|| (behaviour.show)(&trial)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map_or("it ended early", String::as_str);
            Err(format!("the trial failed: {text}"))
        });
        if expected.is_none_or(|expected| expected == verdict.is_ok()) {
            break;
        }
        unit *= 2;
    }
    (if verdict.is_ok() { Cell::Yes } else { Cell::No }, verdict)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn each_step_behaves_as_the_table_of_the_guide_shows() {
    if !common::has_descriptors(1000) {
        return;
    }
    let is_update = std::env::var_os("UPDATE").is_some();
    let table = fs::read_to_string(TABLE).unwrap_or_default();
    let expected = |behaviour: &Behaviour, step: usize| {
        let row = table.lines().find(|line| line.starts_with(&format!("| {} ", behaviour.text)))?;
        Some(row.split('|').nth(step + 2)?.trim() == Cell::Yes.text())
    };
    let cells: Vec<_> =
        (0..BEHAVIOURS.len()).flat_map(|row| (0..SERVERS.len()).map(move |step| (row, step))).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(HashMap::new());
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(&(row, step)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let behaviour = &BEHAVIOURS[row];
                    let expected = if is_update { None } else { expected(behaviour, step) };
                    let (cell, _) = find(behaviour, SERVERS[step], expected);
                    found.lock().unwrap().insert((row, step), cell);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let mut text = String::from("| the server … |");
    SERVERS.iter().for_each(|name| text += &format!(" {} |", name[..2].trim_start_matches('0')));
    text += &format!("\n| --- |{}\n", " :-: |".repeat(SERVERS.len()));
    for (row, behaviour) in BEHAVIOURS.iter().enumerate() {
        text += &format!("| {} |", behaviour.text);
        (0..SERVERS.len()).for_each(|step| text += &format!(" {} |", found[&(row, step)].text()));
        text += "\n";
    }
    text += "\n\"–\" means that the step lacks the part that the row is about. ";
    text += "Step 10 is the client, so it\nhas no column.\n";
    if is_update {
        fs::write(TABLE, text).unwrap();
    } else {
        assert_eq!(
            table, text,
            "{TABLE} is stale: UPDATE=1 cargo test --test steps\n{table}\nfound:\n{text}"
        );
    }
}

/// Prints the rows of the table that are about steps 1 to 8, for the reader's own program.
#[test]
#[ignore = "the reader's program"]
fn mine() {
    path(MINE); // it is built
    panic::set_hook(Box::new(|_| {})); // a row prints a sentence
    for behaviour in BEHAVIOURS.iter().filter(|behaviour| behaviour.from < "09") {
        let (cell, verdict) = find(behaviour, MINE, None);
        println!("{} {}", cell.text(), behaviour.text);
        if let Err(sentence) = verdict {
            println!("    {sentence}");
        }
    }
}
