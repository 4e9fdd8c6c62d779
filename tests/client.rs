//! What `echo-client` promises: every byte, on every kind of stdin and stdout, and an honest end.

#![allow(clippy::pedantic, missing_docs)] // for the library; a test says what it means by its name

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, Outcome, Process, Scratch, Server, assert_one_line, assert_same_bytes, client_command, collect,
    eventually, is_nonblocking, noise, outcome, reset_on_close, run, serve_once,
};
use rustix::process::Signal;

fn client(address: &str, input: &[u8]) -> Outcome {
    run(client_command().arg(address), input)
}

/// With both outputs on pipes, and this as stdin.
fn client_reading(address: &str, stdin: impl Into<Stdio>) -> Process {
    Process::spawn(client_command().arg(address).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

fn feed(to: impl Into<OwnedFd>, bytes: &[u8]) {
    let (mut to, bytes) = (File::from(to.into()), bytes.to_vec());
    thread::spawn(move || to.write_all(&bytes));
}

#[track_caller]
fn assert_echoed(outcome: &Outcome, bytes: &[u8]) {
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_same_bytes(&outcome.stdout, bytes);
}

// ---- every kind of stdin and stdout

#[test]
fn a_pipe_is_echoed_to_the_byte_in_bounded_memory() {
    let server = Server::start(&[]);
    let bytes = noise(64 << 20, 21);
    let mut process = client_reading(server.address(), Stdio::piped());
    feed(process.child.stdin.take().unwrap(), &bytes);
    let echo = collect(process.child.stdout.take().unwrap());
    let mut peak = 0;
    eventually("it ends", || {
        let running = process.child.try_wait().unwrap().is_none();
        if running {
            // It may have ended since: then the file is there, and the line is not.
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
fn stdin_may_be_of_every_kind() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let long_line = [vec![b'x'; 300_000], b"\n".to_vec()].concat();
    let inputs: [&[u8]; 4] = [b"one\ntwo\nthree\n", b"no newline at the end", b"", &long_line];
    for (index, bytes) in inputs.iter().enumerate() {
        let (reader, writer) = pipe();
        feed(writer, bytes);
        assert_echoed(&outcome(client_reading(server.address(), reader)), bytes);

        let (socket, other) = UnixStream::pair().unwrap();
        feed(other, bytes);
        assert_echoed(&outcome(client_reading(server.address(), OwnedFd::from(socket))), bytes);

        let file = scratch.file(&format!("file{index}"), bytes);
        assert_echoed(&outcome(client_reading(server.address(), File::open(file).unwrap())), bytes);

        let fifo = scratch.path(&format!("fifo{index}"));
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let for_writer = fifo.clone();
        let written = bytes.to_vec();
        thread::spawn(move || OpenOptions::new().write(true).open(for_writer).unwrap().write_all(&written));
        assert_echoed(&outcome(client_reading(server.address(), File::open(fifo).unwrap())), bytes);
    }
    assert_echoed(&outcome(client_reading(server.address(), Stdio::null())), b"");
}

#[test]
fn a_file_is_read_from_where_its_offset_stands() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let mut file = File::open(scratch.file("file", b"skipped, the rest")).unwrap();
    file.read_exact(&mut [0; 9]).unwrap();
    assert_echoed(&outcome(client_reading(server.address(), file)), b"the rest");
}

#[test]
fn stdin_from_a_terminal_into_a_pipe_carries_the_bytes_alone() {
    let server = Server::start(&[]);
    let mut terminal = common::Terminal::new();
    let process = client_reading(server.address(), terminal.stdio());
    terminal.type_in("hello\n\x04");
    assert_echoed(&outcome(process), b"hello\n");
}

#[test]
fn a_closed_stdin_is_empty_and_a_closed_stdout_takes_everything() {
    let server = Server::start(&[]);
    let bin = env!("CARGO_BIN_EXE_echo-client");
    for script in [
        format!("exec {bin} {} <&-", server.address()),
        format!("echo hello | {bin} {} >&-", server.address()),
        format!("exec {bin} {} <&- >&- 2>&-", server.address()),
    ] {
        let outcome = run(std::process::Command::new("sh").args(["-c", &script]), b"");
        assert_echoed(&outcome, b"");
    }
}

#[test]
fn stdout_may_be_of_every_kind() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let bytes = noise(1 << 20, 22);
    let input = scratch.file("input", &bytes);
    let stdout_to = |stdout: Stdio| {
        let mut command = client_command();
        command.arg(server.address()).stdin(File::open(&input).unwrap()).stdout(stdout);
        Process::spawn(&mut command)
    };
    let path = scratch.file("output", b"before ");
    let mut process = stdout_to(OpenOptions::new().append(true).open(&path).unwrap().into());
    assert_eq!(process.wait_code(), 0);
    assert_same_bytes(&fs::read(&path).unwrap(), &[b"before ", bytes.as_slice()].concat());

    let (socket, other) = UnixStream::pair().unwrap();
    let echo = collect(other);
    assert_eq!(stdout_to(OwnedFd::from(socket).into()).wait_code(), 0);
    assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);

    assert_eq!(stdout_to(Stdio::null()).wait_code(), 0);
}

#[test]
fn stdin_and_stdout_may_be_one_and_the_same_socket() {
    let server = Server::start(&[]);
    let (socket, mut other) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    let mut command = client_command();
    let mut process =
        Process::spawn(command.arg(server.address()).stdin(socket.try_clone().unwrap()).stdout(socket));
    drop(command); // holds the socket
    let bytes = noise(1 << 20, 23);
    let echo = collect(other.try_clone().unwrap());
    other.write_all(&bytes).unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(process.wait_code(), 0);
    assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);
}

#[test]
fn the_flags_of_shared_descriptors_are_never_changed_not_even_when_it_is_killed() {
    let server = Server::start(&[]);
    let terminal = common::Terminal::new();
    let (pipe_in, mut keep_in) = (pipe(), Vec::new());
    let (out_reader, out_writer) = pipe();
    let (socket, other) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    keep_in.push(pipe_in.1);
    let cases: [(&str, &OwnedFd, &OwnedFd, &OwnedFd); 3] = [
        ("terminal", &terminal.line, &terminal.line, &terminal.line),
        ("pipe", &pipe_in.0, &out_writer, &out_writer),
        ("socket", &socket, &socket, &socket),
    ];
    for (kind, stdin, stdout, stderr) in cases {
        for non_blocking in [false, true] {
            let flags = if non_blocking { rustix::fs::OFlags::NONBLOCK } else { rustix::fs::OFlags::empty() };
            for descriptor in [stdin, stdout, stderr] {
                rustix::fs::fcntl_setfl(descriptor, flags).unwrap();
            }
            let mut process = Process::spawn(
                client_command()
                    .args(["-v", server.address()])
                    .stdin(stdin.try_clone().unwrap())
                    .stdout(stdout.try_clone().unwrap())
                    .stderr(stderr.try_clone().unwrap()),
            );
            eventually("it is connected", || server.open_connections() == 1);
            let all_as_before = || {
                [stdin, stdout, stderr].iter().all(|descriptor| is_nonblocking(descriptor) == non_blocking)
            };
            assert!(all_as_before(), "{kind}: while it runs");
            process.signal(Signal::KILL);
            process.wait();
            assert!(all_as_before(), "{kind}: after SIGKILL");
            eventually("it is gone", || server.open_connections() == 0);
        }
    }
    drop((out_reader, other));
}

// ---- backpressure

#[test]
fn a_slow_stdout_stops_stdin_and_nothing_is_lost() {
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
    assert!(sent < bytes.len(), "nobody read stdout, and yet all of stdin was taken");
    assert!(process.resident() < 16 << 10, "{} KiB", process.resident());
    drop(writer);
    assert_echoed(&outcome(process), &bytes[..sent]);
}

#[test]
fn while_nothing_happens_it_uses_no_cpu_and_does_not_wake_up() {
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
    process.falls_asleep();
    let before = process.activity();
    thread::sleep(3 * A_WHILE); // the thing under test: nothing happens
    assert_eq!(process.activity(), before);
}

// ---- how it ends

#[test]
fn a_server_that_closes_early_is_a_failure_that_says_how_much_is_missing() {
    let (address, server) = serve_once(|mut stream| {
        let mut got = [0; 10];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got[..4]).unwrap();
    });
    let outcome = client(&address, b"0123456789");
    server.join().unwrap();
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, &b"0123"[..]));
    assert_one_line(
        &outcome.stderr,
        &["echo-client: ", &address, "closed the connection", "6 of the 10 bytes"],
    );
}

