//! `echo-client` on every kind of stdin and stdout: no byte is lost and no flag changes.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{
    Process, Scratch, Server, Terminal, assert_echoed, assert_one_line, assert_same_bytes, client_command,
    client_reading, collect, eventually, feed, fifo, is_nonblocking, noise, outcome, pipe, reset_on_close,
    run, serve_once,
};
use rustix::process::Signal;

/// Contents of stdin: several lines in one write, no newline at the end, no bytes, a very long
/// line, and bytes that are not text.
fn inputs() -> [Vec<u8>; 5] {
    let long_line = [vec![b'x'; 300_000], b"\n".to_vec()].concat();
    [b"one\ntwo\nthree\n".to_vec(), b"no newline".to_vec(), Vec::new(), long_line, noise(1 << 20, 20)]
}

#[test]
fn every_kind_of_stdin_is_read_completely() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    for (index, bytes) in inputs().iter().enumerate() {
        let (reader, writer) = pipe();
        feed(writer, bytes);
        assert_echoed(&outcome(client_reading(server.address(), reader)), bytes);

        let (socket, other) = UnixStream::pair().unwrap();
        feed(other, bytes);
        assert_echoed(&outcome(client_reading(server.address(), OwnedFd::from(socket))), bytes);

        let file = scratch.file(&format!("file{index}"), bytes);
        assert_echoed(&outcome(client_reading(server.address(), File::open(file).unwrap())), bytes);

        let (reader, writer) = fifo(&scratch, &format!("fifo{index}"));
        feed(writer, bytes);
        assert_echoed(&outcome(client_reading(server.address(), reader)), bytes);
    }
    assert_echoed(&outcome(client_reading(server.address(), Stdio::null())), b"");
}

#[test]
fn terminal_as_stdin_works_in_canonical_and_raw_mode() {
    let server = Server::start(&[]);
    // In canonical mode, ^D ends the input. After half a line, two ^D are needed.
    for (typed, sent) in
        [("one\ntwo\nthree\n\x04", "one\ntwo\nthree\n"), ("half a line\x04\x04", "half a line"), ("\x04", "")]
    {
        let mut terminal = Terminal::new();
        let process = client_reading(server.address(), terminal.stdio());
        terminal.type_in(typed);
        assert_echoed(&outcome(process), sent.as_bytes());
    }
    // In raw mode, the long line exceeds the terminal's input buffer (4096 bytes), and ^D is an
    // ordinary byte.
    let mut terminal = Terminal::new();
    terminal.set_raw();
    let line = [vec![b'y'; 50_000], b"\x04\n".to_vec()].concat();
    let mut process = client_reading(server.address(), terminal.stdio());
    let mut stdout = process.child.stdout.take().unwrap();
    terminal.type_in(std::str::from_utf8(&line).unwrap());
    let mut echo = vec![0; line.len()];
    stdout.read_exact(&mut echo).unwrap();
    assert_same_bytes(&echo, &line);
}

#[test]
fn file_is_read_from_its_current_offset() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let mut file = File::open(scratch.file("file", b"skipped, the rest")).unwrap();
    file.read_exact(&mut [0; 9]).unwrap();
    assert_echoed(&outcome(client_reading(server.address(), file)), b"the rest");
}

#[test]
fn closed_stdin_is_an_error_unless_it_is_not_read() {
    let server = Server::start(&[]);
    let run_client = |arguments: &str| {
        let script = format!("exec {} {arguments} {}", env!("CARGO_BIN_EXE_echo-client"), server.address());
        run(std::process::Command::new("sh").args(["-c", &script]), b"")
    };
    let outcome = run_client("<&-");
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["echo-client: cannot read standard input: Bad file descriptor"]);
    assert_eq!(run_client("--ping -c 1 <&-").code, 0);
    assert_echoed(&run_client("</dev/null"), b"");
}

