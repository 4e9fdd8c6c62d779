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

    /// Under `strace`. Each poll takes so long that much happens before its events are handled.
    fn serve_traced(&self, trace: &Path, idle_limit: Duration) -> Server {
        let mut command = common::program("strace");
        command.args(["-D", "-e", "trace=epoll_wait,accept4,recvfrom", "-e"]);
        command.arg(format!("inject=epoll_wait:delay_exit={}ms", self.unit.as_millis() / 5));
        command.arg("-o").arg(trace).arg(path(self.step)).arg("127.0.0.1:0");
        command.arg(idle_limit.as_millis().to_string()).stdin(Stdio::piped());
        Server::run(&mut command, 1)
    }

    /// Whether a peer gets its echo.
    fn answers(&self, stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(self.limit)).unwrap();
        let mut echo = [0; 6];
        stream.write_all(b"hello\n").is_ok() && stream.read_exact(&mut echo).is_ok() && &echo == b"hello\n"
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

    /// Sends without reading, until the server takes no more, or `stop` returns true.
    fn send_until_stalled(&self, stream: &mut TcpStream, mut stop: impl FnMut() -> bool) {
        stream.set_nonblocking(true).unwrap();
        let mut taken_last = Instant::now();
        while taken_last.elapsed() < self.unit / 2 && !stop() {
            match stream.write(&[7; 1 << 16]) {
                Ok(_) => taken_last = Instant::now(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => break,
            }
        }
        stream.set_nonblocking(false).unwrap();
    }

    /// Stops the process while it sleeps. (Step 3 never does.)
    fn stop_asleep(&self, server: &Server) {
        let deadline = Instant::now() + self.unit;
        while state(&server.process) != 'S' && Instant::now() < deadline {}
        stop_process(server);
    }

    fn resident(server: &Server) -> u64 {
        server.process.resident()
    }
}

fn stop_process(server: &Server) {
    server.process.signal(Signal::STOP);
    common::eventually("the server is stopped", || matches!(state(&server.process), 'T' | 'Z'));
}

fn serves_a_second_peer(trial: &Trial) -> bool {
    let server = trial.serve();
    let _silent = server.connect();
    trial.answers(&mut server.connect())
}

fn serves_while_a_peer_does_not_read(trial: &Trial) -> bool {
    let server = trial.serve();
    let mut other = server.connect();
    let mut stalled = server.connect();
    if !trial.answers(&mut other) || !trial.answers(&mut stalled) {
        return false;
    }
    let before = Trial::resident(&server);
    trial.send_until_stalled(&mut stalled, || Trial::resident(&server) > before + (8 << 10));
    trial.answers(&mut other)
}

