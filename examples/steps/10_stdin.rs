//! Step 10: stdin is a descriptor too. This program is the client of the other steps.
//!
//! The loop waits for stdin and for the socket at the same time, without a thread. Other processes
//! share the open file description of stdin, and `O_NONBLOCK` is a flag of that description. So a
//! terminal or a pipe is opened again. A file cannot be registered with `epoll`, and is always
//! ready. The client stops reading stdin while too much is unsent. A socket as stdin still blocks
//! the loop, and so does a stdout that nobody reads.
//!
//! Try: `cargo run --example step_10_stdin < Cargo.toml`, next to a server. Then type lines, or use
//! a pipe.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const STDIN: Token = Token(0);
const CONNECTION: Token = Token(1);
const BUFFER_SIZE: usize = 1 << 14;
const BUDGET: usize = 16;
const HIGH_WATER: usize = 1 << 16;
const LOW_WATER: usize = 1 << 14;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    let mut client = Client::new(TcpStream::from_std(stream))?;
    let mut events = Events::with_capacity(64);
    while client.turn(&mut events)? != Next::Done {}
    Ok(())
}

struct Client {
    poll: Poll,
    stdin: Stdin,
    connection: Connection,
    /// Whether it stopped early, and goes on in the next turn.
    again: bool,
    buffer: Vec<u8>,
}

impl Client {
    fn new(mut stream: TcpStream) -> io::Result<Self> {
        let (poll, stdin) = (Poll::new()?, Stdin::open()?);
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, CONNECTION, both)?;
        match poll.registry().register(&mut SourceFd(&stdin.file.as_raw_fd()), STDIN, Interest::READABLE) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {} // a file: it is always ready
            result => result?,
        }
        let connection = Connection::new(stream);
        Ok(Client { poll, stdin, connection, again: true, buffer: vec![0; BUFFER_SIZE] })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<Next> {
        let timeout = if self.again { Some(Duration::ZERO) } else { None };
        // The only call that sleeps. Ctrl-Z and `fg` interrupt it.
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Next::Wait),
            result => result?,
        }
        for event in &*events {
            if event.token() == STDIN {
                self.stdin.readable = true; // at its end a pipe reports a hang-up and nothing else
            } else {
                self.connection.readable |= event.is_readable();
                self.connection.writable |= event.is_writable();
            }
        }
        let next = self.exchange()?;
        self.again = next == Next::Again;
        Ok(next)
    }

    /// Copies stdin to the connection, and the connection to stdout.
    fn exchange(&mut self) -> io::Result<Next> {
        for _ in 0..BUDGET {
            match self.stdin.reading {
                Reading::On if self.connection.unsent.len() >= HIGH_WATER => {
                    self.stdin.reading = Reading::Paused;
                }
                Reading::Paused if self.connection.unsent.len() <= LOW_WATER => {
                    self.stdin.reading = Reading::On;
                }
                Reading::AtEof if self.connection.unsent.is_empty() => {
                    self.connection.stream.shutdown(Shutdown::Write)?;
                    self.stdin.reading = Reading::Done;
                }
                _ => {}
            }
            if self.connection.at_eof {
                return Ok(Next::Done);
            }
            if !self.stdin.can_read() && !self.connection.can_read() && !self.connection.can_write() {
                return Ok(Next::Wait);
            }
            if self.stdin.can_read() {
                self.stdin.receive(&mut self.buffer, &mut self.connection.unsent)?;
            }
            if self.connection.can_read() {
                self.connection.receive(&mut self.buffer)?;
            }
            if self.connection.can_write() {
                self.connection.send()?;
            }
        }
        Ok(Next::Again)
    }
}

/// The next call of the client.
#[derive(PartialEq)]
enum Next {
    /// When an event comes.
    Wait,
    /// In the next turn.
    Again,
    /// Never.
    Done,
}

#[derive(PartialEq)]
enum Reading {
    On,
    /// Too much is unsent.
    Paused,
    AtEof,
    /// At the end, and the connection is shut down for writing.
    Done,
}

struct Stdin {
    file: File,
    reading: Reading,
    readable: bool,
}

impl Stdin {
    fn open() -> io::Result<Self> {
        let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            let mut options = File::options();
            options.read(true).custom_flags(libc::O_NONBLOCK);
            file = options.open("/proc/self/fd/0")?;
        }
        Ok(Stdin { file, reading: Reading::On, readable: true })
    }

    fn can_read(&self) -> bool {
        self.readable && self.reading == Reading::On
    }

    fn receive(&mut self, buffer: &mut [u8], unsent: &mut VecDeque<u8>) -> io::Result<()> {
        match self.file.read(buffer) {
            Ok(0) => self.reading = Reading::AtEof,
            Ok(count) => unsent.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

struct Connection {
    stream: TcpStream,
    /// Bytes that were read and are not written yet.
    unsent: VecDeque<u8>,
    at_eof: bool,
    readable: bool,
    writable: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Connection { stream, unsent: VecDeque::new(), at_eof: false, readable: false, writable: false }
    }

    fn can_read(&self) -> bool {
        self.readable && !self.at_eof
    }

    fn can_write(&self) -> bool {
        self.writable && !self.unsent.is_empty()
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.stream.read(buffer) {
            Ok(0) => self.at_eof = true,
            Ok(count) => {
                io::stdout().write_all(&buffer[..count])?;
                io::stdout().flush()?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        match self.stream.write(self.unsent.as_slices().0) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