#[test]
fn closed_stdout_is_an_error_if_something_is_written() {
    let server = Server::start(&[]);
    let bin = env!("CARGO_BIN_EXE_echo-client");
    let run_script = |script: String| run(std::process::Command::new("sh").args(["-c", &script]), b"");
    for arguments in ["--help", server.address()] {
        let outcome = run_script(format!("echo hello | {bin} {arguments} >&-"));
        assert_eq!(outcome.code, 1, "{arguments}");
        assert_one_line(&outcome.stderr, &["cannot write standard output: Bad file descriptor"]);
    }
    let outcome = run_script(format!("echo hello | {bin} --check {} >&-", server.address()));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    // A stdout that the parent opened for both directions is not a closed one.
    let outcome = run_script(format!("echo hello | {bin} {} 1<>/dev/null", server.address()));
    assert_echoed(&outcome, b"");
}

#[test]
fn every_kind_of_stdout_gets_every_byte() {
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
fn one_socket_can_be_stdin_and_stdout() {
    let server = Server::start(&[]);
    let (socket, mut other) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    let mut command = client_command();
    let mut process =
        Process::spawn(command.arg(server.address()).stdin(socket.try_clone().unwrap()).stdout(socket));
    drop(command); // it holds the socket open
    let bytes = noise(1 << 20, 23);
    let echo = collect(other.try_clone().unwrap());
    other.write_all(&bytes).unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(process.wait_code(), 0);
    assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);
}

#[test]
fn flags_of_shared_descriptors_never_change_even_after_sigkill() {
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
            eventually("the client is connected", || server.open_connections() == 1);
            let all_as_before = || {
                [stdin, stdout, stderr].iter().all(|descriptor| is_nonblocking(descriptor) == non_blocking)
            };
            assert!(all_as_before(), "{kind}: while the client runs");
            process.signal(Signal::KILL);
            process.wait();
            assert!(all_as_before(), "{kind}: after SIGKILL");
            eventually("the connection is closed", || server.open_connections() == 0);
        }
    }
    drop((out_reader, other));
}

