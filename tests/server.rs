//! What `echo-server` promises to its peers.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, DeadPort, Lines, Process, Scratch, Server, assert_same_bytes, connect, eventually, noise, ping,
    send_until_stalled, server_command,
};
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

/// What one peer may cost at most: the high-water mark and one read.
const PER_PEER: u64 = (64 + 256) * 1024;

#[test]
fn what_is_sent_comes_back_in_order_over_tcp_and_unix_sockets() {
    let scratch = Scratch::new();
    let unix = format!("unix:{}", scratch.path("socket").display());
    let server = Server::on(&["127.0.0.1:0", "[::1]:0", &unix], &[]);
    fn echo(mut stream: impl Read + Send + 'static, mut writer: impl Write + Send + 'static) {
        let bytes = noise(16 << 20, 11);
        let sent = bytes.clone();
        let thread = thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_same_bytes(&echo, &bytes);
        thread.join().unwrap();
    }
    for address in &server.addresses[..2] {
        let stream = connect(address);
        echo(stream.try_clone().unwrap(), stream);
    }
    let stream = UnixStream::connect(scratch.path("socket")).unwrap();
    echo(stream.try_clone().unwrap(), stream);
}

#[test]
fn a_peer_that_half_closes_gets_every_byte_and_then_the_end() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let bytes = noise(1 << 20, 12);
    let reader = common::collect(stream.try_clone().unwrap());
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_same_bytes(&reader.recv_timeout(common::PATIENCE).unwrap(), &bytes);
    eventually("the connection is closed", || server.open_connections() == 0);
}

#[test]
fn a_half_close_at_once_and_one_with_the_data_are_answered_too() {
    let server = Server::start(&[]);
    let mut nothing = server.connect();
    nothing.shutdown(Shutdown::Write).unwrap();
    assert_eq!(nothing.read(&mut [0]).unwrap(), 0);
    for _ in 0..100 {
        let mut stream = server.connect();
        stream.write_all(b"data and FIN").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut echo = Vec::new();
        stream.read_to_end(&mut echo).unwrap();
        assert_eq!(echo, b"data and FIN");
    }
}

#[test]
fn peers_that_never_read_cost_a_bounded_amount_and_hold_up_nobody() {
    let server = Server::start(&[]);
    let before = server.process.resident();
    let stalled: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = server.connect();
            // A small buffer at the peer's end, so that the stall comes soon.
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&[0; 1 << 16]);
            stream
        })
        .collect();
    let mut other = server.connect();
    let chunk = vec![0; 1 << 18];
    let mut quiet_rounds = 0;
    while quiet_rounds < 20 {
        let sent: usize = stalled.iter().map(|mut stream| stream.write(&chunk).unwrap_or(0)).sum();
        quiet_rounds = if sent == 0 { quiet_rounds + 1 } else { 0 };
        let began = Instant::now();
        ping(&mut other, b"am I held up?");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    let buffered = server.statistics()[5];
    assert!(buffered > 0 && buffered <= 50 * PER_PEER, "{buffered} bytes are buffered");
    let grown = server.process.resident() - before;
    assert!(grown * 1024 <= 50 * 2 * PER_PEER, "{grown} KiB of memory for 50 stalled peers");
}

#[test]
fn a_stalled_peer_that_reads_at_last_gets_everything() {
    let server = Server::start(&["--buffer", "4K"]);
    let mut stream = server.connect();
    let sent = send_until_stalled(&mut stream, b"x");
    stream.shutdown(Shutdown::Write).unwrap();
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).unwrap();
    assert_eq!(echo.len(), sent);
}

#[test]
fn a_reset_or_urgent_data_or_a_flood_harms_nobody_else() {
    let server = Server::start(&[]);
    let mut witness = server.connect();
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.write_all(b"never read").unwrap();
        common::reset_on_close(&stream);
        drop(stream);
        ping(&mut witness, b"still here");
    }
    let mut stream = server.connect();
    stream.write_all(b"before").unwrap();
    send(&stream, b"!", SendFlags::OOB).unwrap();
    stream.write_all(b"after").unwrap();
    let mut echo = [0; 12];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"before!after");

    let mut flooder = server.connect();
    let mut drain = flooder.try_clone().unwrap();
    let end = flooder.try_clone().unwrap();
    let flood = thread::spawn(move || while flooder.write_all(&[7; 1 << 16]).is_ok() {});
    let drained = thread::spawn(move || while matches!(drain.read(&mut [0; 1 << 16]), Ok(1..)) {});
    for _ in 0..100 {
        let began = Instant::now();
        ping(&mut witness, b"still here");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    end.shutdown(Shutdown::Both).unwrap();
    flood.join().unwrap();
    drained.join().unwrap();
    eventually("only the witness and the urgent one are left", || server.open_connections() == 2);
}

