//! `echo-client --reconnect` and `--check`. Whatever happens to the server, every byte arrives once
//! and in order, or the offset of the first wrong byte is reported.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, DeadPort, Lines, Network, PATIENCE, Process, Server, assert_one_line, assert_same_bytes,
    client_command, collect, eventually, noise, run, serve_once, server_command,
};
use rustix::process::{Resource, Rlimit, Signal};

/// Reads a stream to its end, and counts the bytes as they arrive.
fn count(mut stream: impl Read + Send + 'static) -> (Arc<AtomicUsize>, std::sync::mpsc::Receiver<Vec<u8>>) {
    let counted = Arc::new(AtomicUsize::new(0));
    let counter = counted.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 65536]);
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            all.extend_from_slice(&chunk[..count]);
            counter.store(all.len(), Ordering::Relaxed);
        }
        let _ = sender.send(all);
    });
    (counted, receiver)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn ten_kills_of_the_server_lose_no_byte() {
    let bytes = noise(64 << 20, 51);
    let held = DeadPort::new();
    let address = held.1.to_string();
    let mut server = Server::on(&[&address], &["--reuse-port"]);
    let mut process = Process::spawn(
        client_command()
            .args(["-q", "--reconnect", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let (echoed, result) = count(process.child.stdout.take().unwrap());
    let mut stdin = process.child.stdin.take().unwrap();
    let (allowed, allow) = std::sync::mpsc::channel::<()>();
    let input = bytes.clone();
    thread::spawn(move || {
        // One piece for each run of the server, so that every kill interrupts one.
        for piece in input.chunks(input.len() / 11 + 1) {
            if stdin.write_all(piece).is_err() || allow.recv().is_err() {
                break;
            }
        }
    });
    let piece = bytes.len() / 11;
    for kill in 0..10 {
        eventually("the transfer is under way", || echoed.load(Ordering::Relaxed) > kill * piece + piece / 3);
        server.process.signal(Signal::KILL);
        server.process.wait();
        assert!(process.resident() < 32 << 10, "{} KiB", process.resident());
        server = Server::on(&[&address], &["--reuse-port"]);
        allowed.send(()).unwrap();
    }
    allowed.send(()).unwrap();
    assert_eq!(process.wait_code(), 0);
    assert_same_bytes(&result.recv_timeout(common::PATIENCE).unwrap(), &bytes);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: SO_REUSEPORT shares connections")]
fn client_waits_for_a_server_that_starts_late() {
    let dead = DeadPort::new();
    let address = dead.1.to_string();
    let mut command = client_command();
    let mut process = Process::spawn(
        command.args(["-r", &address]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()),
    );
    process.child.stdin.take().unwrap().write_all(b"patience").unwrap();
    let err = Lines::of(process.child.stderr.take().unwrap());
    let line = err.next_with("reconnecting until");
    assert!(line.contains(&format!("cannot connect to {address}: Connection refused")), "{line}");
    let _server = Server::on(&[&address], &["--reuse-port"]);
    let echo = collect(process.child.stdout.take().unwrap());
    assert_eq!(process.wait_code(), 0);
    assert_eq!(echo.recv_timeout(common::PATIENCE).unwrap(), b"patience");
}

#[test]
fn each_new_reason_and_each_connection_is_reported_once() {
    let held = DeadPort::new();
    let (listener, address) = (held.listen(), held.1);
    let mut command = client_command();
    command.args(["-r", &address.to_string()]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let err = Lines::of(process.child.stderr.take().unwrap());
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"x").unwrap();
    let (stream, _) = listener.accept().unwrap();
    drop(listener); // first, so that the next attempt is refused
    drop(stream);
    let lost = err.next(); // "closed" or "reset": the server closes with unread data
    assert!(lost.contains("warning: ") && lost.contains(&address.to_string()), "{lost}");
    let refused = err.next();
    let end = "Connection refused; reconnecting until it succeeds";
    assert!(refused.ends_with(end), "{refused}");
    thread::sleep(2 * A_WHILE); // the thing under test: more refusals are not reported
    let _server = Server::on(&[&address.to_string()], &["--reuse-port"]);
    assert_eq!(err.next(), format!("echo-client: connected to {address}"));
    drop(stdin);
    assert_eq!(process.wait_code(), 0);
    assert_eq!(err.rest(), Vec::<String>::new());
}

#[test]
fn timeout_counts_only_while_an_echo_or_the_end_is_outstanding() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = client_command();
    command.args(["-r", "-w", "800ms", &address]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let out = Lines::of(process.child.stdout.take().unwrap());
    let mut stdin = process.child.stdin.take().unwrap();
    let (mut first, _) = listener.accept().unwrap();
    let mut line = [0; 2];
    for text in [b"a\n", b"b\n"] {
        first.set_read_timeout(Some(5 * A_WHILE)).unwrap(); // longer than the timeout of the client
        let error = first.read(&mut line).expect_err("an idle connection stays open");
        assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()), "{error}");
        first.set_read_timeout(Some(common::PATIENCE)).unwrap();
        stdin.write_all(text).unwrap();
        first.read_exact(&mut line).unwrap();
        if text == b"a\n" {
            first.write_all(&line).unwrap();
            assert_eq!(out.next(), "a");
        }
    }
    // The second echo is outstanding.
    let (mut second, _) = listener.accept().unwrap();
    second.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"b\n");
    second.write_all(&line).unwrap();
    assert_eq!(out.next(), "b");
    drop(stdin);
    assert_eq!(process.wait_code(), 0, "everything came back, so a server that does not close is no error");
}

#[test]
fn signal_ends_a_waiting_client_at_once() {
    let dead = DeadPort::new();
    let mut command = client_command();
    let process = command.args(["--reconnect", &dead.1.to_string()]).stderr(Stdio::piped());
    let mut process = Process::spawn(process);
    Lines::of(process.child.stderr.take().unwrap()).next_with("reconnecting");
    let began = Instant::now();
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 130);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn orderly_close_before_the_whole_echo_reconnects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        // Three connections echo a little and close. The fourth echoes the rest.
        for life in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 10];
            if life < 3 {
                stream.read_exact(&mut bytes).unwrap();
                stream.write_all(&bytes[..4]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            } else {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                stream.write_all(&rest).unwrap();
            }
        }
    });
    let outcome = run(client_command().args(["-q", "-r", &address]), b"0123456789abcdefghijklmnopqrstuvwxyz");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(outcome.stdout, b"0123456789abcdefghijklmnopqrstuvwxyz");
    server.join().unwrap();
}