/// Every kind of stdout that can stall or lose its reader: the kind, the client's end, and our end.
fn outputs(scratch: &Scratch) -> [(&'static str, OwnedFd, File); 3] {
    let (from_pipe, pipe) = pipe();
    let (from_fifo, fifo) = fifo(scratch, "out");
    let (socket, from_socket) = UnixStream::pair().unwrap();
    [
        ("pipe", pipe, from_pipe.into()),
        ("FIFO", fifo, from_fifo.into()),
        ("socket", socket.into(), OwnedFd::from(from_socket).into()),
    ]
}

fn client_between(address: &str, stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Process {
    Process::spawn(client_command().arg(address).stdin(stdin).stdout(stdout).stderr(Stdio::piped()))
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn stalled_stdout_gets_every_byte_after_it_resumes() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    let bytes = noise(8 << 20, 25);
    for (kind, stdout, reader) in outputs(&scratch) {
        let (stdin, writer) = pipe();
        feed(writer, &bytes);
        let mut process = client_between(server.address(), stdin, stdout);
        process.comes_to_rest();
        let echo = collect(reader);
        assert_eq!(process.wait_code(), 0, "{kind}");
        assert_same_bytes(&echo.recv_timeout(common::PATIENCE).unwrap(), &bytes);
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn stopped_terminal_gets_every_byte_after_it_resumes() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    terminal.type_in("\x13"); // ^S
    let (stdin, writer) = pipe();
    let text: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    feed(writer, text.as_bytes());
    let mut process = client_between(server.address(), stdin, terminal.stdio());
    process.comes_to_rest();
    assert_eq!(terminal.unseen(), "");
    terminal.type_in("\x11"); // ^Q
    terminal.see("0\r\n1\r\n");
    terminal.see("19999\r\n");
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn closed_reader_of_stdout_ends_the_client_silently_with_141() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    for (kind, stdout, mut reader) in outputs(&scratch) {
        // The reader closes while bytes flow.
        let flowing =
            client_between(server.address(), File::open("/dev/zero").unwrap(), stdout.try_clone().unwrap());
        drop(stdout);
        reader.read_exact(&mut [0; 1000]).unwrap();
        drop(reader);
        assert_ended_as_by_sigpipe(flowing, kind);
    }
    for (kind, stdout, reader) in outputs(&scratch) {
        // The reader closes while no byte moves.
        let (stdin, _open) = pipe();
        let silent = client_between(server.address(), stdin, stdout);
        eventually("the client is connected", || server.open_connections() == 1);
        drop(reader);
        assert_ended_as_by_sigpipe(silent, kind);
        eventually("the connection is closed", || server.open_connections() == 0);
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: kqueue reports it only at the next write")]
fn reset_of_stdout_ends_the_client_like_a_closed_reader() {
    let (server, listener) = (Server::start(&[]), TcpListener::bind("127.0.0.1:0").unwrap());
    let stdout = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    let (stdin, _open) = pipe();
    let process = client_between(server.address(), stdin, OwnedFd::from(stdout));
    eventually("the client is connected", || server.open_connections() == 1);
    reset_on_close(&reader);
    drop(reader);
    assert_ended_as_by_sigpipe(process, "socket");
}

#[test]
fn check_is_silent_too_when_the_reader_of_stdout_is_gone() {
    let server = Server::start(&[]);
    let ((stdin, _open), (reader, stdout)) = (pipe(), pipe());
    let mut command = client_command();
    command.args(["--check", server.address()]).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    let process = Process::spawn(&mut command);
    drop(command); // it holds a copy of stdout
    eventually("the client is connected", || server.open_connections() == 1);
    drop(reader);
    assert_ended_as_by_sigpipe(process, "pipe");
}

#[track_caller]
fn assert_ended_as_by_sigpipe(mut process: Process, kind: &str) {
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 141, "{kind}");
    assert!(stderr.recv_timeout(common::PATIENCE).unwrap().is_empty(), "{kind}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn full_device_as_stdout_is_an_error() {
    let server = Server::start(&[]);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (stdin, writer) = pipe();
    feed(writer, b"hello");
    let mut process = client_between(server.address(), stdin, full);
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 1);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["echo-client: cannot write standard output: No space left on device"]);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc/self/mem")]
fn input_output_error_of_stdout_is_a_hang_up_only_on_a_terminal() {
    let server = Server::start(&[]);
    let broken = OpenOptions::new().write(true).open("/proc/self/mem").unwrap(); // no memory is at its offset
    let (stdin, writer) = pipe();
    feed(writer, b"hello");
    let mut process = client_between(server.address(), stdin, broken);
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 1);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["echo-client: cannot write standard output: Input/output error"]);
}

#[test]
fn file_size_limit_is_an_error_even_if_sigxfsz_is_ignored() {
    let server = Server::start(&[]);
    let scratch = Scratch::new();
    // At RLIMIT_FSIZE the kernel sends SIGXFSZ, which kills by default. If it is ignored, the write
    // fails instead.
    let script =
        format!("trap '' XFSZ; ulimit -f 8; exec {} {}", env!("CARGO_BIN_EXE_echo-client"), server.address());
    let file = File::create(scratch.path("file")).unwrap();
    let (stdin, writer) = pipe();
    feed(writer, &noise(100_000, 26));
    let process = Process::spawn(
        Command::new("sh").args(["-c", &script]).stdin(stdin).stdout(file).stderr(Stdio::piped()),
    );
    let mut process = process;
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 1);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_one_line(&stderr, &["cannot write standard output: File too large"]);
    assert!(fs::metadata(scratch.path("file")).unwrap().len() > 0, "the bytes below the limit are written");
}

#[test]
fn unreadable_stdin_is_an_error() {
    let server = Server::start(&[]);
    let outcome = outcome(client_reading(server.address(), File::open("/").unwrap()));
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["echo-client: cannot read standard input: Is a directory"]);
}

