//! `echo-client` transfers every byte in bounded memory, and its exit status shows every failure.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, Outcome, Process, Server, assert_echoed, assert_one_line, assert_same_bytes, client_command,
    client_reading, collect, eventually, feed, noise, outcome, pipe, reset_on_close, run, serve_once,
};
use rustix::process::Signal;

fn client(address: &str, input: &[u8]) -> Outcome {
    run(client_command().arg(address), input)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn pipe_is_echoed_completely_in_bounded_memory() {
    let server = Server::start(&[]);
    let bytes = noise(64 << 20, 21);
    let mut process = client_reading(server.address(), Stdio::piped());
    feed(process.child.stdin.take().unwrap(), &bytes);
    let echo = collect(process.child.stdout.take().unwrap());
    let mut peak = 0;
    eventually("the client exits", || {
        let running = process.child.try_wait().unwrap().is_none();
        if running {
            // The client may have just exited. Then the file exists but has no such line.
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid().as_raw_nonzero()));
            let line =
                status.ok().and_then(|s| s.lines().find(|l| l.starts_with("VmHWM")).map(str::to_owned));
            peak = line.map_or(peak, |line| line.split_whitespace().nth(1).unwrap().parse().unwrap());
        }
        !running
    });
    assert_eq!(process.wait_code(), 0);
    assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);
    assert!(peak > 0 && peak < 16 << 10, "the client took {peak} KiB");
    let peak = server.process.peak_resident();
    assert!(peak < 16 << 10, "the server took {peak} KiB");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn slow_stdout_pauses_stdin_and_loses_nothing() {
    let server = Server::start(&[]);
    let (stdin, writer) = pipe();
    let process = client_reading(server.address(), stdin);
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    let bytes = noise(64 << 20, 24);
    let mut sent = 0;
    let mut writer = File::from(writer);
    let mut moved = Instant::now();
    while sent < bytes.len() && moved.elapsed() < 2 * A_WHILE {
        match writer.write(&bytes[sent..bytes.len().min(sent + 65536)]) {
            Ok(count) => {
                sent += count;
                moved = Instant::now();
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    assert!(sent < bytes.len(), "the client read all of stdin although nobody read stdout");
    assert!(process.resident() < 16 << 10, "{} KiB", process.resident());
    drop(writer);
    assert_echoed(&outcome(process), &bytes[..sent]);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn idle_client_uses_no_cpu_and_never_wakes() {
    let server = Server::start(&[]);
    let mut terminal = common::Terminal::new();
    let process = Process::spawn(
        client_command()
            .arg(server.address())
            .stdin(terminal.stdio())
            .stdout(terminal.stdio())
            .stderr(Stdio::null()),
    );
    terminal.see("> ");
    process.comes_to_rest();
    let before = process.activity();
    thread::sleep(3 * A_WHILE); // the thing under test: an idle client
    assert_eq!(process.activity(), before);
}

#[test]
fn early_close_is_a_failure_that_counts_the_missing_bytes() {
    let (address, server) = serve_once(|mut stream| {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap(); // the client has seen the end of its input
        stream.write_all(&got[..4]).unwrap();
    });
    let outcome = client(&address, b"0123456789");
    server.join().unwrap();
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, &b"0123"[..]));
    assert_one_line(&outcome.stderr, &["echo-client: ", &address, "closed the connection; 6 of 10 bytes"]);
}

#[test]
fn server_close_ends_the_client_while_stdin_is_silent() {
    let (address, server) = serve_once(|mut stream| stream.write_all(b"welcome, and goodbye\n").unwrap());
    let process = client_reading(&address, Stdio::piped());
    // Stdin stays open, because `outcome` does not close it.
    let mut process = process;
    let stdin = process.child.stdin.take();
    let outcome = outcome(process);
    server.join().unwrap();
    drop(stdin);
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, &b"welcome, and goodbye\n"[..]));
    let parts = [&address, "closed the connection before the end of the input; nothing was sent"];
    assert_one_line(&outcome.stderr, &parts);
}

#[test]
fn killed_server_is_a_failure_even_after_the_whole_echo() {
    let server = Server::start(&[]);
    let mut process = client_reading(server.address(), Stdio::piped());
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let mut echo = [0; 6];
    process.child.stdout.as_mut().unwrap().read_exact(&mut echo).unwrap();
    server.process.signal(Signal::KILL);
    let outcome = outcome(process);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &[server.address(), "the connection", "; 6 bytes sent, 6 received"]);
}

#[test]
fn client_closes_without_reset_when_the_server_shuts_down() {
    // Once while the client is silent, and once during a transfer that the server no longer reads.
    for input in [Stdio::piped(), File::open("/dev/zero").unwrap().into()] {
        let mut server = Server::start(&["-v"]);
        let mut process = client_reading(server.address(), input);
        let _stdin = process.child.stdin.take(); // stays open
        server.err.next_with(" from ");
        server.process.signal(Signal::TERM);
        let outcome = outcome(process);
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &["closed the connection before the end of the input"]);
        let end = server.err.next_with(" ended after ");
        assert!(end.contains(": closed"), "the server saw a reset: {end}");
        assert_eq!(server.process.wait_code(), 0);
    }
}