fn needs_one_thread(trial: &Trial) -> bool {
    let server = trial.serve();
    let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
    assert!(trial.answers(&mut streams[0]));
    // A step may have one more thread, for stdin. A short wait is enough, because a thread for a
    // connection starts at once.
    for stream in &mut streams {
        stream.write_all(b"hello").unwrap();
    }
    let deadline = Instant::now() + trial.unit / 2;
    while Instant::now() < deadline {
        if threads(&server.process) > 2 {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

fn threads(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap().count()
}

fn sleeps_while_nothing_happens(trial: &Trial) -> bool {
    let server = trial.serve();
    let mut silent = server.connect();
    assert!(trial.answers(&mut silent));
    let mut stalled = server.connect();
    let before = Trial::resident(&server);
    trial.send_until_stalled(&mut stalled, || Trial::resident(&server) > before + (8 << 10));
    stalled.shutdown(Shutdown::Write).unwrap();
    trial.happens(|| {
        let before = server.process.activity();
        let is_asleep = (0..5).all(|_| {
            thread::sleep(trial.unit / 10);
            state(&server.process) == 'S'
        });
        is_asleep && server.process.activity() == before
    })
}

fn state(process: &Process) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

fn bounds_the_memory_of_a_peer(trial: &Trial) -> bool {
    let server = trial.serve();
    let mut stream = server.connect();
    assert!(trial.answers(&mut stream));
    let before = Trial::resident(&server);
    let is_large = || Trial::resident(&server) > before + (8 << 10);
    trial.send_until_stalled(&mut stream, is_large);
    !is_large()
}

/// One peer has sent some megabytes when another peer sends a few bytes. A fair server echoes the
/// few bytes before it has echoed all the megabytes.
fn serves_while_a_peer_floods(trial: &Trial) -> bool {
    let server = trial.serve();
    // The lowest priority, so that the server does not get far before it is stopped.
    rustix::process::setpriority_process(Some(server.process.pid()), 19).unwrap();
    (0..5).any(|_| {
        let (mut flood, mut other) = (server.connect(), server.connect());
        if !trial.answers(&mut flood) || !trial.answers(&mut other) || !trial.answers(&mut flood) {
            return false;
        }
        trial.stop_asleep(&server);
        flood.set_nonblocking(true).unwrap();
        let sent = count(|| flood.write(&[7; 1 << 16]));
        other.write_all(b"now").unwrap();
        server.process.signal(Signal::CONT);
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        if other.read_exact(&mut [0; 3]).is_err() {
            return false;
        }
        stop_process(&server);
        let echoed = count(|| flood.read(&mut [0; 1 << 16]));
        server.process.signal(Signal::CONT);
        assert!(sent > 1 << 20);
        echoed < sent / 4 * 3
    })
}

/// Repeats a call until it would block. Returns the number of bytes.
fn count(mut call: impl FnMut() -> io::Result<usize>) -> usize {
    let (mut sum, mut moved_last) = (0, Instant::now());
    while moved_last.elapsed() < Duration::from_millis(5) {
        if let Ok(count) = call() {
            (sum, moved_last) = (sum + count, Instant::now());
        }
    }
    sum
}

/// Counts the calls between two polls, with many connections at once and a peer that floods. A call
/// of a connection makes at most 16 reads.
fn reads_at_most_16_times_in_a_turn(trial: &Trial) -> bool {
    if !common::has_strace() {
        return true; // not checked here
    }
    let scratch = common::Scratch::new();
    let trace = scratch.path("trace");
    let mut server = trial.serve_traced(&trace, PATIENCE);
    let mut peers: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let echo = collect(peers[0].try_clone().unwrap());
    peers[0].write_all(&noise(1 << 20, 19)).unwrap();
    peers[0].shutdown(Shutdown::Write).unwrap();
    echo.recv_timeout(PATIENCE).unwrap();
    assert!(trial.answers(&mut peers[39]));
    server.process.signal(Signal::KILL);
    server.process.wait();
    let trace = || fs::read_to_string(&trace).unwrap();
    assert!(trial.happens(|| trace().contains("+++ killed")), "strace writes everything");
    trace().split("epoll_wait(").all(|turn| {
        let mut calls = HashMap::new();
        turn.lines().skip(1).filter_map(|line| line.split_once(',')).for_each(|(call, _)| {
            *calls.entry(call).or_insert(0) += 1;
        });
        calls.values().all(|count| *count <= 16)
    })
}

/// There are more peers than descriptors. A peer leaves when it has its echo.
fn accepts_waiting_peers_when_descriptors_are_free(trial: &Trial) -> bool {
    let mut command = common::program("bash");
    command.args(["-c", "ulimit -n 12; exec \"$@\"", "bash"]).arg(path(trial.step)).arg("127.0.0.1:0");
    let server = Server::run(command.stdin(Stdio::piped()), 1);
    trial.stop_asleep(&server);
    let peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    peers.into_iter().all(|mut peer| trial.answers(&mut peer))
}

fn sends_the_rest_after_a_half_close(trial: &Trial) -> bool {
    let server = trial.serve();
    let mut stream = server.connect();
    let bytes = noise(256 << 10, 17);
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).is_ok() && echo == bytes
}

fn survives_a_reset(trial: &Trial) -> bool {
    let mut server = trial.serve();
    for bytes in [&[7; 100_000][..], b"hello", b""] {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        common::reset_on_close(&stream);
    }
    trial.answers(&mut server.connect()) && server.process.child.try_wait().unwrap().is_none()
}

fn survives_ctrl_z_and_fg(trial: &Trial) -> bool {
    let server = trial.serve();
    let mut stream = server.connect();
    assert!(trial.answers(&mut stream));
    trial.stop_asleep(&server);
    server.process.signal(Signal::CONT);
    trial.answers(&mut stream)
}

fn closes_an_idle_peer(trial: &Trial) -> bool {
    let server = trial.serve_with_idle_limit(trial.unit);
    let mut stream = server.connect();
    assert!(trial.answers(&mut stream));
    stream.read(&mut [0]).is_ok_and(|count| count == 0)
}

/// While a poll takes its time, each of a hundred peers sends a byte. So there are always more
/// events than the first list has room for.
fn closes_an_idle_peer_while_many_are_busy(trial: &Trial) -> bool {
    if !common::has_strace() {
        return true; // not checked here
    }
    let scratch = common::Scratch::new();
    let server = trial.serve_traced(&scratch.path("trace"), 3 * trial.unit);
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
        idle.set_read_timeout(Some(trial.limit)).unwrap();
        let closed = idle.read(&mut [0]);
        is_over.store(true, Ordering::Relaxed);
        closed.is_ok_and(|count| count == 0)
    })
}

