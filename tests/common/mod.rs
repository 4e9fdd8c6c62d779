//! Helpers that the tests share: the real programs, pseudo-terminals, and waiting with a deadline.
#![allow(dead_code, unused_imports)] // each test file uses some of them

mod descriptors;
mod laboratory;
mod network;
mod programs;
mod tasks;

pub use descriptors::*;
pub use laboratory::*;
pub use network::*;
pub use programs::*;
pub use tasks::*;

use std::fmt::Debug;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use echo_reactor::{Protocol, Reactor, Transport};

/// The time limit of every wait. A test that passes never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test watches to see that nothing happens.
pub const A_WHILE: Duration = Duration::from_millis(200);

// ---- waiting

/// Waits until the condition holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs turns until the condition holds. A thread of the test may make it true, so no turn sleeps
/// for long.
#[track_caller]
pub fn turn_until(reactor: &mut Reactor, what: &str, mut condition: impl FnMut(&mut Reactor) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition(reactor) {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
}

/// Runs turns until nothing more happens.
pub fn turn_until_quiet(reactor: &mut Reactor) {
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

/// The CPU time that this thread has used. Unlike wall time, it does not depend on the machine's
/// load.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

// ---- bytes

/// A small random number generator (xorshift). Its seed must not be 0.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Pseudo-random bytes, the same for the same seed. No two places look alike, so a test sees every
/// piece that is lost, repeated or moved.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares two slices without printing megabytes.
#[track_caller]
pub fn assert_same_bytes(found: &[u8], expected: &[u8]) {
    if found != expected {
        let first = found.iter().zip(expected).position(|(a, b)| a != b);
        let (found, expected) = (found.len(), expected.len());
        panic!("{found} bytes instead of {expected}; first difference at {first:?}");
    }
}

// ---- protocols

/// The echo server of the documentation, with backpressure by default.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
}

// ---- files and ports

/// A temporary directory, removed on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("echo-reactor-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                // A test that was killed, with the same process id, has left it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => {
                    created.unwrap();
                    return Scratch(path);
                }
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port on which nobody listens. While this lives, only a server with `--reuse-port` can listen
/// on it.
pub struct DeadPort(rustix::fd::OwnedFd, pub SocketAddr);

impl DeadPort {
    pub fn new() -> Self {
        let socket = Self::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        DeadPort(socket, address)
    }

    fn bind(address: SocketAddr) -> rustix::fd::OwnedFd {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
        #[cfg(target_os = "linux")]
        let flags = SocketFlags::CLOEXEC; // a program that inherits the port would keep it open
        #[cfg(not(target_os = "linux"))]
        let flags = SocketFlags::empty();
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
        bind(&socket, &address).unwrap();
        socket
    }

    /// Listens on the port, until the listener is dropped.
    pub fn listen(&self) -> TcpListener {
        let socket = Self::bind(self.1);
        rustix::net::listen(&socket, 1).unwrap();
        socket.into()
    }
}

// ---- peers

/// A connection to a server, with a deadline on each read and write.
#[track_caller]
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same for a Unix socket.
#[track_caller]
pub fn connect_unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a message and waits for its echo.
#[track_caller]
pub fn ping(stream: &mut (impl Read + Write), message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_same_bytes(&echo, message);
}

/// Sends a message repeatedly until the peer stops reading. Returns how many bytes were sent.
pub fn send_until_stalled(stream: &mut TcpStream, message: &[u8]) -> usize {
    let chunk = message.repeat(64 * 1024 / message.len());
    let mut sent = 0;
    stream.set_nonblocking(true).unwrap();
    let mut stalled_since = Instant::now();
    while stalled_since.elapsed() < A_WHILE {
        match stream.write(&chunk[sent % chunk.len()..]) {
            Ok(count) => {
                sent += count;
                stalled_since = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

/// A server that accepts one connection and passes it to `f`.
pub fn serve_once<R: Send + 'static>(
    f: impl FnOnce(TcpStream) -> R + Send + 'static,
) -> (String, thread::JoinHandle<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        f(stream)
    });
    (address, thread)
}

/// Ends a connection gracefully, and waits for the other end. A server that is stopped afterwards
/// does not warn that it waits for this connection.
#[track_caller]
pub fn end(stream: &mut TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// Makes the next close of the socket send a reset.
pub fn reset_on_close(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// Asserts that a diagnostic is one line, contains these parts, and is not a panic.
#[track_caller]
pub fn assert_one_line(text: &str, parts: &[&str]) {
    assert_eq!(text.lines().count(), 1, "not one line: {text:?}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!text.contains("panicked"), "{text:?}");
}

pub fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}
