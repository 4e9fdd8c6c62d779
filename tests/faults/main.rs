//! Fault injection: `strace` makes each system call of the two programs fail, with each error that
//! the call may return. A program must continue as if nothing had happened, or end with status 1
//! and a line that says why, or end only the connection that failed.
//!
//! `cargo test --release --test faults -- --ignored --nocapture` injects all faults and writes the
//! table `target/faults.tsv`. With `FAULTS=quick` only the first occurrence of each call fails,
//! with one error.
//!
//! `strace` cannot make a call shorter. The test `failing_calls` does that inside of the library.
//!
//! Two errors are not injected. After a false `EAGAIN`, an edge-triggered loop would wait for an
//! event that does not come. After an error of memory management, `std` aborts.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

#[path = "../common/mod.rs"]
mod common;
mod traced;
mod workloads;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use common::Scratch;
use workloads::{Verdict, WORKLOADS, Workload};

/// A run that takes longer than this hangs. Without a fault it takes some 50 ms.
const LIMIT: Duration = Duration::from_secs(8);

/// More system calls than this in one run are a busy loop. Without a fault it makes some 200.
const BUSY: usize = 20_000;

/// The errors that each call may return, from its manual page.
const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EINTR", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM", "EPROTO"]),
    ("bind", &["EADDRINUSE", "EACCES", "ENOMEM"]),
    ("close", &["EINTR", "EIO"]),
    ("connect", &["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "EADDRNOTAVAIL", "EACCES"]),
    ("epoll_create1", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait", &["EINTR", "EBADF"]),
    ("eventfd2", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("fcntl", &["EMFILE", "EINVAL"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("flock", &["EINTR", "ENOLCK"]),
    ("fstat", &["EIO"]),
    ("ftruncate", &["EINTR", "EIO", "EPERM"]),
    ("getpeername", &["ENOTCONN", "ENOBUFS"]),
    ("getsockname", &["ENOBUFS"]),
    ("getsockopt", &["ENOBUFS"]),
    ("ioctl", &["EIO", "ENOTTY"]),
    ("listen", &["EADDRINUSE"]),
    ("lseek", &["EINVAL"]),
    ("newfstatat", &["EACCES", "EIO"]),
    ("openat", &["EINTR", "EMFILE", "ENFILE", "EACCES", "ENOENT", "ENOSPC"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("preadv2", &["EINTR", "EIO", "EOPNOTSUPP"]),
    ("pwrite64", &["EINTR", "EIO", "ENOSPC"]),
    ("read", &["EINTR", "EIO"]),
    ("readlink", &["EACCES"]),
    ("recvfrom", &["EINTR", "ECONNRESET", "ETIMEDOUT", "ENOMEM", "EHOSTUNREACH"]),
    ("rename", &["EACCES", "ENOSPC"]),
    ("sendto", &["EINTR", "ECONNRESET", "EPIPE", "ENOBUFS", "ETIMEDOUT", "EHOSTUNREACH"]),
    ("setsockopt", &["EINVAL", "ENOPROTOOPT", "ENOBUFS"]),
    ("shutdown", &["ENOTCONN", "ENOBUFS"]),
    ("socket", &["EMFILE", "ENFILE", "ENOBUFS", "EACCES"]),
    ("socketpair", &["EMFILE", "ENFILE"]),
    ("statx", &["EACCES", "EIO", "ENOMEM"]),
    ("unlink", &["EACCES", "EIO"]),
    ("write", &["EINTR", "EIO", "ENOSPC", "EPIPE"]),
    ("writev", &["EINTR", "EIO", "ENOSPC", "EPIPE"]),
];

/// Calls that do not fail with the programs' arguments, and those of memory management.
const NOT_INJECTED: &[&str] = &[
    "brk",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "getrandom",
    "madvise",
    "mmap",
    "mremap",
    "munmap",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
];

/// Which call fails. A delay or a signal does not make it fail. A delay and SIGWINCH must change
/// nothing, and SIGTERM ends the program in an orderly way.
#[derive(Clone)]
struct Fault {
    call: &'static str,
    effect: String,
    occurrence: Occurrence,
}

#[derive(Clone, Copy)]
enum Occurrence {
    Only(usize),
    /// This occurrence and the next one.
    Twice(usize),
    /// This occurrence and all later ones.
    From(usize),
}

#[test]
#[ignore = "takes minutes, and needs strace"]
fn every_failing_system_call_is_survived_or_named() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let is_quick = env::var("FAULTS").is_ok_and(|value| value == "quick");
    let jobs = Mutex::new(WORKLOADS.iter().flat_map(|workload| faults(workload, is_quick)).rev().collect());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((workload, fault)) = next(&jobs) {
                    let verdict = inject(workload, &fault);
                    results.lock().unwrap().push((workload.name, fault, verdict));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert!(results.len() > if is_quick { 100 } else { 2000 }, "only {} faults", results.len());
    report(&results);
}

fn next(jobs: &Mutex<Vec<(&'static Workload, Fault)>>) -> Option<(&'static Workload, Fault)> {
    jobs.lock().unwrap().pop()
}

/// Every fault of a workload: each call that it makes without a fault, with each error, at each of
/// its first six occurrences, at two in a row (EINTR), and at all of them.
fn faults(workload: &'static Workload, is_quick: bool) -> Vec<(&'static Workload, Fault)> {
    let scratch = Scratch::new();
    let (verdict, log) = (workload.run)(&scratch, None);
    assert_eq!(verdict, Ok("unaffected"), "without a fault: {}\n{log}", workload.name);
    let is_known = |name: &&str| NOT_INJECTED.contains(name) || ERRORS.iter().any(|(call, _)| call == name);
    let unknown: Vec<_> = of_main(&log).lines().filter_map(call_of).filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{}: add the errors of {unknown:?}", workload.name);
    let mut faults = Vec::new();
    for &(call, errors) in ERRORS {
        let (before, after) = count(&log, call);
        // A Unix socket stays connected. Where its peer has closed, a BSD returns `ENOTCONN`, and the
        // end of file follows.
        let is_plausible = |error: &&&str| (workload.name, call, **error) != ("unix", "shutdown", "ENOTCONN");
        let errors = errors.iter().filter(is_plausible);
        let mut effects: Vec<String> = errors.map(|error| format!("error={error}")).collect();
        let others = ["signal=WINCH", "signal=TERM", "delay_enter=2000", "delay_exit=2000"];
        effects.extend(others.map(String::from));
        if is_quick {
            effects.truncate(1);
        }
        for effect in effects {
            for n in 1..=after.min(if is_quick { 1 } else { 6 }) {
                let occurrence = Occurrence::Only(before + n);
                faults.push((workload, Fault { call, effect: effect.clone(), occurrence }));
                if effect.ends_with("EINTR") {
                    let occurrence = Occurrence::Twice(before + n);
                    faults.push((workload, Fault { call, effect: effect.clone(), occurrence }));
                }
            }
            if after > 0 && !is_quick && effect.starts_with("error") && !effect.ends_with("EINTR") {
                faults.push((workload, Fault { call, effect, occurrence: Occurrence::From(before + 1) }));
            }
        }
    }
    faults
}

/// How often a run made this call before `main` (in the dynamic linker and `std`), and in `main`.
fn count(log: &str, call: &str) -> (usize, usize) {
    let main = of_main(log);
    let calls = |log: &str| log.lines().filter(|line| call_of(line) == Some(call)).count();
    (calls(&log[..log.len() - main.len()]), calls(main))
}

/// The system calls of `main`. It begins with `sigaction(SIGXFSZ)`, which is not called before.
fn of_main(log: &str) -> &str {
    log.find("rt_sigaction(SIGXFSZ").map_or("", |start| &log[start..])
}

/// The name of the call in a line of the log: `123 read(0, ...`. Lines of signals and exits have
/// none.
fn call_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_whitespace().nth(1)?.split_once('(')?;
    Some(name)
}

fn inject(workload: &Workload, fault: &Fault) -> Verdict {
    let when = match fault.occurrence {
        Occurrence::Only(n) => n.to_string(),
        Occurrence::Twice(n) => format!("{n}..{}", n + 1),
        Occurrence::From(n) => format!("{n}+"),
    };
    let scratch = Scratch::new();
    let expression = format!("inject={}:{}:when={when}", fault.call, fault.effect);
    let (verdict, log) = (workload.run)(&scratch, Some(&expression));
    // The outcomes of a fault that is not an error.
    let allowed: &[&str] = match &*fault.effect {
        "signal=TERM" => &["unaffected", "ends by SIGTERM", "shuts down"],
        _ => &["unaffected"],
    };
    // Not every file system has locks, so nothing depends on one.
    let is_harmless =
        !fault.effect.starts_with("error") || fault.effect.ends_with("EINTR") || fault.call == "flock";
    if log.lines().count() > BUSY {
        return Err(format!("a busy loop: {} system calls", log.lines().count()));
    }
    match verdict {
        _ if fault.effect.starts_with("error") && !log.contains("(INJECTED)") => Ok("not reached"),
        Ok(outcome) if is_harmless && !allowed.contains(&outcome) => {
            Err(format!("{outcome}, but the fault is harmless"))
        }
        verdict => verdict,
    }
}

fn report(results: &[(&str, Fault, Verdict)]) {
    let mut table = String::from("workload\tcall\teffect\toccurrence\toutcome\n");
    let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for (workload, Fault { call, effect, occurrence }, verdict) in results {
        let occurrence = match occurrence {
            Occurrence::Only(n) => n.to_string(),
            Occurrence::Twice(n) => format!("{n} and {}", n + 1),
            Occurrence::From(_) => "every".into(),
        };
        let outcome = verdict.as_ref().map_or_else(|reason| reason.replace('\n', "; "), |&o| o.to_owned());
        let line = format!("{workload}\t{call}\t{effect}\t{occurrence}\t{outcome}");
        writeln!(table, "{line}").unwrap();
        *sums.entry(verdict.as_ref().map_or("VIOLATION", |&outcome| outcome)).or_default() += 1;
        violations.extend(verdict.is_err().then_some(line));
    }
    let path = env!("CARGO_TARGET_TMPDIR").to_owned() + "/../faults.tsv";
    fs::write(&path, table).unwrap();
    println!("{} faults: {sums:?}", results.len());
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