// ---- other readers of stdin

#[test]
fn second_reader_of_stdin_never_blocks_the_client() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = client_reading(server.address(), terminal.stdio());
    eventually("the client is connected", || server.open_connections() == 1);
    let mut thief = Process::spawn(Command::new("cat").stdin(terminal.stdio()).stdout(Stdio::null()));
    // Each line goes to one of the two readers but wakes both. A client that blocked in its read
    // would not exit at once.
    for number in 0..200 {
        terminal.type_in(&format!("{number}\n"));
    }
    let began = Instant::now();
    process.signal(Signal::TERM);
    let outcome = outcome(process);
    assert_eq!(outcome.code, 143);
    assert!(began.elapsed() < common::PATIENCE / 2);
    thief.signal(Signal::KILL);
    thief.wait();

    let (reader, writer) = pipe();
    let process = client_reading(server.address(), reader.try_clone().unwrap());
    let mut thief = Process::spawn(Command::new("cat").stdin(reader).stdout(Stdio::piped()));
    let stolen = collect(thief.child.stdout.take().unwrap());
    let mut writer = File::from(writer);
    for _ in 0..2000 {
        writer.write_all(b"x").unwrap();
    }
    drop(writer);
    let outcome = common::outcome(process);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    thief.wait();
    let stolen = stolen.recv_timeout(common::PATIENCE).unwrap();
    assert_eq!(outcome.stdout.len() + stolen.len(), 2000, "each byte went to exactly one reader");
}

/// As after `su`: we may use the terminal but not open it.
fn forbid_reopening(terminal: &Terminal) {
    rustix::fs::fchmod(&terminal.line, rustix::fs::Mode::empty()).unwrap();
}

/// A client whose controlling terminal is its stdin before the redirections. Root may open every
/// terminal, so root drops that capability.
fn client_that_cannot_reopen(address: &str, redirections: &str) -> Command {
    let drop_power = if rustix::process::geteuid().is_root() {
        "setpriv --bounding-set=-dac_override,-dac_read_search"
    } else {
        ""
    };
    let client = env!("CARGO_BIN_EXE_echo-client");
    let mut command = Command::new("setsid");
    let script = format!("exec {drop_power} {client} {address} {redirections}");
    command.args(["--ctty", "sh", "-c", &script]);
    command
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc, setpriv(1)")]
fn terminal_of_another_user_is_reopened_as_dev_tty() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    forbid_reopening(&terminal);
    let mut command = client_that_cannot_reopen(server.address(), "");
    command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    let mut process = Process::spawn(&mut command);
    terminal.see("> ");
    let pid = process.pid().as_raw_nonzero();
    let names = (3..20).filter_map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    let terminals: Vec<_> =
        names.filter(|name| name.starts_with("/dev/tty") || name.starts_with("/dev/pts")).collect();
    assert!(terminals.len() >= 3, "{terminals:?}");
    assert!(terminals.iter().all(|name| name.as_os_str() == "/dev/tty"), "{terminals:?}");
    terminal.type_in("hello\n");
    terminal.see("< hello");
    assert!(!is_nonblocking(&terminal.line));
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setpriv(1)")]
fn terminal_of_another_session_is_not_taken_for_the_controlling_terminal() {
    let (address, server) = serve_once(|mut stream| {
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        got
    });
    let (mut controlling, mut other) = (Terminal::new(), Terminal::new());
    forbid_reopening(&other);
    let mut command = client_that_cannot_reopen(&address, "<&1 >/dev/null");
    let mut client = Process::spawn(command.stdin(controlling.stdio()).stdout(other.stdio()));
    controlling.type_in("wrong\n");
    other.type_in("right\n");
    assert_eq!(&server.join().unwrap(), b"right");
    client.wait();
}
