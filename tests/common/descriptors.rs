//! What a program may have as stdin and stdout: pipes, FIFOs, terminals.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

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

/// A pseudo-terminal: the test is the person in front of it.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    pub line: OwnedFd,
}

impl Terminal {
    pub fn new() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let line = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
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
        Terminal { keyboard, screen, shown: String::new(), line }
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
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} never came; the screen shows {:?}", self.shown),
            }
        }
    }

    /// What is on the screen and was not waited for.
    pub fn unseen(&mut self) -> String {
        while let Ok(bytes) = self.screen.recv_timeout(A_WHILE) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        std::mem::take(&mut self.shown)
    }
}
