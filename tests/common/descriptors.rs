//! Descriptors for stdin and stdout: pipes, FIFOs and terminals.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::{A_WHILE, PATIENCE, Process, Scratch, program};

/// The read end and the write end.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

/// A blocking pipe that is full from the start.
pub fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'\n'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    (reader, writer)
}

/// Both ends of a FIFO: the read end and the write end.
pub fn fifo(scratch: &Scratch, name: &str) -> (OwnedFd, OwnedFd) {
    let path = scratch.path(name);
    make_fifo(&path);
    // Opening a FIFO in both directions does not block, so neither do the next two opens.
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    drop(both);
    std::fs::remove_file(&path).unwrap();
    (reader.into(), writer.into())
}

/// Creates a FIFO: `mkfifo(1)`. macOS has no `mknodat(2)`.
pub fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Writes bytes in the background until all are written or the reader closes, then closes.
pub fn feed(to: impl Into<OwnedFd>, bytes: &[u8]) -> thread::JoinHandle<()> {
    let (mut to, bytes) = (File::from(to.into()), bytes.to_vec());
    thread::spawn(move || drop(to.write_all(&bytes)))
}

/// Gives a pipe room for 1 MiB. Only Linux can do that.
pub fn enlarge(_pipe: impl AsFd) {
    #[cfg(target_os = "linux")]
    rustix::pipe::fcntl_setpipe_size(_pipe, 1 << 20).unwrap();
}

/// Reads a stream to its end in the background.
pub fn collect(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Whether the open file description is non-blocking.
pub fn is_nonblocking(descriptor: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(descriptor).unwrap().contains(rustix::fs::OFlags::NONBLOCK)
}

/// A pseudo-terminal. The test types at it and reads what a terminal emulator shows.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    emulator: avt::Terminal,
    /// The first bytes of a character whose rest has not arrived yet.
    incomplete: Vec<u8>,
    pub line: OwnedFd,
}

/// Opens a pseudo-terminal: its master, and the end for programs.
pub fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    // A program of another test that inherits the master would keep the terminal open.
    #[cfg(target_os = "linux")]
    let cloexec = OpenptFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let cloexec = OpenptFlags::empty();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | cloexec).unwrap();
    rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let line = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    (master, line.unwrap())
}

impl Terminal {
    pub fn new() -> Self {
        Self::with_window(80, 24)
    }

    pub fn with_window(columns: u16, rows: u16) -> Self {
        let (master, line) = pseudo_terminal();
        #[cfg(not(target_os = "freebsd"))] // `rustix` does not know the flag there
        {
            use rustix::termios::{InputModes, OptionalActions, tcgetattr, tcsetattr};
            // Terminal emulators set this flag, so that Backspace erases a character and not a
            // byte.
            let mut attributes = tcgetattr(&line).unwrap();
            attributes.input_modes |= InputModes::IUTF8;
            tcsetattr(&line, OptionalActions::Now, &attributes).unwrap();
        }
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let emulator = avt::Terminal::with_scrollback(columns.into(), rows.into(), None).unwrap();
        let mut terminal =
            Terminal { keyboard, screen, shown: String::new(), emulator, incomplete: Vec::new(), line };
        terminal.resize(columns, rows);
        terminal
    }

    pub fn stdio(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Starts a shell with job control on this terminal.
    pub fn shell(&self) -> Process {
        let mut command = program("setsid"); // its programs must not ignore SIGINT
        command.args(["--wait", "--ctty", "bash", "--norc", "--noediting"]).env("PS1", "$ ");
        command.env_remove("PROMPT_COMMAND");
        Process::spawn(command.stdin(self.stdio()).stdout(self.stdio()).stderr(self.stdio()))
    }

    /// The process in the foreground of the shell.
    pub fn foreground(&self) -> Pid {
        rustix::termios::tcgetpgrp(&self.keyboard).unwrap()
    }

    /// Turns off line editing, echo and special keys.
    pub fn set_raw(&self) {
        use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
        let mut attributes = tcgetattr(&self.line).unwrap();
        attributes.make_raw();
        tcsetattr(&self.line, OptionalActions::Now, &attributes).unwrap();
    }

    /// Turns off the echo of typed text.
    pub fn set_echo_off(&self) {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let mut attributes = tcgetattr(&self.line).unwrap();
        attributes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&self.line, OptionalActions::Now, &attributes).unwrap();
    }

    /// Changes the size of the window and its content.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.line, size).unwrap();
        self.emulator.resize(columns.into(), rows.into());
    }

    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` appears after the text that was already matched, and marks it as matched.
    #[track_caller]
    pub fn see(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            if !self.receive(deadline.saturating_duration_since(Instant::now())) {
                panic!("{text:?} never appeared; the screen shows {:?}", self.shown);
            }
        }
    }

    /// Waits until the last non-empty row is `text` and the cursor is after it.
    #[track_caller]
    pub fn see_row(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.row_of_cursor() != text || self.rows().last().map(String::as_str) != Some(text.trim_end())
        {
            if !self.receive(deadline.saturating_duration_since(Instant::now())) {
                panic!(
                    "{text:?} never appeared; the screen shows {:#?} and the cursor is after {:?}",
                    self.rows(),
                    self.row_of_cursor()
                );
            }
        }
    }

    /// The text before the cursor in its row.
    pub fn row_of_cursor(&self) -> String {
        let cursor = self.emulator.cursor();
        let line = self.emulator.screen().line(cursor.row).unwrap();
        line.cells()[..cursor.col].iter().filter(|cell| cell.width() > 0).map(|cell| cell.char()).collect()
    }

    /// The rows of the window, without empty rows at the end.
    pub fn rows(&self) -> Vec<String> {
        let rows = self.emulator.screen().visible_lines().map(|line| line.text().trim_end().to_owned());
        without_empty_end(rows.collect())
    }

    /// All lines from the start, including those that have left the window. A line may fill several
    /// rows.
    pub fn lines(&self) -> Vec<String> {
        without_empty_end(self.emulator.primary_screen().text())
    }

    /// The text that has appeared and was not matched by `see`.
    pub fn unseen(&mut self) -> String {
        while self.receive(A_WHILE) {}
        // On a busy machine, text that a program has written may take longer. This mark follows it,
        // unless the terminal is stopped.
        const MARK: &str = "\0\0";
        let mut line = [PollFd::new(&self.line, PollFlags::OUT)];
        poll(&mut line, Some(&Timespec::default())).unwrap();
        if line[0].revents().contains(PollFlags::OUT) {
            rustix::io::write(&self.line, MARK.as_bytes()).unwrap();
            while !self.shown.contains(MARK) {
                assert!(self.receive(PATIENCE), "the terminal shows nothing");
            }
        }
        std::mem::take(&mut self.shown).replace(MARK, "")
    }

    /// The text that has appeared so far and was not matched by `see`.
    pub fn unseen_so_far(&mut self) -> String {
        while self.receive(Duration::ZERO) {}
        std::mem::take(&mut self.shown)
    }

    /// Shows the next output. Returns `false` if none arrives within `limit`.
    fn receive(&mut self, limit: Duration) -> bool {
        let Ok(bytes) = self.screen.recv_timeout(limit) else { return false };
        self.incomplete.extend(bytes);
        let end = match str::from_utf8(&self.incomplete) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.incomplete.len(),
        };
        let text: Vec<u8> = self.incomplete.drain(..end).collect();
        let text = String::from_utf8_lossy(&text);
        self.shown.push_str(&text);
        self.emulator.feed(text.as_ref());
        true
    }
}

fn without_empty_end(mut lines: Vec<String>) -> Vec<String> {
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}