#[test]
fn client_exits_if_a_server_half_closes_and_never_reads() {
    let (address, server) = serve_once(|stream| {
        eventually("all buffers are full", || {
            let queued = rustix::io::ioctl_fionread(&stream).unwrap();
            thread::sleep(A_WHILE / 10); // the thing under test: nothing more arrives
            queued > 0 && rustix::io::ioctl_fionread(&stream).unwrap() == queued
        });
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream // stays open and is not read
    });
    let process = client_reading(&address, File::open("/dev/zero").unwrap());
    let outcome = outcome(process);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &[&address, "closed the connection before the end of the input"]);
    drop(server.join().unwrap());
}

#[test]
fn reset_is_reported_and_received_bytes_are_written() {
    let (address, server) = serve_once(|mut stream| {
        let mut got = [0; 10];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got[..4]).unwrap();
        stream
    });
    let (stdin, writer) = pipe();
    let mut process = client_reading(&address, stdin);
    let mut stdout = process.child.stdout.take().unwrap();
    File::from(writer.try_clone().unwrap()).write_all(b"0123456789").unwrap();
    let mut got = [0; 4];
    stdout.read_exact(&mut got).unwrap();
    reset_on_close(&server.join().unwrap()); // dropping the stream closes it
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 1);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["lost the connection", "Connection reset by peer", "6 of 10 bytes"]);
}

#[test]
fn surplus_bytes_are_written_and_exit_is_0() {
    let (address, _server) = serve_once(|mut stream| {
        let mut got = Vec::new();
        stream.write_all(b"hello, who is there? ").unwrap();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&got).unwrap();
    });
    assert_echoed(&client(&address, b"me"), b"hello, who is there? me");
}

#[test]
fn timeout_ends_the_client_when_no_byte_moves() {
    let (address, server) = serve_once(|mut stream| {
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream // stays open
    });
    let outcome = run(client_command().args(["-w", "0.3", &address]), b"hello");
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["timed out: no data to or from", "300ms", "5 of 5 bytes"]);
    drop(server.join().unwrap());
}

#[test]
fn server_that_does_not_close_after_the_whole_echo_is_reported() {
    for (option, is_reset) in [("-4", false), ("-4", true), ("-r", false), ("-r", true)] {
        let (address, server) = serve_once(move |mut stream| {
            let mut got = [0; 5];
            stream.read_exact(&mut got).unwrap();
            stream.write_all(&got).unwrap();
            assert_eq!(stream.read(&mut got).unwrap(), 0);
            if is_reset {
                reset_on_close(&stream);
            }
            (!is_reset).then_some(stream) // stays open
        });
        let mut command = client_command();
        command.args([option, "-w", "0.8", &address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command.stderr(Stdio::piped()));
        process.child.stdin.as_ref().unwrap().write_all(b"hello").unwrap();
        process.child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        drop(process.child.stdin.take());
        let outcome = outcome(process);
        let (code, level) = if option == "-r" { (0, "warning: ") } else { (1, "echo-client: ") };
        assert_eq!(outcome.code, code, "{option}: {}", outcome.stderr);
        let why = if is_reset { "Connection reset" } else { "did not close the connection within 800ms" };
        assert_one_line(&outcome.stderr, &[level, &address, why, "; 5 bytes sent, 5 received"]);
        drop(server.join().unwrap());
    }
}

#[test]
fn connect_timeout_ends_an_unanswered_connect() {
    // A listener with a full backlog drops the next SYN.
    let queue = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&queue, 0).unwrap();
    let address = queue.local_addr().unwrap().to_string();
    let _waiting: Vec<_> =
        (0..3).map(|_| mio::net::TcpStream::connect(address.parse().unwrap()).unwrap()).collect();
    let outcome = run(client_command().args(["--connect-timeout", "0.3", &address]), b"");
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["cannot connect to", &address, "timed out"]);
}

#[test]
fn signal_ends_the_client_at_once() {
    let server = Server::start(&[]);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (stdin, _open) = pipe();
        let process = client_reading(server.address(), stdin);
        eventually("the client is connected", || server.open_connections() == 1);
        process.signal(signal);
        let outcome = outcome(process);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (code, ""));
        eventually("the connection is closed", || server.open_connections() == 0);
    }
}

#[test]
fn server_that_shut_down_reading_is_an_error() {
    let scratch = common::Scratch::new();
    let path = scratch.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.shutdown(std::net::Shutdown::Read).unwrap();
        stream // stays open
    });
    let (stdin, _open) = common::pipe();
    let mut writer = std::fs::File::from(_open);
    let mut process = common::client_reading(&format!("unix:{}", path.display()), stdin);
    let stream = server.join().unwrap();
    let _ = writer.write_all(&[7; 100]);
    let outcome = common::outcome_of(&mut process);
    assert_eq!(outcome.code, 1);
    common::assert_one_line(&outcome.stderr, &["lost the connection", "Broken pipe", "100 bytes"]);
    drop(stream);
}

