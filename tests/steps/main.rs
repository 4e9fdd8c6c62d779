//! Each step of the course behaves as the table in `src/guide/steps.md` shows.
//!
//! `UPDATE=1 cargo test --test steps` writes the table. The test `mine` prints a column of it for
//! `examples/mine.rs`, which the reader writes in chapter 7, and fails if there is a ✗. `trial.rs` has
//! what a row may use, and the rows are in `connections.rs` and `time.rs`.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

#[path = "../common/mod.rs"]
mod common;
mod connections;
mod time;
mod trial;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, Process, Server, assert_same_bytes, collect, noise};
use trial::{Trial, UNCHECKED, Verdict};

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
    let command = if step == MINE { "cargo build --example mine" } else { "cargo build --examples" };
    assert!(path.exists(), "{} is not built: {command}", path.display());
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
    /// The step lacks the part that this behaviour is about, or it cannot be checked here.
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

struct Behaviour {
    text: &'static str,
    show: fn(&Trial) -> Verdict,
    /// The first step that has the part that this behaviour is about.
    from: &'static str,
}

/// A row may need what the rows above it show. So the first ✗ of a column is the one to mend first.
const BEHAVIOURS: [Behaviour; 18] = [
    Behaviour {
        text: "serves a second peer while the first is silent",
        show: connections::serves_a_second_peer,
        from: "01",
    },
    Behaviour { text: "survives Ctrl-Z and `fg`", show: connections::survives_ctrl_z_and_fg, from: "01" },
    Behaviour {
        text: "sends the rest after a half-close",
        show: connections::sends_the_rest_after_a_half_close,
        from: "01",
    },
    Behaviour { text: "survives a reset", show: connections::survives_a_reset, from: "01" },
    Behaviour {
        text: "serves others while a peer does not read",
        show: connections::serves_while_a_peer_does_not_read,
        from: "01",
    },
    Behaviour {
        text: "serves others while a peer floods",
        show: connections::serves_while_a_peer_floods,
        from: "01",
    },
    Behaviour {
        text: "reads from no connection more than 16 times in a turn",
        show: connections::reads_at_most_16_times_in_a_turn,
        from: "07",
    },
    Behaviour {
        text: "accepts waiting peers after an error",
        show: connections::accepts_waiting_peers_after_an_error,
        from: "01",
    },
    Behaviour {
        text: "sleeps while no descriptor is left",
        show: connections::sleeps_while_no_descriptor_is_left,
        from: "01",
    },
    Behaviour {
        text: "needs no thread for each connection",
        show: connections::needs_one_thread,
        from: "01",
    },
    Behaviour {
        text: "sleeps while nothing happens",
        show: connections::sleeps_while_nothing_happens,
        from: "01",
    },
    Behaviour {
        text: "bounds the memory of a peer that reads late",
        show: connections::bounds_the_memory_of_a_peer,
        from: "01",
    },
    Behaviour { text: "closes an idle peer", show: time::closes_an_idle_peer, from: "01" },
    Behaviour {
        text: "closes an idle peer while many are busy",
        show: time::closes_an_idle_peer_while_many_are_busy,
        from: "09",
    },
    Behaviour { text: "a stale timer closes nobody", show: time::stale_timer_closes_nobody, from: "09" },
    Behaviour {
        text: "closes no peer whose bytes came while it was stopped",
        show: time::serves_all_whose_bytes_came_while_it_was_stopped,
        from: "09",
    },
    Behaviour { text: "is woken by another thread", show: time::is_woken_by_another_thread, from: "01" },
    Behaviour {
        text: "stops when the last connection has ended",
        show: time::stops_when_the_last_connection_has_ended,
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
        let trial = Trial { step, limit, unit, server: &Mutex::new(None) };
        // A trial that fails in the middle does not show the behaviour.
        verdict = panic::catch_unwind(|| (behaviour.show)(&trial)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map_or("it ended early", String::as_str);
            Err(format!("the trial failed: {text}{}", trial.last_message()))
        });
        if verdict.as_ref().is_err_and(|sentence| sentence == UNCHECKED) {
            let cell = if expected == Some(true) { Cell::Yes } else { Cell::NotApplicable };
            return (cell, Ok(()));
        }
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
    text += "Step 10 is the client, so it\nhas no column. After a *half-close* a peer sends no more, but goes \
             on reading. A *reset* ends a\nconnection at once, with an error (chapter 12).\n";
    if is_update {
        fs::write(TABLE, text).unwrap();
    } else {
        assert_eq!(
            table, text,
            "{TABLE} is stale: UPDATE=1 cargo test --test steps\n{table}\nfound:\n{text}"
        );
    }
}

/// Prints the column of the table for the reader's own program. Fails if a row has ✗.
#[test]
#[ignore = "the reader's program"]
fn mine() {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).unwrap();
    let program = path(MINE);
    let source = Path::new("examples/mine.rs");
    if source.exists() && changed(source) > changed(&program) {
        println!("examples/mine.rs has changed since it was built: cargo build --example mine");
        panic!();
    }
    panic::set_hook(Box::new(|_| {})); // a sentence is printed instead
    let start = || drop(Server::run(step(MINE).arg("127.0.0.1:0").stdin(Stdio::piped()), 1));
    if panic::catch_unwind(start).is_err() {
        println!("Your server has to print `listening on` and its address first, and then to run on.");
        panic!();
    }
    let mut missing = Vec::new();
    for behaviour in &BEHAVIOURS {
        let has_timers = !missing.contains(&"closes an idle peer");
        let (cell, verdict) = match behaviour.from {
            "09" if !has_timers => (Cell::NotApplicable, Ok(())),
            _ => find(behaviour, MINE, None),
        };
        println!("{} {}", cell.text(), behaviour.text);
        if let Err(sentence) = verdict {
            println!("    {sentence}");
            missing.push(behaviour.text);
        }
    }
    let Some(first) = missing.first() else { return };
    println!("\nMend \"{first}\" first: the rows below it may fail for the same reason.");
    panic!();
}
