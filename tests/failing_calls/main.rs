//! Each system call of the library may be short, be interrupted or fail. Then the bytes are
//! complete and in order, or the error is reported exactly once.
//!
//! This test replaces functions of the C library (`calls.rs`), so it needs nothing but Rust. The
//! test `faults` does the same to the two programs with `strace`, which can make a call fail, but
//! cannot make it short.
//!
//! `cargo test --test failing_calls -- --nocapture` prints the table.
//!
//! Not injected: an `EAGAIN` after which no event follows although the descriptor is ready. The
//! kernel never does that, and an edge-triggered loop would wait forever.

#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod scenarios;
mod stdio;

use std::collections::BTreeMap;
use std::fs;
use std::io;

use libc::*;

use calls::{Call, Counts, Effect, Fault, Length, Occurrence, with_faults};
use common::Scratch;
use scenarios::{DATA_SIZE, Ending, PIECE, SCENARIOS, Scenario};

/// The errors that each call may return, from its manual page. An error that is harmless changes
/// nothing: the call is repeated, or is not needed.
const ERRORS: &[(Call, &[c_int])] = &[
    (Call::accept4, &[EINTR, ECONNABORTED, EPERM, EPROTO, EMFILE, ENFILE, ENOBUFS, ENOMEM, EBADF]),
    (Call::bind, &[EADDRINUSE, EACCES, ENOMEM]),
    (Call::connect, &[ECONNREFUSED, ENETUNREACH, ETIMEDOUT, EADDRNOTAVAIL, EACCES]),
    (Call::epoll_create1, &[EMFILE, ENFILE, ENOMEM]),
    (Call::epoll_ctl, &[ENOMEM, ENOSPC]),
    (Call::epoll_wait, &[EINTR, EBADF]),
    (Call::eventfd, &[EMFILE, ENFILE, ENOMEM]),
    (Call::fcntl, &[EMFILE, EINVAL]),
    (Call::flock, &[EINTR, ENOLCK]),
    (Call::getpeername, &[ENOBUFS]),
    (Call::getsockname, &[ENOBUFS]),
    (Call::getsockopt, &[ENOBUFS]),
    (Call::listen, &[EADDRINUSE, EACCES]),
    (Call::open64, &[EMFILE, ENFILE, EACCES, ENOENT]),
    (Call::poll, &[EINTR, ENOMEM]),
    (Call::preadv2, &[EINTR, EIO, EOPNOTSUPP]),
    (Call::pwritev2, &[EINTR, EIO, ENOSPC, EPIPE, EOPNOTSUPP]),
    (Call::read, &[EINTR, EIO]),
    (Call::recv, &[EINTR, ECONNRESET, ETIMEDOUT, ENOMEM, EHOSTUNREACH]),
    (Call::send, &[EINTR, ECONNRESET, EPIPE, ENOBUFS, ETIMEDOUT, EHOSTUNREACH]),
    (Call::setsockopt, &[ENOPROTOOPT, ENOBUFS]),
    (Call::shutdown, &[ENOTCONN, ENOBUFS]),
    (Call::socket, &[EMFILE, ENFILE, ENOBUFS, EACCES]),
    (Call::write, &[EINTR, EIO, ENOSPC, EPIPE]),
];

const READS: [Call; 3] = [Call::read, Call::recv, Call::preadv2];
const WRITES: [Call; 3] = [Call::write, Call::send, Call::pwritev2];

/// The kernel shortens a read of a TCP socket, or a write to any socket, only if nothing is left to
/// do until the next event.
fn effects(call: Call, scenario: &Scenario) -> Vec<Effect> {
    let errors = ERRORS.iter().find(|known| known.0 == call).map_or(&[][..], |known| known.1);
    // On a Unix socket of Linux, these calls do not return these errors.
    let only_tcp = [(Call::shutdown, ENOTCONN), (Call::listen, EADDRINUSE)];
    let is_possible = |error: &&c_int| scenario.is_tcp || !only_tcp.contains(&(call, **error));
    let mut effects: Vec<_> = errors.iter().filter(is_possible).map(|&error| Effect::Error(error)).collect();
    if READS.contains(&call) || WRITES.contains(&call) {
        let is_reported = call == Call::send || call == Call::recv && scenario.is_tcp;
        let lengths = (1..=8).map(Length::Bytes).chain([Length::Half, Length::AllButOne]);
        effects.extend(lengths.map(|length| Effect::Short(length, is_reported)));
        effects.push(Effect::WouldBlock);
    }
    effects
}

/// Whether a call may have this effect each time. One that is interrupted or would block each time
/// never does anything, and a listener whose `accept` fails each time tries again each second.
fn may_repeat(call: Call, effect: Effect) -> bool {
    match effect {
        Effect::WouldBlock => false,
        Effect::Error(error) => error != EINTR && (call != Call::accept4 || error == EBADF),
        Effect::Short(length, _) => matches!(length, Length::Bytes(1) | Length::Half | Length::AllButOne),
    }
}