#[test]
fn server_that_sends_no_echo_is_reported() {
    let (address, server) = serve_once(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let mut command = client_command();
    command.args(["-r", &address]).stdin(File::open("Cargo.toml").unwrap()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let line = Lines::of(process.child.stderr.take().unwrap()).next();
    assert!(line.contains("closed the connection, and nothing came back; reconnecting until"), "{line}");
    server.join().unwrap();
}

/// Starts a client that sends five bytes to a proxy, which accepts and closes its first `closed`
/// connections. Returns its lines and the next connection.
fn after_closed_connections(options: &[&str], closed: u32) -> (Process, Lines, Lines, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = client_command();
    command.args(options).arg(&address).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    process.child.stdin.as_mut().unwrap().write_all(b"12345").unwrap();
    let out = Lines::of(process.child.stdout.take().unwrap());
    let err = Lines::of(process.child.stderr.take().unwrap());
    for _ in 0..closed {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let (stream, _) = listener.accept().unwrap();
    (process, out, err, stream)
}

/// The reports in short.
fn events(lines: &[String]) -> Vec<&str> {
    let known = ["connected to ", "closed the connection"];
    lines.iter().map(|line| *known.iter().find(|text| line.contains(**text)).unwrap_or(&&line[..])).collect()
}

#[test]
fn failure_after_a_reported_connection_is_reported_again_and_the_third_silent_one_is_not() {
    let (process, _out, err, mut stream) = after_closed_connections(&["-r"], 3);
    let [failed, connected] = ["closed the connection", "connected to "];
    let mut lines: Vec<_> = (0..3).map(|_| err.next()).collect();
    stream.read_exact(&mut [0; 5]).unwrap();
    stream.write_all(b"1").unwrap();
    lines.push(err.next()); // the first byte shows that the server works
    process.signal(Signal::TERM);
    lines.extend(err.rest());
    assert_eq!(events(&lines), [failed, connected, failed, connected], "{lines:#?}");
}

#[test]
fn ping_reports_no_third_connection_in_a_row_without_an_echo() {
    let (process, out, err, _stream) = after_closed_connections(&["--ping", "-ri0"], 3);
    process.signal(Signal::TERM);
    let [out, err] = [out.rest(), err.rest()];
    let reconnected = out.iter().filter(|line| line.starts_with("reconnected to ")).count();
    assert_eq!(reconnected, 1, "{out:#?}");
    assert_eq!(events(&err), ["closed the connection"; 2], "{err:#?}");
}
#[test]
fn permanent_failures_are_not_retried() {
    let server = Server::start(&[]);
    // The echo has a wrong byte.
    let (address, liar) = server_that_changes(|bytes| bytes[3] = b'X');
    let outcome = run(client_command().args(["-r", &address]), b"0123456789");
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, &b"012"[..]));
    assert_one_line(&outcome.stderr, &["the echo differs at offset 3: sent 0x33, received 0x58"]);
    liar.join().unwrap();
    // The input is unreadable.
    let mut command = client_command();
    command.args(["-r", server.address()]).stdin(File::open("/").unwrap()).stderr(Stdio::piped());
    assert_eq!(Process::spawn(&mut command).wait_code(), 1);
    // The reader of the output has closed.
    let mut command = client_command();
    command.args(["-r", server.address()]).stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    drop(process.child.stdout.take());
    assert_eq!(process.wait_code(), 141);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn one_window_is_sent_before_the_first_echo_and_more_after_it() {
    const WINDOW: usize = 8 << 20;
    let (address, server) = serve_once(|mut stream| {
        stream.set_read_timeout(Some(2 * A_WHILE)).unwrap(); // the thing under test: nothing more comes
        let (mut got, mut total) = (vec![0; 1 << 20], 0);
        while total <= WINDOW
            && let Ok(count) = stream.read(&mut got)
        {
            total += count;
        }
        (stream, total)
    });
    let mut command = client_command();
    command.args(["-r", &address]).stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::null());
    let process = Process::spawn(&mut command);
    let (mut stream, total) = server.join().unwrap();
    assert!(total <= WINDOW, "{total}");
    assert!(process.resident() < 32 << 10, "{} KiB", process.resident());
    stream.write_all(&[0; 64 << 10]).unwrap(); // makes room for the next chunk
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 1);
}