fn stale_timer_closes_nobody(trial: &Trial) -> bool {
    let unit = trial.unit;
    let server = trial.serve_with_idle_limit(2 * unit);
    let mut first = server.connect();
    assert!(trial.answers(&mut first));
    let began = Instant::now();
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0, "the slot is free");
    thread::sleep(unit.saturating_sub(began.elapsed()));
    let mut second = server.connect(); // in the same slot, whose old timer is due after one unit
    trial.answers(&mut second);
    thread::sleep((unit * 5 / 2).saturating_sub(began.elapsed()));
    trial.answers(&mut second)
}

/// More peers than one list of events has room for.
fn serves_all_whose_bytes_came_while_it_was_stopped(trial: &Trial) -> bool {
    let server = trial.serve_with_idle_limit(3 * trial.unit);
    let mut peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    assert!(trial.answers(&mut peers[99]));
    trial.stop_asleep(&server);
    for peer in &mut peers {
        peer.write_all(b"hello\n").unwrap();
    }
    thread::sleep(3 * trial.unit); // the thing under test: all are idle for too long
    server.process.signal(Signal::CONT);
    peers.iter_mut().all(|peer| {
        peer.set_read_timeout(Some(trial.limit)).unwrap();
        peer.read_exact(&mut [0; 6]).is_ok()
    })
}

fn is_woken_by_another_thread(trial: &Trial) -> bool {
    let mut server = trial.serve();
    stop(&mut server);
    trial.happens(|| server.process.child.try_wait().unwrap().is_some())
}

fn stops_when_the_last_connection_has_ended(trial: &Trial) -> bool {
    let mut server = trial.serve();
    let mut stream = server.connect();
    assert!(trial.answers(&mut stream));
    stop(&mut server);
    if !trial.happens(|| TcpListener::bind(server.address()).is_ok()) || !trial.answers(&mut stream) {
        return false;
    }
    drop(stream);
    server.process.wait_code() == 0
}

/// Writes the line that stops the server.
fn stop(server: &mut Server) {
    server.process.child.stdin.as_mut().unwrap().write_all(b"stop\n").unwrap();
}

struct Behaviour {
    text: &'static str,
    show: fn(&Trial) -> bool,
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
        text: "accepts waiting peers when descriptors are free again",
        show: accepts_waiting_peers_when_descriptors_are_free,
        from: "01",
    },
    Behaviour { text: "needs no thread for each connection", show: needs_one_thread, from: "01" },
    Behaviour { text: "sleeps while nothing happens", show: sleeps_while_nothing_happens, from: "01" },
    Behaviour {
        text: "bounds the memory of a peer that does not read",
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
fn find(behaviour: &Behaviour, step: &str, expected: Option<bool>) -> Cell {
    if step < behaviour.from {
        return Cell::NotApplicable;
    }
    let mut unit = Duration::from_millis(100);
    let mut is_shown = false;
    for _ in 0..3 {
        // A slow machine may delay the expected result. An unexpected result would come at once.
        let limit = match expected {
            Some(true) => PATIENCE / 4,
            Some(false) => unit,
            None => 10 * unit,
        };
        let trial = Trial { step, limit, unit };
        // A trial that fails in the middle does not show the behaviour.
        is_shown = panic::catch_unwind(|| (behaviour.show)(&trial)).unwrap_or(false);
        if expected.is_none_or(|expected| expected == is_shown) {
            break;
        }
        unit *= 2;
    }
    if is_shown { Cell::Yes } else { Cell::No }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn each_step_behaves_as_the_table_of_the_guide_shows() {
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
                    let cell = find(behaviour, SERVERS[step], expected);
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
    for behaviour in BEHAVIOURS.iter().filter(|behaviour| behaviour.from < "09") {
        println!("{} {}", find(behaviour, MINE, None).text(), behaviour.text);
    }
}
