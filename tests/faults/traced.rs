//! A program under `strace`, which injects a fault and records each system call.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::LIMIT;
use crate::common::{Lines, PATIENCE, Scratch};

/// A program under `strace`.
pub struct Traced {
    pub child: Child,
    log: PathBuf,
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.kill(); // also if the test panics
    }
}

impl Traced {
    /// With `-D`, the program itself is the child of this test, and `strace` is a separate process.
    pub fn spawn(
        program: &str,
        arguments: &[&str],
        scratch: &Scratch,
        fault: Option<&str>,
        ends: [Stdio; 3],
    ) -> Self {
        let log = scratch.path("strace");
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-q", "-o"]).arg(&log);
        command.args(fault.into_iter().flat_map(|fault| ["-e", fault]));
        let [stdin, stdout, stderr] = ends;
        command.arg(program).args(arguments).env_remove("RUST_LOG").env("TERM", "xterm");
        Traced { child: command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap(), log }
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for the first line of stdout. `None` if the program ends or hangs before that.
    pub fn first_line(&mut self, out: &Lines) -> Option<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let has_ended = self.child.try_wait().unwrap().is_some();
            if let Some(line) = out.so_far().into_iter().next() {
                return Some(line);
            }
            if has_ended || Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end of the program. `None` if it hangs.
    pub fn status(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the complete output of `strace`, and returns it.
    pub fn log(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            if log.contains("+++ exited") || log.contains("+++ killed") || Instant::now() > deadline {
                return log;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}