#[test]
fn full_buffers_at_both_ends_do_not_deadlock() {
    let server = Server::start(&["--buffer", "1"]);
    let bytes = noise(16 << 20, 92);
    let outcome = run(client_command().arg(server.address()), &bytes);
    common::assert_echoed(&outcome, &bytes);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn input_is_sent_on_when_a_server_that_had_stalled_reads_again() {
    let scratch = common::Scratch::new();
    let path = scratch.path("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let bytes = noise(2 << 20, 93); // more than the mailbox, the write buffer and the socket hold
    fs::write(scratch.path("input"), &bytes).unwrap();
    let input = File::open(scratch.path("input")).unwrap();
    let mut process = client_reading(&format!("unix:{}", path.display()), input);
    let (mut stream, _) = listener.accept().unwrap();
    process.comes_to_rest();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_same_bytes(&received, &bytes);
    drop(stream);
    assert_eq!(process.wait_code(), 1, "nothing came back");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: 127.0.0.0/8 is local")]
fn verbose_logs_both_addresses_and_the_byte_counts() {
    let server = Server::start(&[]);
    let mut command = client_command();
    let outcome = run(command.args(["-v", "--source", "127.0.0.9", server.address()]), b"hello");
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (0, &b"hello"[..]));
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let first = format!("echo-client: connected to {} from 127.0.0.9:", server.address());
    assert!(lines[0].starts_with(&first) && lines[0].contains(" in "), "{}", lines[0]);
    assert!(lines[0].ends_with(" ms"), "{}", lines[0]);
    assert!(lines[1].starts_with("echo-client: bytes: 5 sent, 5 received; 0."), "{}", lines[1]);
    // The client also logs the counts when a signal ends it.
    let (stdin, _open) = pipe();
    let mut command = client_command();
    command.args(["-v", server.address()]).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let err = common::Lines::of(process.child.stderr.take().unwrap());
    err.next_with("connected to");
    process.signal(Signal::TERM);
    err.next_with("bytes: 0 sent, 0 received; ");
    assert_eq!(process.wait_code(), 143);
}

#[test]
fn connected_line_adds_the_address_if_another_form_was_typed() {
    let server = Server::start(&[]);
    let typed = format!(":{}", server.port());
    let both = format!("{typed} ({})", server.address());
    let outcome = run(client_command().args(["-v", &typed]), b"");
    let start = format!("echo-client: connected to {both} from ");
    assert!(outcome.code == 0 && outcome.stderr.starts_with(&start), "{}", outcome.stderr);
    let outcome = run(client_command().args(["--ping", "-c1", &typed]), b"");
    let stdout = String::from_utf8(outcome.stdout).unwrap();
    assert!(stdout.starts_with(&format!("PING {both}, 64 bytes: ")), "{stdout}");
}

#[test]
fn server_that_does_not_read_stops_the_client_from_reading_stdin() {
    let (address, server) = serve_once(|stream| stream); // the server never reads
    let mut process = client_reading(&address, Stdio::piped());
    let mut stdin = process.child.stdin.take().unwrap();
    let (sent, counter) = mpsc::channel();
    let piece = vec![b'x'; 64 << 10];
    thread::spawn(move || while stdin.write_all(&piece).is_ok() && sent.send(()).is_ok() {});
    // Both sockets buffer several MiB.
    let pieces = (0..1024).take_while(|_| counter.recv_timeout(2 * A_WHILE).is_ok()).count();
    assert!((1..1024).contains(&pieces), "the client has read {pieces} pieces");
    process.signal(Signal::KILL);
    drop(server.join().unwrap());
}

#[test]
fn timeout_does_not_count_while_stdout_is_full() {
    let server = Server::start(&[]);
    let bytes = noise(32 << 20, 7); // more than the buffers of stdout, both programs and the sockets hold
    let mut command = client_command();
    command.args(["-w", "1s", server.address()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    let feeder = common::feed(process.child.stdin.take().unwrap(), &bytes);
    thread::sleep(Duration::from_millis(1500)); // the thing under test: nobody reads stdout
    assert_echoed(&outcome(process), &bytes);
    feeder.join().unwrap();
}

#[test]
fn timeout_does_not_count_while_stdout_is_full_and_everything_was_received() {
    let server = Server::start(&[]);
    let bytes = noise(200_000, 8); // more than a pipe holds, and less than the client reads in a turn
    let mut command = client_command();
    command.args(["-w", "1s", server.address()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(&bytes).unwrap();
    thread::sleep(Duration::from_millis(1500)); // the thing under test: nobody reads stdout
    drop(stdin);
    assert_echoed(&outcome(process), &bytes);
}
