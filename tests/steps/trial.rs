//! One try to see a behaviour of a step, and what the rows of the table have in common.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{self, Lines, PATIENCE, Process, Server};
use crate::{path, step};

/// Nothing, or a sentence about what happened instead of the behaviour.
pub type Verdict = Result<(), String>;

/// The verdict of a row that cannot be checked here.
pub const UNCHECKED: &str = "it needs strace";

/// Returns from a trial with a sentence, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(format!($($sentence)+));
        }
    };
}
pub(crate) use ensure;

/// One try to see a behaviour of a step.
pub struct Trial<'a> {
    pub step: &'a str,
    /// How long to wait for a result that the table does not expect.
    pub limit: Duration,
    /// Doubles with each try. Times that are part of a behaviour depend on it.
    pub unit: Duration,
    /// The process id and stderr of the server that was started last.
    pub server: &'a Mutex<Option<(u32, Lines)>>,
}

impl Trial<'_> {
    pub fn serve(&self) -> Server {
        self.serve_with_idle_limit(Duration::from_secs(60))
    }

    pub fn serve_with_idle_limit(&self, limit: Duration) -> Server {
        let mut command = step(self.step);
        command.arg("127.0.0.1:0").arg(limit.as_millis().to_string()).stdin(Stdio::piped());
        self.run(&mut command)
    }

    pub fn run(&self, command: &mut Command) -> Server {
        let mut server = Server::run(command.env("RUST_BACKTRACE", "0"), 1);
        let err = mem::replace(&mut server.err, Lines::of(io::empty()));
        *self.server.lock().unwrap() = Some((server.process.child.id(), err));
        server
    }

    /// Under `strace`, with these expressions.
    pub fn serve_traced(&self, trace: &Path, expressions: &[&str], idle_limit: Duration) -> Server {
        let mut command = common::program("strace");
        command.arg("-D").args(expressions.iter().flat_map(|expression| ["-e", expression]));
        command.arg("-o").arg(trace).arg(path(self.step)).arg("127.0.0.1:0");
        command.arg(idle_limit.as_millis().to_string()).stdin(Stdio::piped());
        self.run(&mut command)
    }

    /// Makes each poll take so long that much happens before its events are handled.
    pub fn slow_polls(&self) -> String {
        format!("inject=epoll_wait:delay_exit={}ms", self.unit.as_millis() / 5)
    }

    /// A peer gets its echo.
    pub fn answers(&self, who: &str, stream: &mut TcpStream) -> Verdict {
        stream.set_read_timeout(Some(self.limit)).unwrap();
        let mut echo = [0; 6];
        let result = stream.write_all(b"hello\n").and_then(|()| stream.read_exact(&mut echo));
        ensure!(result.is_ok(), "{who} sent 6 bytes and got no echo: {}", self.reason(result.unwrap_err()));
        ensure!(&echo == b"hello\n", "{who} sent `hello\\n` and got `{}`", echo.escape_ascii());
        Ok(())
    }

    /// A peer has ended its side. It gets these bytes and the end.
    pub fn gets_the_rest(&self, who: &str, stream: &mut TcpStream, bytes: &[u8]) -> Verdict {
        stream.set_read_timeout(Some(self.limit)).unwrap();
        let mut echo = Vec::new();
        // Not more than one byte too many, because a wrong server may send without end.
        let result = stream.take(bytes.len() as u64 + 1).read_to_end(&mut echo);
        let (got, sent) = (echo.len(), bytes.len());
        let end = result.map_or_else(|error| self.reason(error), |_| "then the server closed".to_owned());
        ensure!(got <= sent, "{who} sent {sent} bytes and got more");
        ensure!(got == sent, "{who} got {got} of {sent} bytes: {end}");
        ensure!(echo == bytes, "{who} got other bytes than it sent");
        ensure!(!end.contains("waited"), "{who} got all {sent} bytes, but not the end: {end}");
        Ok(())
    }

    pub fn reason(&self, error: io::Error) -> String {
        match error.kind() {
            ErrorKind::WouldBlock => format!("it waited for {:?}", self.limit),
            kind => self.end_of_the_server().unwrap_or_else(|| match kind {
                ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
                ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
                _ => error.to_string(),
            }),
        }
    }

    /// A process closes its sockets a moment before it has ended.
    fn end_of_the_server(&self) -> Option<String> {
        let id = self.server.lock().unwrap().as_ref()?.0;
        let path = format!("/proc/{id}/stat");
        let has_ended = Trial { limit: self.unit / 2, ..*self }
            .happens(|| fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") Z ")));
        has_ended.then(|| format!("the server has ended{}", self.last_message()))
    }

    /// The end of a sentence about a server that has ended: what it wrote last to stderr.
    pub fn last_message(&self) -> String {
        let server = self.server.lock().unwrap().take();
        let lines = server.map_or(Vec::new(), |(_, err)| err.rest());
        let last = lines.into_iter().rfind(|line| !line.is_empty() && !line.starts_with("note: "));
        last.map_or(String::new(), |line| format!(", and the server's last message is `{line}`"))
    }

    pub fn happens(&self, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + self.limit;
        while !condition() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Sends without reading, until the server takes no more, or `stop` returns true, or the server has
    /// taken `MANY` bytes, or the time is up. Returns how many bytes were sent.
    pub fn send_until_stalled(
        &self,
        server: &Server,
        stream: &mut TcpStream,
        mut stop: impl FnMut() -> bool,
    ) -> usize {
        stream.set_nonblocking(true).unwrap();
        let (mut sent, mut taken_last) = (0, Instant::now());
        // A server that takes nothing may wait for a processor.
        let has_stalled = |quiet: Duration| {
            quiet > self.unit / 2 && (state(&server.process) == 'S' || quiet > 10 * self.unit)
        };
        let deadline = Instant::now() + 2 * PATIENCE;
        while !has_stalled(taken_last.elapsed()) && !stop() && sent < MANY && Instant::now() < deadline {
            match stream.write(&[7; 1 << 16]) {
                Ok(count) => (sent, taken_last) = (sent + count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => break,
            }
        }
        stream.set_nonblocking(false).unwrap();
        sent
    }

    /// Waits until the server has done what it can do, or has used so much CPU time that it spins.
    /// Returns whether it sleeps.
    pub fn wait_until_asleep(&self, server: &Server) -> bool {
        let began = server.process.activity();
        let (mut before, mut is_asleep) = (None, false);
        self.happens(|| {
            thread::sleep(Duration::from_millis(5));
            let now = server.process.activity();
            is_asleep = state(&server.process) == 'S' && before == Some(now);
            before = Some(now);
            is_asleep || now.0 > began.0 + SPINS
        });
        is_asleep
    }

    /// Stops the process while it sleeps. (Step 3 never does.)
    pub fn stop_asleep(&self, server: &Server) {
        let deadline = Instant::now() + self.unit;
        while state(&server.process) != 'S' && Instant::now() < deadline {}
        stop_process(server);
    }
}

/// A server that has taken so many bytes of a peer that reads nothing cannot have kept them all: the
/// kernel's buffers and 8 MiB of its own have room for less.
pub const MANY: usize = 256 << 20;

/// So many clock ticks of CPU time, each of 10 ms, mean that a server spins.
const SPINS: u64 = 4;

/// The calls that `strace` shows of a turn.
pub const TURNS: &str = "trace=epoll_wait,accept4,recvfrom";

/// Returns true when the server has 8 MiB more than now.
pub fn has_grown(server: &Server) -> impl Fn() -> bool {
    let before = server.process.resident();
    move || server.process.resident() > before + (8 << 10)
}

pub fn stop_process(server: &Server) {
    server.process.signal(Signal::STOP);
    common::eventually("the server is stopped", || matches!(state(&server.process), 'T' | 'Z'));
}

pub fn threads(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap().count()
}

pub fn state(process: &Process) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

/// How long a kernel needs at most to move bytes that have room.
pub const QUIET: Duration = Duration::from_millis(5);

/// Repeats a call until it has moved no byte for a while. Returns the number of bytes.
pub fn count(quiet: Duration, mut call: impl FnMut() -> io::Result<usize>) -> usize {
    let (mut sum, mut moved_last) = (0, Instant::now());
    while moved_last.elapsed() < quiet {
        if let Ok(count) = call() {
            (sum, moved_last) = (sum + count, Instant::now());
        }
    }
    sum
}
