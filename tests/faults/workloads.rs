//! What the programs do while a call fails, and the rules for the result of a run.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::LIMIT;
use crate::common::{self, Lines, PATIENCE, Scratch, Terminal, noise};
use crate::traced::Traced;

/// The result of a run: its description for the table, or the rule that it broke.
pub type Verdict = Result<&'static str, String>;

pub struct Workload {
    pub name: &'static str,
    pub run: fn(&Scratch, Option<&str>) -> (Verdict, String),
}

pub const WORKLOADS: &[Workload] = &[
    Workload { name: "pipe", run: |s, f| client(s, f, &[], Ends::Pipes) },
    Workload { name: "unix", run: |s, f| client_of(s, f, &unix_peer(s), &[], Ends::Pipes) },
    Workload { name: "files", run: |s, f| client(s, f, &[], Ends::Files) },
    Workload { name: "verbose", run: |s, f| client(s, f, &["-vvv"], Ends::Pipes) },
    Workload { name: "check", run: |s, f| client(s, f, &["--check"], Ends::Pipes) },
    Workload { name: "reconnect", run: |s, f| client(s, f, &["--reconnect"], Ends::Pipes) },
    Workload { name: "check-reconnect", run: |s, f| client(s, f, &["--check", "--reconnect"], Ends::Pipes) },
    Workload { name: "progress", run: |s, f| client(s, f, &["--progress"], Ends::Pipes) },
    Workload { name: "timeline", run: |s, f| client(s, f, &["--timeline"], Ends::Pipes) },
    Workload { name: "ping", run: |s, f| client(s, f, &["--ping", "-c3", "-i0", "-w1"], Ends::Pipes) },
    Workload {
        name: "ping-reconnect",
        run: |s, f| client(s, f, &["--ping", "--reconnect", "-c3", "-i0", "-w1"], Ends::Pipes),
    },
    Workload { name: "terminal", run: terminal },
    Workload { name: "server", run: |s, f| server(s, f, "127.0.0.1:0", &["--idle-timeout", "5"]) },
    Workload { name: "server-unix", run: |s, f| server(s, f, "unix", &[]) },
    Workload { name: "server-timeline", run: |s, f| server(s, f, "127.0.0.1:0", &["--timeline"]) },
    Workload { name: "step", run: |s, f| server(s, f, "127.0.0.1:0", &["--step"]) },
    Workload { name: "console", run: |s, f| server(s, f, "127.0.0.1:0", &["--console", "-v"]) },
];

/// How often Enter is pressed with `--step`.
const STEP: Duration = Duration::from_millis(5);

/// Checks the stderr of a program that has failed: lines that name the program and what it tried,
/// and no panic.
fn named(program: &str, code: i32, stderr: &str, fault: Option<&str>) -> Verdict {
    let is_line = |line: &&str| line.starts_with(program);
    let message = stderr.lines().rfind(|line| line.starts_with(&format!("{program}: ")));
    match message {
        _ if stderr.contains("panicked") => Err(format!("a panic: {stderr}")),
        _ if code != 1 => Err(format!("status {code}: {stderr}")),
        None if stderr.is_empty() && fails_writing(fault) => Ok("status 1, and no line could be written"),
        None => Err(format!("status 1 without a line of its own: {stderr:?}")),
        Some(line) if line.matches(": ").count() < 2 => {
            Err(format!("it does not say what was tried: {line}"))
        }
        // Among the lines of -vvv or --progress.
        Some(_) if ["turn 1: ", " echoed, "].iter().any(|other| stderr.contains(other)) => {
            Ok("one line and status 1")
        }
        Some(_) if !stderr.lines().all(|line| is_line(&line)) => Err(format!("stray lines: {stderr}")),
        Some(_) => Ok("one line and status 1"),
    }
}

/// Whether SIGTERM comes during a call.
fn is_terminated(fault: Option<&str>) -> bool {
    fault.is_some_and(|fault| fault.contains("signal=TERM"))
}

