//! `echo-server` at its limits of connections, descriptors and time. Open connections keep working,
//! pending ones are served later, and waiting uses no CPU time.

#![cfg(target_os = "linux")] // it needs prlimit(2) and /proc
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs;
use std::io::{Read, Write};
use std::mem;
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, Lines, Process, Scratch, Server, assert_one_line, collect, eventually, has_descriptors, ping,
    pipe, send_until_stalled,
};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

#[test]
fn ten_thousand_idle_connections_use_little_memory_and_no_cpu() {
    let server = Server::start(&[]);
    // Test and server need a descriptor per connection. If the machine allows fewer, use fewer.
    let allowed = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = 10_000.min(allowed - 100);
    ping(&mut server.connect(), b"the first connection allocates the buffers");
    let before = server.process.resident();
    let mut streams: Vec<_> = (0..count).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| ping(stream, b"x"));
    let grown = server.process.resident().saturating_sub(before) * 1024;
    assert!(grown / count < 600, "{} bytes for each connection", grown / count);
    server.process.comes_to_rest();
    let before = server.process.activity();
    thread::sleep(5 * A_WHILE); // the thing under test: an idle server
    assert_eq!(server.process.activity(), before);
    assert_eq!(server.open_connections(), count);
}

#[test]
fn five_thousand_closed_connections_leak_nothing() {
    if !has_descriptors(600) {
        return;
    }
    let server = Server::start(&[]);
    let round = || {
        let mut streams: Vec<_> = (0..500).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(|stream| ping(stream, b"hello"));
    };
    round();
    eventually("the first 500 are closed", || server.open_connections() == 0);
    let (descriptors, memory) = (server.process.descriptors(), server.process.resident());
    (0..9).for_each(|_| round());
    eventually("all are closed", || server.open_connections() == 0);
    assert_eq!(server.process.descriptors(), descriptors);
    let grown = server.process.resident().saturating_sub(memory);
    assert!(grown < 512, "{grown} KiB more than after the first 500");
    assert_eq!(server.statistics()[..3], [0, 5000, 0]);
}

#[test]
fn idle_timeout_closes_only_silent_and_stalled_peers() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut silent = server.connect();
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    let mut one_sided = server.connect();
    let began = Instant::now();
    // A transfer in only one direction is not idle.
    let mut reader = one_sided.try_clone().unwrap();
    let drain = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    while began.elapsed() < Duration::from_millis(2500) {
        one_sided.write_all(b"x").unwrap();
        thread::sleep(Duration::from_millis(50)); // the thing under test: a slow but steady peer
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    eventually("the stalled peer's connection is closed", || server.open_connections() == 1);
    one_sided.shutdown(Shutdown::Write).unwrap();
    drain.join().unwrap().unwrap();
}

#[test]
fn limit_of_connections_is_logged_once_and_shown_while_it_is_reached() {
    let server = Server::start(&["-v", "-c2"]);
    let shown = || {
        server.process.signal(Signal::USR1);
        let lines = std::iter::repeat_with(|| server.err.next());
        let mut lines = lines.inspect(|line| assert!(!line.contains("the limit of"), "{line}"));
        let statistics = lines.find(|line| line.contains(" accepted, ")).unwrap();
        statistics.split(',').next().unwrap().to_owned()
    };
    let mut first = server.connect();
    ping(&mut first, b"1");
    assert_eq!(shown(), "echo-server: connections: 1 open");
    ping(&mut server.connect(), b"2"); // and closes it
    let line = server.err.next_with("limit");
    assert_eq!(
        line,
        "echo-server: the limit of open connections is reached: 2; others wait until one closes"
    );
    let mut third = server.connect();
    ping(&mut third, b"3");
    assert_eq!(shown(), "echo-server: connections: 2 open (the limit)");
    drop(third);
    eventually("a connection is closed", || shown() == "echo-server: connections: 1 open");
    drop(first);
    eventually("all are closed", || shown() == "echo-server: connections: 0 open");
    let _peers = [server.connect(), server.connect()];
    server.err.next_with("the limit of open connections is reached");
}