/// A client with `--reconnect` in a test network, and the lines that it logs.
fn reconnecting_client(network: &Network, address: &str) -> (Process, Lines) {
    let mut command = network.command(client_command().args(["-r", address]));
    let mut process =
        Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let err = Lines::of(process.child.stderr.take().unwrap());
    (process, err)
}

fn server_in(network: &Network, address: &str) -> Server {
    Server::run(&mut network.command(server_command().arg(address)), 1)
}

#[test]
fn restarted_server_is_found_at_a_new_address_of_its_name() {
    let Some(network) = Network::new("127.0.0.2 server.test\n") else { return };
    let server = server_in(&network, "127.0.0.2:7000");
    let (mut process, err) = reconnecting_client(&network, "server.test:7000");
    let mut stdin = process.child.stdin.take().unwrap();
    let out = Lines::of(process.child.stdout.take().unwrap());
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(out.next(), "one");
    drop(server);
    err.next_with("reconnecting until");
    network.set_hosts("127.0.0.3 server.test\n");
    let _server = server_in(&network, "127.0.0.3:7000");
    stdin.write_all(b"two\n").unwrap();
    assert_eq!(out.next(), "two");
    drop(stdin);
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn unknown_name_is_looked_up_again() {
    let Some(network) = Network::new("127.0.0.1 localhost\n") else { return };
    let (mut process, err) = reconnecting_client(&network, "server.test:7000");
    process.child.stdin.take().unwrap().write_all(b"patience").unwrap();
    let line = err.next_with("reconnecting until");
    assert!(line.contains("cannot resolve server.test: "), "{line}");
    let _server = server_in(&network, "127.0.0.3:7000");
    network.set_hosts("127.0.0.3 server.test\n");
    let echo = collect(process.child.stdout.take().unwrap());
    assert_eq!(process.wait_code(), 0);
    assert_eq!(echo.recv_timeout(common::PATIENCE).unwrap(), b"patience");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn unanswered_lookup_does_not_block_the_loop() {
    let Some(network) = Network::new("127.0.0.2 server.test\n") else { return };
    network.silence_name_server();
    let server = server_in(&network, "127.0.0.2:7000");
    let (mut process, err) = reconnecting_client(&network, "server.test:7000");
    eventually("the client is connected", || server.open_connections() == 1);
    network.set_hosts("127.0.0.1 localhost\n");
    drop(server);
    err.next_with("reconnecting until");
    let began = Instant::now();
    let tasks = format!("/proc/{}/task", process.pid().as_raw_nonzero());
    while std::fs::read_dir(&tasks).unwrap().count() < 2 {
        if began.elapsed() > Duration::from_secs(3) {
            return println!("skipped: this machine answers without a name server");
        }
    }
    thread::sleep(A_WHILE); // the thing under test: the lookup takes longer
    let began = Instant::now();
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 130);
    assert!(began.elapsed() < Duration::from_secs(2), "the client waited for the lookup");
}

#[test]
fn first_delay_is_100_to_200_ms() {
    let dead = DeadPort::new();
    let mut process = Process::spawn(
        client_command().args(["--reconnect", "-v", &dead.1.to_string()]).stderr(Stdio::piped()),
    );
    let line = Lines::of(process.child.stderr.take().unwrap()).next_with("reconnecting in ");
    let (_, delay) = line.split_once("reconnecting in ").unwrap();
    let delay: u32 = delay.split(' ').next().unwrap().parse().unwrap();
    assert!((100..=200).contains(&delay), "{line}");
}

// ---- --check

/// A server that changes the first message that it echoes and then closes.
fn server_that_changes(
    change: impl FnOnce(&mut Vec<u8>) + Send + 'static,
) -> (String, thread::JoinHandle<()>) {
    serve_once(|mut stream| {
        let mut bytes = vec![0; 10];
        stream.read_exact(&mut bytes).unwrap();
        change(&mut bytes);
        stream.write_all(&bytes).unwrap();
        let _ = stream.shutdown(Shutdown::Write); // the client may have closed already
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

fn check(address: &str) -> (i32, String) {
    let outcome = run(client_command().args(["--check", address]), b"0123456789");
    assert!(outcome.stdout.is_empty(), "--check prints nothing");
    (outcome.code, outcome.stderr)
}

#[test]
fn check_reports_a_correct_echo() {
    let server = Server::start(&[]);
    let (code, stderr) = check(server.address());
    assert_eq!(code, 0);
    assert_one_line(&stderr, &["10 bytes came back unchanged"]);
}

#[test]
fn check_reports_the_offset_of_the_first_difference() {
    for (change, expected) in [
        (
            (|bytes| bytes[7] ^= 1) as fn(&mut Vec<u8>),
            "the echo differs at offset 7: sent 0x37, received 0x36",
        ),
        (|bytes| bytes.truncate(6), "the echo ends at offset 6; 4 of 10 bytes sent did not come back"),
        (|bytes| bytes.push(b'!'), "the echo has a surplus byte at offset 10: 0x21"),
        (|bytes| _ = bytes.remove(2), "the echo differs at offset 2: sent 0x32, received 0x33"),
    ] {
        let (address, server) = server_that_changes(change);
        let (code, stderr) = check(&address);
        assert_eq!(code, 1, "{stderr}");
        assert_one_line(&stderr, &[expected]);
        server.join().unwrap();
    }
}

#[test]
fn check_and_reconnect_work_together_on_a_large_input() {
    let server = Server::start(&[]);
    let bytes = noise(32 << 20, 52);
    let outcome = run(client_command().args(["--check", "--reconnect", server.address()]), &bytes);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_one_line(&outcome.stderr, &[&format!("{} bytes came back", bytes.len())]);
}

// ---- --progress

#[test]
fn progress_is_plain_lines_if_stderr_is_not_a_terminal() {
    let server = Server::start(&[]);
    let outcome = run(client_command().args(["--progress", server.address()]), &[7; 2048]);
    assert_eq!((outcome.code, outcome.stdout.len()), (0, 2048));
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert!(
        matches!(lines[..], [_, last] if last.starts_with("2.0 KiB sent, 2.0 KiB echoed, ")),
        "{lines:?}"
    );
    assert!(!outcome.stderr.contains('\r'));
}

#[test]
fn progress_of_a_silent_server_is_shown_once_although_it_closes_each_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = client_command();
    command.args(["-r", "--progress", &address]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    let err = Lines::of(process.child.stderr.take().unwrap());
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(err.next(), "0 B sent, 0 B echoed, 0 B/s");
    drop(stream);
    assert!(err.next().contains("closed the connection"));
    let _last = listener.accept().unwrap();
    err.next_with("connected to ");
    process.signal(Signal::TERM);
    assert_eq!(err.rest(), ["0 B sent, 0 B echoed, 0 B/s on average"]); // the last line
}

#[test]
fn progress_redraws_one_line_on_a_terminal() {
    let server = Server::start(&[]);
    let mut terminal = common::Terminal::new();
    let mut command = client_command();
    command.args(["--progress", server.address()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn(command.stderr(terminal.stdio()));
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"12345").unwrap();
    terminal.see("\r\x1b[K5 B sent, 5 B echoed, ");
    stdin.write_all(b"67890").unwrap();
    terminal.see("\r\x1b[K10 B sent, 10 B echoed, ");
    drop(stdin);
    assert_eq!(process.wait_code(), 0);
    assert!(terminal.unseen().ends_with("/s on average\r\n"), "the last line stays");
}

#[test]
fn progress_is_redrawn_ten_times_a_second_however_many_pieces_arrive() {
    let server = Server::start(&[]);
    let mut terminal = common::Terminal::new();
    let mut command = client_command();
    command.args(["--progress", server.address()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command.stderr(terminal.stdio()));
    let mut stdin = process.child.stdin.take().unwrap();
    let stdout = process.child.stdout.as_mut().unwrap();
    let began = Instant::now();
    for _ in 0..50 {
        stdin.write_all(b"x").unwrap();
        stdout.read_exact(&mut [0]).unwrap();
    }
    let most = began.elapsed().as_millis() / 100 + 2; // one is the last line
    let shown = terminal.unseen();
    drop(stdin);
    assert_eq!(process.wait_code(), 0);
    let shown = shown + &terminal.unseen();
    let count = shown.matches("\r\x1b[K50 B sent, 50 B echoed, ").count() as u128;
    assert!(count > 0 && count <= most, "{count} lines: {shown:?}");
}

#[test]
fn last_progress_line_is_redrawn_before_the_error() {
    let (address, server) = serve_once(|mut stream| {
        let mut bytes = [0; 10];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        assert_eq!(stream.read(&mut bytes).unwrap(), 1); // then close
    });
    let mut terminal = common::Terminal::with_window(120, 10);
    let mut command = client_command();
    command.args(["--progress", &address]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn(command.stderr(terminal.stdio()));
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"0123456789").unwrap();
    terminal.see("10 B sent, 10 B echoed");
    stdin.write_all(b"x").unwrap();
    assert_eq!(process.wait_code(), 1);
    server.join().unwrap();
    terminal.see("1 of 11 bytes sent did not come back\r\n");
    let rows = terminal.rows();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].starts_with("11 B sent, 10 B echoed, "), "{rows:?}");
    assert!(rows[1].starts_with("echo-client: "), "{rows:?}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn signal_prints_the_verdict_of_check() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, no_core).unwrap(); // SIGQUIT would write one
    let (alone, reconnects) = ("-4", "-r");
    for (signal, option) in
        [(Signal::INT, alone), (Signal::TERM, reconnects), (Signal::HUP, reconnects), (Signal::QUIT, alone)]
    {
        let (sender, has_echoed) = mpsc::channel();
        let (address, server) = serve_once(move |mut stream| {
            let mut bytes = [0; 10];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes[..6]).unwrap();
            sender.send(()).unwrap();
            let _ = stream.read(&mut bytes); // until the client ends
        });
        let mut command = client_command();
        command.args(["--check", option, &address]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let err = Lines::of(process.child.stderr.take().unwrap());
        let mut stdin = process.child.stdin.take().unwrap();
        stdin.write_all(b"0123456789").unwrap();
        has_echoed.recv_timeout(common::PATIENCE).unwrap();
        process.comes_to_rest(); // the client has received the echo
        process.signal(signal);
        assert_eq!(process.wait_code(), 128 + signal.as_raw());
        assert_eq!(err.rest(), ["echo-client: interrupted: 6 of 10 bytes sent came back unchanged"]);
        server.join().unwrap();
    }
}
