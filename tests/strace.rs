//! The system calls that the guide shows are those that the steps make.
//!
//! `UPDATE=1 cargo test --test strace` writes the excerpts in `src/guide/strace/`.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, Process, Scratch, Server, connect};
use rustix::process::{Pid, Signal, kill_process};

/// A step under `strace`. It inherits nothing but stdin, stdout and stderr, so that the numbers of
/// descriptors are always the same.
fn traced(step: &str, trace: &str, options: &[&str]) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_echo-server"));
    let path = path.with_file_name("examples").join(format!("step_{step}"));
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    let mut command = common::program("bash");
    command.args(["-c", "for fd in {3..20}; do eval \"exec $fd>&-\"; done; exec \"$@\"", "bash"]);
    command.args(["strace", "-o", trace]).args(options).arg(path);
    command
}

/// Ends the program that `strace` runs, after its last call.
fn end_traced(process: &mut Process) {
    let strace = process.child.id();
    let child = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
    let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    thread::sleep(Duration::from_millis(20)); // the last call is printed when it returns
    kill_process(child, Signal::TERM).unwrap();
    process.wait();
}

/// The lines from the first one that starts with `from` to the last one that starts with `to`,
/// without the parts that differ from run to run. A repeated sequence is shown once, then `...`.
fn excerpt(trace: &str, from: &str, to: &str) -> String {
    let lines: Vec<_> = trace.lines().filter(|line| !line.starts_with("fcntl(")).map(normalize).collect();
    let first = lines.iter().position(|line| line.starts_with(from)).expect(from);
    let last = lines.iter().rposition(|line| line.starts_with(to)).expect(to);
    let mut shown: Vec<String> = Vec::new();
    for line in &lines[first..=last] {
        shown.push(line.clone());
        for length in [1, 2] {
            // Do the last lines repeat the lines before them?
            let end = shown.len();
            let dots = usize::from(end > length && shown[end - length - 1] == "...");
            if end >= 2 * length + dots
                && shown[end - length..] == shown[end - 2 * length - dots..end - length - dots]
                && !shown[end - length..].contains(&"...".to_owned())
            {
                shown.truncate(end - length - dots);
                shown.push("...".to_owned());
            }
        }
    }
    shown.join("\n") + "\n"
}

/// A line without addresses, port numbers and the text of an error.
fn normalize(line: &str) -> String {
    let line = line.trim_end_matches(" (DELAYED)").split_whitespace().collect::<Vec<_>>().join(" ");
    let line = match line.split_once(" = -1 E") {
        Some((call, error)) => format!("{call} = -1 E{}", error.split(' ').next().unwrap()),
        None => line,
    };
    let mut shown = String::new();
    let mut rest = line.as_str();
    while let Some((before, after)) = ["{sa_family=", "[128", "0x"]
        .iter()
        .filter_map(|start| rest.find(start))
        .min()
        .map(|at| rest.split_at(at))
    {
        shown += before;
        let end = match after.as_bytes()[0] {
            b'{' => after.find('}').unwrap() + 1,
            b'[' => after.find(']').unwrap() + 1,
            _ => after.find([',', ')', ' ']).unwrap_or(after.len()),
        };
        shown += "…";
        rest = &after[end..];
    }
    shown + rest
}

/// Compares the calls of a run with the file. On a loaded machine, two events may be reported as
/// one. So a run that differs is repeated with longer pauses.
fn assert_is_shown(step: &str, run: impl Fn(Duration) -> String) {
    println!("{step}"); // names the step if the test fails
    let path = format!("src/guide/strace/{step}.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all("src/guide/strace").unwrap();
        fs::write(&path, run(Duration::from_millis(100))).unwrap();
    }
    let shown = fs::read_to_string(&path).unwrap_or_default();
    let pauses = [20, 20, 50, 100, 200].map(Duration::from_millis);
    let found: Vec<_> =
        pauses.into_iter().map_while(|pause| Some(run(pause)).filter(|run| *run != shown)).collect();
    if found.len() == pauses.len() {
        panic!("{path} is stale: UPDATE=1 cargo test --test strace\nfound:\n{}", found[0]);
    }
}