#[test]
fn a_server_that_closes_while_stdin_is_open_and_silent_ends_it_at_once() {
    let (address, server) = serve_once(|mut stream| stream.write_all(b"welcome, and goodbye\n").unwrap());
    let process = client_reading(&address, Stdio::piped());
    // Stdin stays open: `outcome` does not touch it.
    let mut process = process;
    let stdin = process.child.stdin.take();
    let outcome = outcome(process);
    server.join().unwrap();
    drop(stdin);
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, &b"welcome, and goodbye\n"[..]));
    assert_one_line(&outcome.stderr, &[&address, "closed the connection before the end of the input"]);
}

#[test]
fn a_reset_is_named_and_what_did_arrive_is_written() {
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
    reset_on_close(&server.join().unwrap()); // and closed
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 1);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["lost the connection", "Connection reset by peer", "6 of the 10 bytes"]);
}

#[test]
fn more_than_was_sent_is_written_and_no_failure() {
    let (address, _server) = serve_once(|mut stream| {
        let mut got = Vec::new();
        stream.write_all(b"hello, who is there? ").unwrap();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&got).unwrap();
    });
    assert_echoed(&client(&address, b"me"), b"hello, who is there? me");
}

#[test]
fn when_no_byte_moves_for_the_timeout_it_gives_up() {
    let (address, server) = serve_once(|mut stream| {
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream // stays open
    });
    let outcome = run(client_command().args(["-w", "0.3", &address]), b"hello");
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["no byte has moved", "300ms", "5 of the 5 bytes"]);
    drop(server.join().unwrap());
}