/// Whether a `write` fails for good: a line on stdout or stderr may be lost then.
fn fails_writing(fault: Option<&str>) -> bool {
    fault.is_some_and(|fault| fault.starts_with("inject=write:error=") && !fault.contains("EINTR"))
}

#[derive(Clone, Copy)]
enum Ends {
    Pipes,
    Files,
}

/// An echo server without faults: one thread per connection.
fn echo_peer() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    address
}

/// The same on a Unix socket.
fn unix_peer(scratch: &Scratch) -> String {
    let path = scratch.path("peer");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    format!("unix:{}", path.display())
}

fn client(scratch: &Scratch, fault: Option<&str>, options: &[&str], ends: Ends) -> (Verdict, String) {
    client_of(scratch, fault, &echo_peer(), options, ends)
}

/// Runs a client to its end, and judges its status and output.
fn client_of(
    scratch: &Scratch,
    fault: Option<&str>,
    address: &str,
    options: &[&str],
    ends: Ends,
) -> (Verdict, String) {
    let input = noise(100_000, 7);
    let timeline = scratch.path("timeline").display().to_string();
    let mut arguments: Vec<&str> = options.to_vec();
    if options == ["--timeline"] {
        arguments.push(&timeline);
    }
    arguments.extend(["--connect-timeout=0.5", address]);
    let (stdin, stdout): (Stdio, Stdio) = match ends {
        Ends::Pipes => (Stdio::piped(), Stdio::piped()),
        Ends::Files => (
            fs::File::open(scratch.file("in", &input)).unwrap().into(),
            fs::File::create(scratch.path("out")).unwrap().into(),
        ),
    };
    let program = env!("CARGO_BIN_EXE_echo-client");
    let mut traced = Traced::spawn(program, &arguments, scratch, fault, [stdin, stdout, Stdio::piped()]);
    if let Some(mut pipe) = traced.child.stdin.take() {
        let input = input.clone();
        thread::spawn(move || pipe.write_all(&input));
    }
    let stdout = traced.child.stdout.take().map(common::collect);
    let stderr = common::collect(traced.child.stderr.take().unwrap());
    // With --reconnect, a permanent fault makes the client retry forever. The client must report
    // that.
    let is_patient = options.contains(&"--reconnect") && fault.is_some_and(|fault| fault.ends_with('+'));
    let mut status = traced.status(if is_patient { Duration::from_millis(1500) } else { LIMIT });
    traced.kill(); // if it goes on, its output must end
    let output = stdout.map_or_else(
        || fs::read(scratch.path("out")).unwrap(),
        |all| all.recv_timeout(PATIENCE).unwrap_or_default(),
    );
    let stderr = String::from_utf8_lossy(&stderr.recv_timeout(PATIENCE).unwrap_or_default()).into_owned();
    let log = traced.log();
    let is_echoing = !options.iter().any(|option| ["--check", "--ping"].contains(option));
    let verdict = match status.take() {
        None if is_patient && stderr.contains("echo-client") => Ok("tries again, and says so"),
        None => Err(format!("it hangs; stderr: {stderr}")),
        Some(_) if is_echoing && !input.starts_with(&output) => Err("wrong bytes".into()),
        Some(status) if status.code() == Some(0) => {
            let is_valid = |text: String| serde_json::from_str::<serde_json::Value>(&text).is_ok();
            if is_echoing && output.len() < input.len() {
                Err(format!("status 0, but only {} bytes", output.len()))
            } else if options.contains(&"--check")
                && !stderr.contains("100000 bytes came back unchanged")
                && !fails_writing(fault)
            {
                Err(format!("status 0 without a verdict: {stderr}"))
            } else if options.contains(&"--ping") && !String::from_utf8_lossy(&output).contains("3 received")
            {
                Err("status 0, but not all were received".into())
            } else if options == ["--timeline"]
                && stderr.is_empty()
                && !fs::read_to_string(&timeline).is_ok_and(is_valid)
            {
                Err("the timeline is not valid, and no line says so".into())
            } else {
                Ok("unaffected")
            }
        }
        Some(status) => match status.code() {
            None if fault.is_some_and(|f| f.contains("write:error=EPIPE")) => Ok("ends as by SIGPIPE"),
            None if is_terminated(fault) && status.signal() == Some(libc::SIGTERM) => Ok("ends by SIGTERM"),
            code => named("echo-client", code.unwrap_or(-1), &stderr, fault),
        },
    };
    (verdict, log)
}