/// The calls of a server that echoes a peer.
fn trace_server(step: &str, from: &str, pause: Duration) -> String {
    let scratch = Scratch::new();
    let trace = scratch.path("trace");
    let is_busy = step == "03_busy";
    // The server accepts late, so the data and the end of the stream arrive together.
    let delay = format!("inject=accept4:delay_enter={}ms", pause.as_millis());
    let options = if is_busy { vec![] } else { vec!["-e", &delay] };
    let mut command = traced(step, trace.to_str().unwrap(), &options);
    let mut server = Server::run(command.arg("127.0.0.1:0"), 1);
    let pause = || thread::sleep(if is_busy { pause } else { Duration::ZERO });
    pause();
    let mut stream = connect(server.address());
    pause();
    stream.write_all(b"hello").unwrap();
    if is_busy {
        stream.read_exact(&mut [0; 5]).unwrap();
        pause();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    end_traced(&mut server.process);
    excerpt(&fs::read_to_string(trace).unwrap(), from, "close(")
}

/// The calls of the client: a line, its echo, the end of stdin, the end of the connection.
fn trace_client(pause: Duration) -> String {
    let scratch = Scratch::new();
    let trace = scratch.path("trace");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (stdin, mut keyboard) = std::io::pipe().unwrap();
    let mut command = traced("10_stdin", trace.to_str().unwrap(), &[]);
    command.arg(listener.local_addr().unwrap().to_string()).stdin(stdin).stdout(Stdio::piped());
    let mut client = Process::spawn(&mut command);
    drop(command); // it holds an end of the pipe
    let out = common::Lines::of(client.child.stdout.take().unwrap());
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let pause = || thread::sleep(pause); // so that each event is reported separately
    pause();
    keyboard.write_all(b"hello\n").unwrap();
    let mut line = [0; 6];
    stream.read_exact(&mut line).unwrap();
    pause();
    stream.write_all(&line).unwrap();
    assert_eq!(out.next(), "hello");
    pause();
    drop(keyboard);
    assert_eq!(stream.read(&mut line).unwrap(), 0);
    pause();
    drop(stream);
    assert_eq!(client.wait_code(), 0);
    excerpt(&fs::read_to_string(trace).unwrap(), "openat(AT_FDCWD, \"/proc/self/fd/0\"", "recvfrom(")
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: strace")]
fn steps_make_the_system_calls_that_the_guide_shows() {
    if !common::has_strace() {
        return;
    }
    for (step, from) in [
        ("01_blocking", "accept4("),
        ("03_busy", "accept4("),
        ("04_poll", "ppoll("),
        ("05_epoll", "epoll_wait("),
    ] {
        assert_is_shown(step, |pause| trace_server(step, from, pause));
    }
    assert_is_shown("10_stdin", trace_client);
}

/// The last call of a budget fails, and more peers wait in the kernel's queue.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: strace")]
fn failed_accept_at_the_end_of_a_budget_strands_nobody() {
    if !common::has_strace() {
        return;
    }
    let scratch = Scratch::new();
    // All peers are there when the first poll begins, so there is one event for all.
    let options = [
        "-D",
        "-e",
        "inject=epoll_wait:delay_enter=100ms:when=1",
        "-e",
        "inject=accept4:error=EPERM:when=16",
    ];
    for step in ["07_budget", "08_write_buffer", "09_timers", "11_callbacks", "12_task"] {
        println!("{step}"); // names the step if the test fails
        let trace = scratch.path(step);
        let mut command = traced(step, trace.to_str().unwrap(), &options);
        let mut server = Server::run(command.arg("127.0.0.1:0").stdin(Stdio::piped()), 1);
        let mut peers: Vec<_> = (0..30).map(|_| connect(server.address())).collect();
        for peer in &mut peers {
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.write_all(b"hello").unwrap();
            peer.read_exact(&mut [0; 5]).unwrap();
        }
        server.process.signal(Signal::KILL);
        server.process.wait();
    }
}