#[test]
fn peer_beyond_the_limit_is_served_after_a_close() {
    let server = Server::start(&["-c2"]);
    let mut first = server.connect();
    let mut second = server.connect();
    ping(&mut first, b"1");
    ping(&mut second, b"2");
    let mut third = server.connect();
    third.write_all(b"3").unwrap();
    server.process.comes_to_rest();
    third.set_nonblocking(true).unwrap();
    assert!(third.read(&mut [0]).is_err(), "the third peer has to wait");
    third.set_nonblocking(false).unwrap();
    drop(first);
    third.read_exact(&mut [0]).unwrap();
}

#[test]
fn warning_about_fd_exhaustion_follows_the_lines_of_accepted_connections() {
    let server = Server::start(&["-v"]);
    let limit = server.process.next_descriptor() + 3;
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    server.process.signal(Signal::STOP); // so that one turn accepts them
    prlimit(Some(server.process.pid()), Resource::Nofile, limit).unwrap();
    let _peers: Vec<_> = (0..4).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    let mut accepted = 0;
    let warning = loop {
        match server.err.next() {
            line if line.contains(" from 127.0.0.1:") => accepted += 1,
            line => break line,
        }
    };
    assert!(accepted > 0 && warning.contains(&format!("({accepted} open); ")), "{accepted}, {warning}");
}

#[test]
fn fd_exhaustion_delays_only_pending_connections() {
    let server = Server::start(&[]);
    let mut witness = server.connect();
    ping(&mut witness, b"x");
    let limit = server.process.next_descriptor() + 3;
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    prlimit(Some(server.process.pid()), Resource::Nofile, limit).unwrap();
    let mut peers: Vec<_> = (0..10).map(|_| server.connect()).collect();
    server.err.next_with("cannot accept more connections: Too many open files");
    ping(&mut witness, b"still here");
    let before = server.process.activity().0;
    thread::sleep(A_WHILE); // the thing under test: the server does not spin
    assert!(server.process.activity().0 - before <= 2);
    // Each close makes room for one pending connection at once.
    while !peers.is_empty() {
        let mut served = peers.remove(0);
        let began = Instant::now();
        ping(&mut served, b"at last");
        assert!(began.elapsed() < Duration::from_millis(900), "accepting waited for the timer");
    }
    let lines = server.err.so_far();
    assert!(!lines.iter().any(|line| line.contains("cannot accept")), "more than one warning: {lines:?}");
}

#[test]
fn accepting_resumes_soon_after_fds_are_freed_elsewhere() {
    let server = Server::start(&["-v", "-c1"]);
    let pid = server.process.pid();
    let limit = |count: u64| {
        let limit = Rlimit { current: Some(count), maximum: Some(100) };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    };
    limit(server.process.next_descriptor());
    let mut peer = server.connect();
    let _next = server.connect();
    server.err.next_with("cannot accept more connections");
    limit(100); // no connection of the server has closed
    let began = Instant::now();
    ping(&mut peer, b"at last");
    assert!(began.elapsed() < Duration::from_secs(3));
    // The next peer waits for the connection limit, which is not a shortage.
    server.err.next_with("accepting connections again");
}