/// Every fault of a scenario: each call that it makes without a fault, with each effect, at each of
/// its first six occurrences and at all of them. A call that is interrupted or would block may be
/// so twice in a row.
fn faults(scenario: &Scenario, usual: &Counts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for &call in Call::ALL {
        for effect in effects(call, scenario) {
            let first = 1..=usual.of(call).min(6);
            let is_transient = [Effect::Error(EINTR), Effect::WouldBlock].contains(&effect);
            let two = first.clone().filter(|_| is_transient).map(Occurrence::Two);
            let every = (usual.of(call) > 0 && may_repeat(call, effect)).then_some(Occurrence::Every);
            let only = first.map(Occurrence::Only);
            faults.extend(only.chain(two).chain(every).map(|occurrence| Fault { call, effect, occurrence }));
        }
    }
    faults
}

#[test]
fn short_or_failing_call_loses_no_byte_or_is_reported_once() {
    let mut outcomes: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let mut violations = Vec::new();
    let scratch = Scratch::new();
    for scenario in SCENARIOS {
        let (ending, usual) = run(scenario, &scratch, None);
        assert!(matches!(ending, Ok(Ending::Complete)), "{}, without a fault: {ending:?}", scenario.name);
        // A short read of a TCP socket shows that nothing is left, so no read fails with `EAGAIN`.
        let reads = usual.of(Call::recv);
        assert!(!scenario.is_tcp || reads <= DATA_SIZE / PIECE + 1, "{}: {reads} reads", scenario.name);
        for fault in faults(scenario, &usual) {
            match inject(scenario, &scratch, fault, &usual) {
                Ok(outcome) => *outcomes.entry((format!("{:?}", fault.call), outcome)).or_default() += 1,
                Err(reason) => violations.push(format!("{}: {fault:?}: {reason}", scenario.name)),
            }
            assert!(violations.len() < 10, "many violations:\n{}", violations.join("\n"));
        }
    }
    let total: usize = outcomes.values().sum();
    for ((call, outcome), count) in &outcomes {
        println!("{call:14} {outcome:28} {count:5}");
    }
    println!("{total} faults in {} scenarios", SCENARIOS.len());
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    assert!(total > 4000, "only {total} faults");
}

/// Runs a scenario, and also checks what it leaves behind.
fn run(scenario: &Scenario, scratch: &Scratch, fault: Option<Fault>) -> (Result<Ending, String>, Counts) {
    let before = open_descriptors();
    let [first, second] = scenario.always;
    let (result, counts) = with_faults([fault, first, second], || (scenario.run)(scenario, scratch));
    let result = result.unwrap_or_else(|_| Err("a panic".into()));
    let leaked = open_descriptors().saturating_sub(before);
    let has_socket_file = fs::remove_file(scratch.path("socket")).is_ok();
    let judged = match result {
        _ if leaked > 0 => Err(format!("{leaked} descriptors leak; {result:?}")),
        _ if has_socket_file && scenario.name.starts_with("server") => {
            Err(format!("the socket file is left behind; {result:?}"))
        }
        result => result,
    };
    (judged, counts)
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs a scenario with a fault. Returns the outcome for the table, or the rule that was broken.
fn inject(
    scenario: &Scenario,
    scratch: &Scratch,
    fault: Fault,
    usual: &Counts,
) -> Result<&'static str, String> {
    let (ending, counts) = run(scenario, scratch, Some(fault));
    let limit = match fault.occurrence {
        Occurrence::Only(_) | Occurrence::Two(_) => 3 * usual.total() + 100,
        Occurrence::Every => 3 * usual.total() + 10 * DATA_SIZE,
    };
    let error = match fault.effect {
        Effect::Error(error) => Some(error).filter(|&error| error != EINTR),
        _ => None,
    };
    match (ending?, error) {
        _ if counts.injected == 0 => Ok("not reached"),
        _ if counts.total() > limit => Err(format!("a busy loop: {} calls", counts.total())),
        (Ending::Complete, Some(error)) if is_fatal(fault.call, error) => Err("the error is lost".into()),
        (Ending::Complete, _) => Ok("complete"),
        (other, None) => Err(format!("{other:?}, but the fault is harmless")),
        (Ending::Reported(reported), Some(error)) if is_same(&reported, error, fault.call) => {
            Ok("reported once")
        }
        (Ending::Refused, Some(_)) => Ok("one connection is refused"),
        (Ending::Stopped, Some(EBADF)) => Ok("the listener stops"),
        (other, Some(_)) => Err(format!("{other:?}")),
    }
}

/// Whether the bytes cannot be complete, or an option is missing, after this error.
fn is_fatal(call: Call, error: c_int) -> bool {
    let transfers = READS.contains(&call) || WRITES.contains(&call) || call == Call::shutdown;
    // `poll` and another call do the same as one that is not supported.
    transfers && error != EOPNOTSUPP || call == Call::setsockopt && error != ENOPROTOOPT
}

/// Whether this is the injected error, or one that wraps it.
fn is_same(reported: &io::Error, error: c_int, call: Call) -> bool {
    // A connection that was established and is not connected any more was reset.
    let error = if (call, error) == (Call::shutdown, ENOTCONN) { ECONNRESET } else { error };
    match reported.raw_os_error() {
        Some(raw) => raw == error,
        None => reported.kind() == io::Error::from_raw_os_error(error).kind(),
    }
}