/// A client on a terminal: a line is typed, and then Ctrl-D.
fn terminal(scratch: &Scratch, fault: Option<&str>) -> (Verdict, String) {
    let address = echo_peer();
    let mut terminal = Terminal::new();
    let ends = [terminal.stdio(), terminal.stdio(), terminal.stdio()];
    let mut traced = Traced::spawn(
        env!("CARGO_BIN_EXE_echo-client"),
        &["--connect-timeout=0.5", &address],
        scratch,
        fault,
        ends,
    );
    terminal.type_in("hello\n\x04");
    let status = traced.status(LIMIT);
    traced.kill();
    let shown = terminal.unseen();
    let verdict = match status.map(|status| status.code()) {
        None => Err(format!("it hangs; the screen shows {shown:?}")),
        Some(_) if shown.contains("panicked") => Err(format!("a panic: {shown}")),
        Some(Some(0)) if !shown.contains("hello\r\n") => Err(format!("status 0 without the echo: {shown:?}")),
        Some(Some(0)) => Ok("unaffected"),
        Some(Some(1)) if shown.contains("echo-client: ") => Ok("one line and status 1"),
        Some(None) if fault.is_some_and(|f| f.contains("EPIPE")) => Ok("ends as by SIGPIPE"),
        Some(None) if is_terminated(fault) => Ok("ends by SIGTERM"),
        // A terminal that has hung up fails like this.
        Some(None) if fault.is_some_and(|f| f.contains("write:error=EIO")) => Ok("ends as by SIGHUP"),
        // The writes to the screen fail, so it can show nothing.
        Some(Some(1)) if fault.is_some_and(|f| f.contains("write")) => Ok("status 1"),
        Some(code) => Err(format!("{code:?}; the screen shows {shown:?}")),
    };
    (verdict, traced.log())
}

/// A server: two peers, one after the other, and SIGTERM.
fn server(scratch: &Scratch, fault: Option<&str>, address: &str, options: &[&str]) -> (Verdict, String) {
    let socket = format!("unix:{}", scratch.path("socket").display());
    let timeline = scratch.path("timeline").display().to_string();
    let mut arguments: Vec<&str> = options.to_vec();
    if options == ["--timeline"] {
        arguments.push(&timeline);
    }
    arguments.push(if address == "unix" { &socket } else { address });
    let program = env!("CARGO_BIN_EXE_echo-server");
    let ends = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
    let mut traced = Traced::spawn(program, &arguments, scratch, fault, ends);
    let out = Lines::of(traced.child.stdout.take().unwrap());
    let err = common::collect(traced.child.stderr.take().unwrap());
    let listening = traced.first_line(&out);
    let mut stdin = traced.child.stdin.take();
    if options.contains(&"--step")
        && let Some(mut stdin) = stdin.take()
    {
        thread::spawn(move || {
            while stdin.write_all(b"\n").is_ok() {
                thread::sleep(STEP);
            }
        });
    }
    let echoes: Vec<Echo> = listening.as_ref().map_or_else(Vec::new, |line| {
        let address = line.strip_prefix("listening on ").unwrap_or(line);
        (0..2).map(|_| echo_from(address)).collect()
    });
    let served = echoes.iter().filter(|echo| **echo == Echo::Complete).count();
    if let Some(stdin) = stdin.as_mut().filter(|_| options.contains(&"--console")) {
        let _ = stdin.write_all(b"list\nsay hello\nquit\n");
    } else {
        traced.signal(Signal::TERM);
    }
    let mut status = traced.status(LIMIT / 4);
    if status.is_none() && options.contains(&"--console") {
        traced.signal(Signal::TERM); // the end of stdin ends the console, not the server
        status = traced.status(LIMIT / 4);
    }
    traced.kill();
    let stderr = String::from_utf8_lossy(&err.recv_timeout(PATIENCE).unwrap_or_default()).into_owned();
    let log = traced.log();
    let is_every = fault.is_some_and(|fault| fault.ends_with('+'));
    let leaked = leaked_descriptor(&log);
    let verdict = match status.map(|status| status.code()) {
        // The byte that wakes the loop for a signal is written to a socket of our own. Only a
        // broken kernel refuses it.
        None if fails_writing(fault) && is_injected_into(&log, "\\1\", 1)") => Ok("a signal is lost"),
        None => Err(format!("it hangs; stderr: {stderr}")),
        Some(_) if stderr.contains("panicked") => Err(format!("a panic: {stderr}")),
        Some(_) if echoes.contains(&Echo::Wrong) => Err("wrong bytes".into()),
        Some(Some(0)) if leaked.is_some() => {
            Err(format!("it is never closed: {}", leaked.unwrap_or_default()))
        }
        Some(_) if address == "unix" && scratch.path("socket").exists() && stderr.is_empty() => {
            Err("the socket file is left behind without a word".into())
        }
        // The signal came before there was a handler, or when the server was already ending.
        Some(None) if has_default_action(&log) => Ok("ends by SIGTERM"),
        Some(Some(0)) if served == 2 => Ok("unaffected"),
        Some(Some(0)) if is_terminated(fault) => Ok("shuts down"),
        Some(Some(0)) if served == 1 => Ok("one connection ended"),
        Some(Some(0)) if listening.is_none() && fails_writing(fault) => Ok("its line on stdout is lost"),
        Some(Some(0)) if is_every && listening.is_some() => Ok("every connection ended"),
        Some(Some(0)) => Err(format!("status 0, {served} of 2 served, {listening:?}: {stderr}")),
        Some(code) => named("echo-server", code.unwrap_or(-1), &stderr, fault),
    };
    (verdict, log)
}