#[test]
fn sock_server_keeps_one_timer_during_fd_exhaustion() {
    let mut command = common::program(common::example("sock_server"));
    let server = Server::run(command.arg("127.0.0.1:0"), 1);
    let limit = Some(server.process.next_descriptor());
    prlimit(Some(server.process.pid()), Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let _waiting = [(); 20].map(|()| {
        thread::sleep(Duration::from_millis(3)); // each connection is an event of its own
        server.connect()
    });
    let before = server.process.activity().1;
    thread::sleep(A_WHILE); // the thing under test: it retries every 100 ms
    let retries = server.process.activity().1 - before;
    assert!((1..10).contains(&retries), "{retries} retries in {A_WHILE:?}");
}

#[test]
fn fd_exhaustion_logs_one_warning() {
    let server = Server::start(&[]);
    let mut witness = server.connect();
    ping(&mut witness, b"x");
    let limit = server.process.next_descriptor() + 1;
    prlimit(
        Some(server.process.pid()),
        Resource::Nofile,
        Rlimit { current: Some(limit), maximum: Some(limit) },
    )
    .unwrap();
    // There is one spare descriptor: each new connection takes it, and each close frees it.
    let began = Instant::now();
    let mut waiting = server.connect();
    for _ in 0..200 {
        let mut served = mem::replace(&mut waiting, server.connect());
        ping(&mut served, b"x");
        ping(&mut witness, b"still here");
    }
    drop(waiting);
    let allowed = 2 + began.elapsed().as_secs() as usize;
    server.process.signal(Signal::USR1);
    let mut warnings = 0;
    loop {
        let line = server.err.next();
        warnings += usize::from(line.contains("cannot accept"));
        if line.contains(" accepted") {
            break;
        }
    }
    assert!(warnings >= 1 && warnings <= allowed, "{warnings} warnings");
}

#[test]
fn too_few_descriptors_at_the_start_are_reported_in_one_line() {
    let held = common::DeadPort::new(); // nobody listens on this port
    let server = format!("{} 127.0.0.1:0", env!("CARGO_BIN_EXE_echo-server"));
    let client = format!("{} {}", env!("CARGO_BIN_EXE_echo-client"), held.1);
    for program in [server, client] {
        let mut failed = 0;
        for limit in 4..20 {
            let (stdin, _) = pipe();
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {limit}; exec {program}")]).stdin(stdin);
            let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
            let said = Lines::of(process.child.stdout.take().unwrap()).next_or_end();
            if said.is_some_and(|line| line.starts_with("listening on")) {
                break; // these descriptors are enough
            }
            let stderr = collect(process.child.stderr.take().unwrap());
            let code = process.wait_code();
            if code == 127 {
                continue; // its shared libraries could not be loaded
            }
            assert_eq!(code, 1, "{program} with {limit} descriptors");
            let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
            assert_one_line(&stderr, &[": cannot "]);
            failed += usize::from(stderr.contains("Too many open files"));
        }
        assert!(failed > 0, "{program} never ran out of descriptors");
    }
}

#[test]
fn sockets_never_take_the_numbers_of_closed_standard_streams() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    for script in [
        format!("exec {} -vvv unix:{} <&- >&- 2>&-", env!("CARGO_BIN_EXE_echo-server"), path.display()),
        format!("exec {} --check -vvv {} >&- 2>&-", env!("CARGO_BIN_EXE_echo-client"), server.address()),
    ] {
        let (stdin, _open) = pipe();
        let process = Process::spawn(Command::new("sh").args(["-c", &script]).stdin(stdin));
        let is_busy = || path.exists() || server.open_connections() == 1;
        eventually("the program has a socket", is_busy);
        for fd in 0..3 {
            let name = fs::read_link(format!("/proc/{}/fd/{fd}", process.pid().as_raw_nonzero())).unwrap();
            assert!(!name.to_string_lossy().contains("socket:"), "{fd} is {name:?}");
            assert!(!name.to_string_lossy().contains("anon_inode:"), "{fd} is {name:?}");
        }
        drop(process);
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn slowly_reading_peer_is_not_idle_until_it_stops() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut stream = server.connect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
    send_until_stalled(&mut stream, b"x");
    let before = server.statistics();
    // Each read is so small that the kernel's send buffer stays full. So only the kernel moves
    // bytes.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(3500) {
        assert!(stream.read(&mut [0; 1 << 16]).unwrap() > 0);
        thread::sleep(Duration::from_millis(100)); // the thing under test: a slow but steady peer
    }
    assert_eq!(server.statistics()[..6], before[..6], "the server itself has moved no byte");
    eventually("the connection is closed", || server.open_connections() == 0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
