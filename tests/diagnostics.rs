//! Diagnostics never end a program and never block it.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use common::{
    DeadPort, Lines, Process, Scratch, Server, Terminal, assert_one_line, client_command, collect, connect,
    connect_unix, eventually, full_pipe, is_nonblocking, ping, pipe, server_command,
};
use rustix::process::Signal;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn server_runs_with_stdout_and_stderr_closed_or_full() {
    let bin = env!("CARGO_BIN_EXE_echo-server");
    let scratch = Scratch::new();
    let cases = [
        ("1>&- 2>&-", 1),
        ("1>/dev/full 2>/dev/full", 1),
        ("1>&2 2>&-", 0),
        ("0<&- 1>&- 2>&-", 1),
        ("0<&-", 0),
    ];
    for (index, (redirection, code)) in cases.into_iter().enumerate() {
        let path = scratch.path(&index.to_string());
        let script = format!("exec {bin} -vvv unix:{} {redirection}", path.display());
        let mut process = Process::spawn(Command::new("sh").args(["-c", &script]));
        eventually("the server listens", || UnixStream::connect(&path).is_ok());
        let mut stream = connect_unix(&path);
        ping(&mut stream, b"no log line in here");
        drop(stream);
        process.signal(Signal::TERM);
        assert_eq!(process.wait_code(), code, "{redirection}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn server_reports_a_full_stdout_once_and_exits_1() {
    let scratch = Scratch::new();
    for (option, input) in [("-q", ""), ("--console", "list\nstats\n"), ("--step", "\n\n\n")] {
        let path = scratch.path(option);
        let mut command = server_command();
        command.args([option, &format!("unix:{}", path.display())]).stdin(Stdio::piped());
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut process = Process::spawn(command.stdout(full).stderr(Stdio::piped()));
        let err = Lines::of(process.child.stderr.take().unwrap());
        let line = err.next();
        assert_eq!(line, "echo-server: cannot write standard output: No space left on device");
        process.child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let mut stream = connect_unix(&path);
        ping(&mut stream, b"it still serves");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0); // the shutdown need not wait for it
        process.signal(Signal::TERM);
        assert_eq!(process.wait_code(), 1, "{option}");
        assert_eq!(err.rest(), Vec::<String>::new());
    }
}

#[test]
fn reader_of_stdout_may_end_when_the_server_is_stopped() {
    for (option, signals) in [("--step", true), ("--console", true), ("--console", false)] {
        let mut command = server_command();
        let (reader, writer) = pipe();
        command.args([option, "127.0.0.1:0"]).stdin(Stdio::piped()).stdout(writer);
        let mut process = Process::spawn(command.stderr(Stdio::piped()));
        drop(command); // it has a copy of the write end
        let err = Lines::of(process.child.stderr.take().unwrap());
        let mut out = BufReader::new(fs::File::from(reader));
        let mut next = || out.by_ref().lines().next().unwrap().unwrap();
        let listening = next();
        let address = listening.strip_prefix("listening on ").unwrap();
        let mut operator = process.child.stdin.take().unwrap();
        let mut stream = (option == "--console").then(|| connect(address));
        if let Some(stream) = &mut stream {
            ping(stream, b"x"); // the loop runs
        }
        if signals {
            // One turn sees both, and the reader's end first.
            process.signal(Signal::STOP);
            drop(out);
            process.signal(Signal::INT);
            process.signal(Signal::CONT);
        } else {
            operator.write_all(b"quit\n").unwrap();
            err.next_with("shutting down");
            drop(out);
            operator.write_all(b"stats\n").unwrap(); // the reply has no reader
        }
        drop(stream);
        assert_eq!(process.wait_code(), 0, "{option}");
        let lines = err.rest();
        let expected = |line: &String| line.starts_with("echo-server: warning: shutting down; 1 connection");
        assert!(lines.iter().all(expected), "{lines:?}");
    }
}

#[test]
fn server_reports_a_closed_stdout_and_a_closed_stdin_that_it_needs() {
    for (redirection, error, serves) in [
        (">&-", "cannot write standard output", true),
        ("--console >&- </dev/null", "cannot write standard output", true),
        ("--console <&-", "cannot read standard input", false),
        ("--step <&-", "cannot read standard input", false),
    ] {
        let script = format!("exec {} -g 0 127.0.0.1:0 {redirection}", env!("CARGO_BIN_EXE_echo-server"));
        let mut command = Command::new("sh");
        let mut process = Process::spawn(command.args(["-c", &script]).stderr(Stdio::piped()));
        let err = Lines::of(process.child.stderr.take().unwrap());
        assert_eq!(err.next(), format!("echo-server: {error}: Bad file descriptor"), "{redirection}");
        if serves {
            process.signal(Signal::TERM);
        }
        assert_eq!(process.wait_code(), 1, "{redirection}");
        assert_eq!(err.rest(), Vec::<String>::new());
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn console_reports_a_stdout_that_fails_later() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let out = scratch.path("out");
    // The limit of one block has room for `listening on ADDR`, and not for many replies.
    let script = r#"ulimit -f 1; exec "$0" --console "unix:$1" >"$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_echo-server")]).args([&path, &out]).stdin(Stdio::piped());
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    let err = Lines::of(process.child.stderr.take().unwrap());
    let mut operator = process.child.stdin.take().unwrap();
    operator.write_all(&[&b"help\n".repeat(30)[..], b"quit\n"].concat()).unwrap();
    assert_eq!(err.next(), "echo-server: cannot write standard output: File too large");
    assert_eq!(process.wait_code(), 1);
    assert_eq!(err.rest(), Vec::<String>::new());
}

#[test]
fn invalid_rust_log_is_reported_in_one_line() {
    let mut command = server_command();
    command.env("RUST_LOG", "echo_server=info,a=b=c");
    let mut server = Server::run(command.arg("127.0.0.1:0"), 1);
    assert_eq!(
        server.err.next(),
        "echo-server: warning: ignoring 'a=b=c' in RUST_LOG: expected LEVEL or TARGET=LEVEL"
    );
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    server.err.next_with("shutting down"); // the rest of RUST_LOG is respected
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn invalid_rust_log_is_harmless_if_stderr_is_full_or_closed() {
    let (_reader, full) = full_pipe();
    let full_device = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stderr in [full_device.into(), pipe().1, full] {
        let mut command = server_command();
        command.arg("127.0.0.1:0").env("RUST_LOG", "a=b=c").stdout(Stdio::piped()).stderr(stderr);
        let mut process = Process::spawn(&mut command);
        let line = Lines::of(process.child.stdout.take().unwrap()).next();
        ping(&mut connect(line.strip_prefix("listening on ").unwrap()), b"x");
        process.signal(Signal::TERM);
        assert_eq!(process.wait_code(), 0);
    }
}

#[test]
fn trace_level_logs_each_turn_also_one_that_only_slept() {
    let port = DeadPort::new();
    let mut command = client_command();
    command.args(["-vvv", "--reconnect", &port.1.to_string()]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let err = Lines::of(process.child.stderr.take().unwrap());
    let lines = std::iter::repeat_with(|| err.next()).filter(|line| line.starts_with("turn "));
    let numbers: Vec<u32> =
        lines.take(6).map(|line| line["turn ".len()..].split(':').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn unread_stderr_pipe_never_blocks_the_server() {
    let mut command = server_command();
    command.args(["-vvv", "127.0.0.1:0"]).stdout(Stdio::piped());
    let (reader, writer) = full_pipe();
    command.stderr(writer);
    let mut process = Process::spawn(&mut command);
    let out = Lines::of(process.child.stdout.take().unwrap());
    let line = out.next();
    let address = line.strip_prefix("listening on ").unwrap();
    for _ in 0..100 {
        ping(&mut connect(address), b"x");
        process.signal(Signal::USR1); // statistics bypass the log level
    }
    drop(reader); // from now on the pipe has no reader
    for _ in 0..100 {
        ping(&mut connect(address), b"x");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn stopped_terminal_as_stderr_never_blocks_the_server() {
    let mut terminal = Terminal::new();
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut command = server_command();
    command.args(["-vvv", &format!("unix:{}", path.display())]);
    let mut process = Process::spawn(command.stdout(terminal.stdio()).stderr(terminal.stdio()));
    terminal.see("listening on unix:");
    terminal.type_in("\x13"); // ^S
    for _ in 0..500 {
        ping(&mut connect_unix(&path), b"x");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 0);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn help_exits_1_if_stdout_fails() {
    for command in [server_command(), client_command()].iter_mut() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let process = Process::spawn(command.arg("--help").stdout(full).stderr(Stdio::piped()));
        let (mut process, reason) = (process, "No space left on device");
        let stderr = Lines::of(process.child.stderr.take().unwrap()).rest();
        assert_eq!(process.wait_code(), 1);
        assert_one_line(&stderr.join("\n"), &[": cannot write standard output: ", reason]);
    }
}

#[test]
fn verbosity_options_and_rust_log_set_the_log_level() {
    for (arguments, rust_log, expected) in [
        ("", "", "W"),
        ("-q", "", ""),
        ("-v", "", "WI"),
        ("-vv", "", "WID"),
        ("-vvv", "", "WIDT"),
        ("-q -v", "", "WI"),
        ("-vvv -q", "", ""),
        ("-vvv", "error", ""),
        ("-q", "debug", "WID"),
    ] {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // replacing it logs a debug message
        let mut command = server_command();
        command.args(arguments.split_whitespace()).args([
            "--grace",
            "0",
            &format!("unix:{}", path.display()),
        ]);
        if !rust_log.is_empty() {
            command.env("RUST_LOG", rust_log);
        }
        let mut server = Server::run(&mut command, 1);
        let mut stream = connect_unix(&path);
        ping(&mut stream, b"x");
        server.process.signal(Signal::TERM);
        assert_eq!(server.process.wait_code(), 0);
        let lines = server.err.rest();
        let logged = [
            ("W", "echo-server: warning: 1 connection had not finished"),
            ("I", "echo-server: connection 1 from unix:"),
            ("D", "echo-server: debug: replacing the stale socket "),
            ("T", "turn "),
        ];
        let found = logged.iter().filter(|(_, text)| lines.iter().any(|line| line.starts_with(text)));
        let found: String = found.map(|(level, _)| *level).collect();
        assert_eq!(found, expected, "{arguments} {rust_log}: {lines:#?}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn unread_stdout_does_not_block_the_console() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let (reader, full) = full_pipe();
    let mut command = server_command();
    command.args(["--console", "--grace", "0.1", &format!("unix:{}", path.display())]);
    let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()));
    let err = Lines::of(process.child.stderr.take().unwrap());
    eventually("the server listens", || UnixStream::connect(&path).is_ok());
    let mut operator = process.child.stdin.take().unwrap();
    let mut peer = connect_unix(&path);
    operator.write_all(&b"help\n".repeat(150_000)).unwrap();
    operator.write_all(b"say hello\n").unwrap();
    peer.read_exact(&mut [0; 6]).unwrap(); // by now the console has read all commands
    assert!(process.resident() < 30 << 10, "the replies are dropped: {} KiB", process.resident());
    drop(reader);
    operator.write_all(b"help\nsay again\n").unwrap();
    peer.read_exact(&mut [0; 6]).unwrap();
    operator.write_all(b"help\nquit\n").unwrap();
    assert_eq!(process.wait_code(), 1);
    let lines = err.rest();
    let failed: Vec<_> = lines.iter().filter(|line| line.contains("cannot write standard output")).collect();
    assert_eq!(failed, ["echo-server: cannot write standard output: Broken pipe"], "{lines:?}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn server_never_changes_descriptor_flags() {
    for nonblocking in [false, true] {
        let (pipes, flags) = ([pipe(), pipe(), pipe()], rustix::fs::OFlags::NONBLOCK);
        for (reader, writer) in &pipes {
            for end in [reader, writer] {
                rustix::fs::fcntl_setfl(end, if nonblocking { flags } else { flags ^ flags }).unwrap();
            }
        }
        let [(stdin, operator), (out, stdout), (_err, stderr)] = &pipes;
        let mut command = server_command();
        command.args(["-v", "--console", "127.0.0.1:0"]);
        command.stdin(stdin.try_clone().unwrap()).stdout(stdout.try_clone().unwrap());
        let mut process = Process::spawn(command.stderr(stderr.try_clone().unwrap()));
        rustix::io::write(operator, b"help\n").unwrap();
        process.comes_to_rest();
        rustix::io::read(out, &mut [0; 100]).unwrap();
        let unchanged = || [stdin, stdout, stderr].iter().all(|end| is_nonblocking(end) == nonblocking);
        assert!(unchanged());
        process.signal(Signal::KILL);
        process.wait();
        assert!(unchanged());
    }
}

#[test]
fn debug_level_shows_where_backpressure_pauses_and_resumes_reading() {
    let scratch = Scratch::new();
    // The kernel's buffers of a Unix socket are small.
    let server = Server::on(&[&format!("unix:{}", scratch.path("socket").display())], &["-vv"]);
    // Reading is paused when more than 64 KiB wait, and the line ends with how many bytes wait.
    let assert_full = |line: &str| {
        let count = line.strip_suffix(" bytes").and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count > 64 << 10), "{line}");
    };
    for (option, outstanding) in [("-vv", "unsent"), ("-vvr", "not echoed")] {
        let mut command = client_command();
        command.args([option, server.address()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = Process::spawn(command.stderr(Stdio::piped()));
        let err = Lines::of(client.child.stderr.take().unwrap());
        let mut stdin = client.child.stdin.take().unwrap();
        let input = thread::spawn(move || stdin.write_all(&vec![7; 4 << 20]));
        // Nobody reads stdout, so every buffer on the way fills up.
        let first = err.next_with("debug: reading from the server is ");
        assert!(first.ends_with(" paused; standard output is full"), "only changes are logged: {first}");
        let paused = server.err.next_with("reading is paused");
        assert!(paused.contains("debug: connection ") && paused.contains("; unsent: "), "{paused}");
        assert_full(&paused);
        assert_full(&err.next_with(&format!("debug: reading standard input is paused; {outstanding}: ")));
        let out = collect(client.child.stdout.take().unwrap());
        let mut rest = Vec::new();
        for text in ["debug: reading from the server is resumed", "debug: reading standard input is resumed"]
        {
            while !rest.iter().any(|line: &String| line.contains(text)) {
                rest.push(err.next());
            }
        }
        server.err.next_with("reading is resumed");
        assert_eq!(out.recv_timeout(common::PATIENCE).unwrap().len(), 4 << 20);
        input.join().unwrap().unwrap();
        assert_eq!(client.wait_code(), 0);
    }
}
