//! `--spin` makes the loop poll without sleeping for a while before it sleeps. Nothing else
//! changes.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::time::{Duration, Instant};

use common::{Server, assert_echoed, client_command, eventually, ping, run};
use echo_reactor::Reactor;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn spinning_server_uses_a_core_and_then_sleeps() {
    let server = Server::start(&["--spin", "2"]);
    let mut stream = server.connect();
    server.process.comes_to_rest();
    let (before, _) = server.process.activity();
    ping(&mut stream, b"hello");
    // Hundredths of a second: little of the two seconds, because other processes may need the rest.
    eventually("the server has used the processor", || server.process.activity().0 >= before + 5);
    server.process.comes_to_rest();
    let used = server.process.activity().0 - before;
    assert!(used <= 250, "{used} hundredths of a second for one message");
}

#[test]
fn spinning_programs_echo_every_byte() {
    let server = Server::start(&["--spin", "10ms"]);
    let bytes = common::noise(4 << 20, 81);
    let outcome = run(client_command().args(["--spin", "10ms", server.address()]), &bytes);
    assert_echoed(&outcome, &bytes);
}

#[test]
fn spinning_loop_runs_timers_and_remote_calls() {
    let mut reactor = Reactor::new().unwrap();
    reactor.set_spin(Duration::from_secs(3600));
    let began = Instant::now();
    reactor.call_later(Duration::from_millis(20), Reactor::stop);
    reactor.run().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(20) && began.elapsed() < Duration::from_secs(10));
    let remote = reactor.remote().unwrap();
    let caller = std::thread::spawn(move || remote.call(Reactor::stop).unwrap());
    reactor.run().unwrap();
    caller.join().unwrap();
    let turns = reactor.turn_count();
    assert!(!reactor.run_until(Duration::from_millis(20), |_| false).unwrap());
    assert!(reactor.turn_count() <= turns + 2, "polls without an event are not turns");
}
