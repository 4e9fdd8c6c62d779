//! What the tests share: the real programs, pseudo-terminals, and waiting with a deadline.
#![allow(dead_code, unused_imports)] // each test file uses its part

mod descriptors;
mod network;
mod programs;

pub use descriptors::*;
pub use network::*;
pub use programs::*;

use std::fmt::Debug;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use echo_reactor::{Protocol, Reactor, Transport};

/// How long anything may take before a test gives up. Nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough to see that nothing happens.
pub const A_WHILE: Duration = Duration::from_millis(200);

// ---- waiting

/// Asks again and again until the answer is yes.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Turns the reactor until the condition holds. It may become true elsewhere, in a thread of the test,
/// so no turn sleeps for long.
#[track_caller]
pub fn turn_until(reactor: &mut Reactor, what: &str, mut condition: impl FnMut(&mut Reactor) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition(reactor) {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
}

/// Turns until a turn finds nothing more to do.
pub fn turn_until_quiet(reactor: &mut Reactor) {
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

// ---- bytes

/// Bytes that look random, the same for the same seed. No two places look alike, so a piece that is
/// lost, repeated or moved is seen.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares without printing megabytes.
#[track_caller]
pub fn assert_same_bytes(found: &[u8], expected: &[u8]) {
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        found.len() == expected.len() && first.is_none(),
        "{} bytes where {} were expected; first difference at {first:?}",
        found.len(),
        expected.len(),
    );
}

// ---- protocols

/// The echo server of the documentation, with backpressure.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
}

// ---- places

/// A directory of the test's own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("echo-reactor-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
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

/// A port on which nobody listens, and which nobody else can get while this lives, except a server that
/// is told to share it (`--reuse-port`).
pub struct DeadPort(rustix::fd::OwnedFd, pub SocketAddr);

impl DeadPort {
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        DeadPort(socket, address)
    }
}

// ---- peers

/// A connection to a test's server, with a deadline on each read and write.
#[track_caller]
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same on a Unix socket.
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

/// Sends a message again and again until the peer takes no more. Returns how many bytes it took.
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

/// A server that does with its only connection what a test says.
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

/// Has the next close of the socket send a reset.
pub fn reset_on_close(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// A diagnostic is one line, names these things, and is no panic.
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