#[test]
fn a_thousand_idle_connections_cost_no_cpu_and_no_wakeup() {
    let server = Server::start(&[]);
    let mut streams: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| ping(stream, b"x"));
    server.process.falls_asleep();
    let before = server.process.activity();
    thread::sleep(5 * A_WHILE); // this is the thing under test: nothing happens
    assert_eq!(server.process.activity(), before);
    assert_eq!(server.open_connections(), 1000);
}

#[test]
fn after_five_thousand_connections_descriptors_and_memory_are_back() {
    let server = Server::start(&[]);
    let round = || {
        let mut streams: Vec<_> = (0..500).map(|_| server.connect()).collect();
        streams.iter_mut().for_each(|stream| ping(stream, b"hello"));
    };
    round();
    eventually("the first are gone", || server.open_connections() == 0);
    let (descriptors, memory) = (server.process.descriptors(), server.process.resident());
    (0..9).for_each(|_| round());
    eventually("all are gone", || server.open_connections() == 0);
    assert_eq!(server.process.descriptors(), descriptors);
    let grown = server.process.resident().saturating_sub(memory);
    assert!(grown < 512, "{grown} KiB more than after the first 500");
    assert_eq!(server.statistics()[..3], [0, 5000, 0]);
}

#[test]
fn the_idle_timeout_ends_the_silent_and_the_stalled_and_not_the_busy() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut silent = server.connect();
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    let mut one_sided = server.connect();
    let began = Instant::now();
    // Bytes that move one way only are bytes that move.
    let mut reader = one_sided.try_clone().unwrap();
    let drain = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    while began.elapsed() < Duration::from_millis(2500) {
        one_sided.write_all(b"x").unwrap();
        thread::sleep(Duration::from_millis(50)); // the thing under test: a slow but steady peer
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    eventually("the stalled one is gone", || server.open_connections() == 1);
    one_sided.shutdown(Shutdown::Write).unwrap();
    drain.join().unwrap().unwrap();
}

#[test]
fn at_the_limit_later_peers_wait_and_are_served_when_one_goes() {
    let server = Server::start(&["-c2"]);
    let mut first = server.connect();
    let mut second = server.connect();
    ping(&mut first, b"1");
    ping(&mut second, b"2");
    let mut third = server.connect();
    third.write_all(b"3").unwrap();
    third.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(third.read(&mut [0]).is_err(), "it has to wait");
    drop(first);
    third.set_read_timeout(Some(common::PATIENCE)).unwrap();
    third.read_exact(&mut [0]).unwrap();
}

#[test]
fn when_descriptors_run_out_the_open_go_on_and_the_waiting_are_served_later() {
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
    thread::sleep(A_WHILE); // the thing under test: it does not spin
    assert!(server.process.activity().0 - before <= 2);
    // Each one that closes makes room for one that waits, at once.
    while !peers.is_empty() {
        let mut served = peers.remove(0);
        let began = Instant::now();
        ping(&mut served, b"at last");
        assert!(began.elapsed() < Duration::from_millis(900), "it waited for the timer");
    }
    let lines = server.err.so_far();
    assert!(!lines.iter().any(|line| line.contains("cannot accept")), "more than one warning: {lines:?}");
}

