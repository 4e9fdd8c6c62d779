//! What a program may have as stdin and stdout: pipes, FIFOs, terminals.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::{A_WHILE, PATIENCE, Scratch};

/// The reading end, and the writing end.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// The two ends of a FIFO with a name of its own.
pub fn fifo(scratch: &Scratch, name: &str) -> (OwnedFd, OwnedFd) {
    let path = scratch.path(name);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Opened for both, it waits for nobody, and nor do the next two.
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    drop(both);
    std::fs::remove_file(&path).unwrap();
    (reader.into(), writer.into())
}

/// Writes bytes in the background, as far as they are taken, and then closes.
pub fn feed(to: impl Into<OwnedFd>, bytes: &[u8]) -> thread::JoinHandle<()> {
    let (mut to, bytes) = (File::from(to.into()), bytes.to_vec());
    thread::spawn(move || drop(to.write_all(&bytes)))
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

/// Whether the description is non-blocking.
pub fn is_nonblocking(descriptor: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(descriptor).unwrap().contains(rustix::fs::OFlags::NONBLOCK)
}

/// A pseudo-terminal: the test is the person in front of it, and sees what an emulator shows.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    emulator: avt::Terminal,
    /// The beginning of a character whose rest has not come yet.
    incomplete: Vec<u8>,
    pub line: OwnedFd,
}

impl Terminal {
    pub fn new() -> Self {
        Self::with_window(80, 24)
    }

    pub fn with_window(columns: u16, rows: u16) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use rustix::termios::{InputModes, OptionalActions, tcgetattr, tcsetattr};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let line = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        // As terminal emulators do, so that Backspace erases a character and not a byte.
        let mut attributes = tcgetattr(&line).unwrap();
        attributes.input_modes |= InputModes::IUTF8;
        tcsetattr(&line, OptionalActions::Now, &attributes).unwrap();
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

    /// Turns off what the terminal does with lines, its own echo and special keys.
    pub fn set_raw(&self) {
        use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
        let mut attributes = tcgetattr(&self.line).unwrap();
        attributes.make_raw();
        tcsetattr(&self.line, OptionalActions::Now, &attributes).unwrap();
    }

    /// Changes the size of the window, with what it shows.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.line, size).unwrap();
        self.emulator.resize(columns.into(), rows.into());
    }

    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen after what was seen before, and counts it as seen.
    #[track_caller]
    pub fn see(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            if !self.receive(deadline.saturating_duration_since(Instant::now())) {
                panic!("{text:?} never came; the screen shows {:?}", self.shown);
            }
        }
    }

    /// Waits until the last row that is not empty is `text`, and the cursor is behind it.
    #[track_caller]
    pub fn see_row(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.row_of_cursor() != text || self.rows().last().map(String::as_str) != Some(text.trim_end())
        {
            if !self.receive(deadline.saturating_duration_since(Instant::now())) {
                panic!(
                    "{text:?} never came; the screen shows {:#?} and the cursor is behind {:?}",
                    self.rows(),
                    self.row_of_cursor()
                );
            }
        }
    }

    /// What is in front of the cursor in its row.
    pub fn row_of_cursor(&self) -> String {
        let cursor = self.emulator.cursor();
        let line = self.emulator.screen().line(cursor.row).unwrap();
        line.cells()[..cursor.col].iter().filter(|cell| cell.width() > 0).map(|cell| cell.char()).collect()
    }

    /// The rows of the window, without empty ones at the end.
    pub fn rows(&self) -> Vec<String> {
        let rows = self.emulator.screen().visible_lines().map(|line| line.text().trim_end().to_owned());
        without_empty_end(rows.collect())
    }

    /// All lines from the beginning: those that have left the window, too. A line may fill several rows.
    pub fn lines(&self) -> Vec<String> {
        without_empty_end(self.emulator.primary_screen().text())
    }

    /// What is on the screen and was not waited for.
    pub fn unseen(&mut self) -> String {
        while self.receive(A_WHILE) {}
        std::mem::take(&mut self.shown)
    }

    /// Shows what comes next. Returns `false` if nothing comes in this time.
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