#[test]
fn it_gives_up_connecting_to_an_address_that_does_not_answer() {
    // A listener with a full queue drops the next SYN.
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
fn stdout_closed_by_its_reader_ends_it_silently_as_sigpipe_would() {
    let server = Server::start(&[]);
    // While bytes flow.
    let mut process = client_reading(server.address(), File::open("/dev/zero").unwrap());
    let mut stdout = process.child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 1000]).unwrap();
    drop(stdout);
    assert_eq!(process.wait_code(), 141);
    // While nothing moves.
    let (stdin, _open) = pipe();
    let mut process = client_reading(server.address(), stdin);
    eventually("it is connected", || server.open_connections() == 1);
    drop(process.child.stdout.take());
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 141);
    assert!(stderr.recv_timeout(common::PATIENCE).unwrap().is_empty());
}

#[test]
fn a_stdout_that_is_full_is_a_failure_with_its_reason() {
    let server = Server::start(&[]);
    let mut command = client_command();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    command.arg(server.address()).stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    process.child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 1);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["echo-client: cannot write standard output: No space left on device"]);
}

#[test]
fn an_input_that_cannot_be_read_is_a_failure_with_its_reason() {
    let server = Server::start(&[]);
    let outcome = outcome(client_reading(server.address(), File::open("/").unwrap()));
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["echo-client: cannot read standard input: Is a directory"]);
}

#[test]
fn a_signal_ends_it_at_once() {
    let server = Server::start(&[]);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (stdin, _open) = pipe();
        let process = client_reading(server.address(), stdin);
        eventually("it is connected", || server.open_connections() == 1);
        process.signal(signal);
        let outcome = outcome(process);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (code, ""));
        eventually("it is gone", || server.open_connections() == 0);
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    // A server on IPv6 alone: where the name has an IPv4 address too, that one is tried first.
    let server = Server::on(&["[::1]:0"], &[]);
    assert_echoed(&client(&format!(":{}", server.port()), b"found"), b"found");
}