#[test]
fn when_descriptors_are_freed_elsewhere_accepting_resumes_within_a_second_or_so() {
    let server = Server::start(&[]);
    let pid = server.process.pid();
    let limit = |count: u64| {
        let limit = Rlimit { current: Some(count), maximum: Some(1000) };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    };
    limit(server.process.next_descriptor());
    let mut peer = server.connect();
    server.err.next_with("cannot accept more connections");
    limit(100); // no connection of its own has closed
    let began = Instant::now();
    ping(&mut peer, b"at last");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn statistics_are_one_line_of_plain_integers_whatever_the_log_level() {
    let server = Server::start(&["-q"]);
    let mut stream = server.connect();
    ping(&mut stream, &[7; 1000]);
    server.process.signal(Signal::USR1);
    let line = server.err.next();
    let expected =
        "connections: 1 open, 1 accepted, 0 refused; bytes: 1000 in, 1000 out, 0 buffered; turns: ";
    let (_, rest) = line.split_once(expected).unwrap_or_else(|| panic!("{line}"));
    rest.parse::<u64>().unwrap();
    drop(stream);
    eventually("closed connections count too", || server.statistics()[..6] == [0, 1, 0, 1000, 1000, 0]);
}

// ---- shutdown

#[test]
fn at_sigterm_a_slow_peer_gets_every_byte_and_an_orderly_end() {
    let mut server = Server::start(&["--grace", "20", "--buffer", "1M"]);
    let mut stream = server.connect();
    let sent = send_until_stalled(&mut stream, b"x");
    let statistics = server.statistics();
    let (received, sent_back) = (statistics[3], statistics[4]);
    assert!(received > sent_back, "it owes something");
    server.process.signal(Signal::TERM);
    eventually("it stopped listening", || TcpStream::connect(server.address()).is_err());
    // Slowly, and sending the while: what comes now is discarded, and causes no reset.
    let mut echo = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => break,
            count => echo.extend_from_slice(&chunk[..count]),
        }
        let _ = send(&stream, b"more", SendFlags::DONTWAIT);
    }
    assert_eq!(echo.len() as u64, received, "of {sent} bytes sent");
    assert!(echo.iter().all(|&byte| byte == b'x'));
    drop(stream);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn a_stalled_peer_holds_shutdown_up_for_the_grace_time_and_no_longer() {
    let mut server = Server::start(&["--grace", "0.5"]);
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    let began = Instant::now();
    server.process.signal(Signal::INT);
    assert_eq!(server.process.wait_code(), 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn without_connections_or_without_grace_it_ends_at_once() {
    let mut server = Server::start(&["-g", "60"]);
    let began = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    let mut server = Server::start(&["-g0"]);
    let mut stalled = server.connect();
    send_until_stalled(&mut stalled, b"x");
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_second_signal_ends_it_at_once_and_removes_the_socket_file() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut server = Server::on(&[&format!("unix:{}", path.display())], &["--grace", "60"]);
    let stream = UnixStream::connect(&path).unwrap();
    (&stream).write_all(b"x").unwrap();
    (&stream).read_exact(&mut [0]).unwrap();
    server.process.signal(Signal::TERM);
    eventually("it stopped listening", || UnixStream::connect(&path).is_err());
    server.process.signal(Signal::INT);
    assert_eq!(server.process.wait_code(), 128 + 2);
    assert!(!path.exists());
}

#[test]
fn a_server_that_was_killed_can_be_started_again_on_its_addresses() {
    let scratch = Scratch::new();
    let unix = format!("unix:{}", scratch.path("socket").display());
    let held = DeadPort::new();
    let tcp = held.1.to_string();
    let mut server = Server::on(&[&tcp, &unix], &["--reuse-port"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    server.process.signal(Signal::KILL);
    server.process.wait();
    let server = Server::on(&[&tcp, &unix], &["--reuse-port"]);
    ping(&mut server.connect(), b"x");
}

// ---- what it says

#[test]
fn a_stdout_or_stderr_that_is_closed_full_or_gone_does_not_stop_it() {
    let bin = env!("CARGO_BIN_EXE_echo-server");
    let scratch = Scratch::new();
    for (index, redirection) in
        ["1>&- 2>&-", "1>/dev/full 2>/dev/full", "1>&2 2>&-", "</dev/null 0<&- 1>&- 2>&-"].iter().enumerate()
    {
        let path = scratch.path(&index.to_string());
        let script = format!("exec {bin} -vvv unix:{} {redirection}", path.display());
        let mut process = Process::spawn(std::process::Command::new("sh").args(["-c", &script]));
        eventually("it listens", || UnixStream::connect(&path).is_ok());
        let mut stream = UnixStream::connect(&path).unwrap();
        ping(&mut stream, b"no log line in here");
        drop(stream);
        process.signal(Signal::TERM);
        assert_eq!(process.wait_code(), 0, "{redirection}");
    }
}

#[test]
fn a_log_that_nobody_reads_never_blocks_it() {
    let mut command = server_command();
    command.args(["-vvv", "127.0.0.1:0"]).stdout(std::process::Stdio::piped());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // The pipe is full from the start, and blocking.
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'\n'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    command.stderr(writer);
    let mut process = Process::spawn(&mut command);
    let out = Lines::of(process.child.stdout.take().unwrap());
    let line = out.next();
    let address = line.strip_prefix("listening on ").unwrap();
    for _ in 0..100 {
        ping(&mut connect(address), b"x");
    }
    drop(reader); // and then its reader is gone
    for _ in 0..100 {
        ping(&mut connect(address), b"x");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 0);
}