/// Whether SIGTERM has its default action at the end of a run.
fn has_default_action(log: &str) -> bool {
    let last = log.lines().rfind(|line| line.contains("rt_sigaction(SIGTERM, {"));
    last.is_none_or(|line| line.contains("{sa_handler=SIG_DFL"))
}

fn is_injected_into(log: &str, call: &str) -> bool {
    log.lines().any(|line| line.contains(call) && line.ends_with("(INJECTED)"))
}

/// An accepted socket that is never closed. A `close` that fails counts.
fn leaked_descriptor(log: &str) -> Option<&str> {
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().enumerate().find_map(|(number, line)| {
        let descriptor = line.split_once("accept4(")?.1.rsplit_once("= ")?.1.parse::<u32>().ok()?;
        let close = format!("close({descriptor})");
        (!lines[number..].iter().any(|line| line.contains(&close))).then_some(*line)
    })
}

#[derive(PartialEq, Eq)]
enum Echo {
    Complete,
    /// The connection was refused, or ended early.
    Partial,
    Wrong,
}

/// Sends a message, and judges what comes back.
fn echo_from(address: &str) -> Echo {
    let message = noise(50_000, 3);
    let mut echo = Vec::new();
    let converse = |stream: &mut dyn ReadWrite, echo: &mut Vec<u8>| {
        let _ = stream.write_all(&message);
        stream.finish();
        let _ = stream.read_to_end(echo);
    };
    let _ = match address.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).map(|mut stream| {
            stream.set_read_timeout(Some(LIMIT / 4)).unwrap();
            converse(&mut stream, &mut echo);
        }),
        None => TcpStream::connect(address).map(|mut stream| {
            stream.set_read_timeout(Some(LIMIT / 4)).unwrap();
            converse(&mut stream, &mut echo);
        }),
    };
    match message.starts_with(&echo) {
        true if echo.len() == message.len() => Echo::Complete,
        true => Echo::Partial,
        false => Echo::Wrong,
    }
}

trait ReadWrite: Read + Write {
    fn finish(&self);
}

impl ReadWrite for TcpStream {
    fn finish(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl ReadWrite for UnixStream {
    fn finish(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}
