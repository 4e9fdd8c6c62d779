//! Fuzzing the readers of the streams: bytes arrive in any pieces, and each read is compared with a
//! reference that sees all bytes at once.
//!
//! `stream_properties.rs` tests what this file does not: wake-ups, writers, and both halves at
//! once.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, process};

use echo_reactor::{Address, LineBuffer, ListenOptions, Reactor, Reader, Task, start_server};

use super::input::Input;

#[derive(Clone, Copy, Debug)]
enum Read {
    Some(usize),
    Exactly(usize),
    Line(usize),
    Until(u8, usize),
}

type Outcome = Result<Option<Vec<u8>>, ErrorKind>;

/// Returns what `read` must return when `bytes` have arrived, or `None` if it must wait.
fn reference(read: Read, bytes: &[u8], is_at_end: bool) -> Option<Outcome> {
    let (delimiter, limit) = match read {
        Read::Some(_) if bytes.is_empty() => return is_at_end.then_some(Ok(Some(Vec::new()))),
        Read::Some(most) => return Some(Ok(Some(bytes[..most.min(bytes.len())].to_vec()))),
        Read::Exactly(count) if count <= bytes.len() => return Some(Ok(Some(bytes[..count].to_vec()))),
        Read::Exactly(_) => return is_at_end.then_some(Err(ErrorKind::UnexpectedEof)),
        Read::Line(limit) => (b'\n', limit),
        Read::Until(delimiter, limit) => (delimiter, limit),
    };
    match bytes.iter().take(limit).position(|&byte| byte == delimiter) {
        Some(index) => Some(Ok(Some(bytes[..=index].to_vec()))),
        None if bytes.len() > limit => Some(Err(ErrorKind::InvalidData)),
        None if !is_at_end => None,
        None if bytes.is_empty() => Some(Ok(None)),
        None if matches!(read, Read::Line(_)) => Some(Ok(Some(bytes.to_vec()))),
        None => Some(Err(ErrorKind::UnexpectedEof)),
    }
}

async fn take(reader: &mut Reader, read: Read) -> io::Result<Option<Vec<u8>>> {
    match read {
        Read::Some(most) => {
            let mut buffer = vec![0; most];
            let count = reader.read(&mut buffer).await?;
            buffer.truncate(count);
            Ok(Some(buffer))
        }
        Read::Exactly(count) => reader.read_exactly(count).await.map(Some),
        Read::Line(limit) => reader.read_line(limit).await,
        Read::Until(delimiter, limit) => reader.read_until(delimiter, limit).await,
    }
}

/// A read that runs, and its result.
struct Pending {
    read: Read,
    task: Task<()>,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

pub fn run(data: &[u8]) {
    lines(data);
    let mut input = Input::new(data);
    let mut reactor = Reactor::new().unwrap();
    let (reader, mut peer) = accept(&mut reactor);
    let (mut bytes, mut is_at_end, mut pending) = (Vec::new(), false, None);
    while !input.is_empty() {
        match input.byte() {
            size @ 0..=99 if !is_at_end => {
                let arrived = input.bytes(size.into());
                // The kernel's buffer is full after some hundred pieces, also of one byte.
                let count = peer.write(arrived).unwrap_or(0);
                bytes.extend_from_slice(&arrived[..count]);
            }
            100 => {
                is_at_end = true;
                let _ = peer.shutdown(Shutdown::Write);
            }
            101..=109 => {
                let pending: Option<Pending> = pending.take();
                if let Some(pending) = pending {
                    pending.task.cancel(); // and no byte is lost
                }
            }
            110..=119 => reactor.turn(Some(Duration::ZERO)).unwrap(),
            kind @ 120.. if pending.is_none() => {
                let size = usize::from(input.byte());
                let read = match kind % 4 {
                    0 => Read::Some(size.max(1)),
                    1 => Read::Exactly(size),
                    2 => Read::Line(size),
                    _ => Read::Until(input.byte(), size),
                };
                pending = Some(start(&mut reactor, read, &reader));
            }
            _ => {}
        }
        if let Some(Pending { read, task, outcome }) = pending.take() {
            for _ in 0..4 {
                reactor.turn(Some(Duration::ZERO)).unwrap();
            }
            let found = outcome.borrow_mut().take();
            match (found, reference(read, &bytes, is_at_end)) {
                (None, None) => pending = Some(Pending { read, task, outcome }),
                // A read may return less than has arrived, but not nothing.
                (Some(Ok(Some(found))), Some(Ok(Some(expected)))) if matches!(read, Read::Some(_)) => {
                    assert!(expected.starts_with(&found) && found.is_empty() == expected.is_empty());
                    bytes.drain(..found.len());
                }
                (found, expected) => {
                    assert_eq!(found, expected, "{read:?} of {bytes:?}, at the end: {is_at_end}");
                    if let Some(Ok(Some(taken))) = found {
                        bytes.drain(..taken.len());
                    }
                }
            }
        }
    }
    drop((pending, reader, peer));
    for _ in 0..8 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

#[allow(clippy::await_holding_refcell_ref)] // there is one read at a time
fn start(reactor: &mut Reactor, read: Read, reader: &Rc<RefCell<Reader>>) -> Pending {
    let (outcome, reader) = (Rc::new(RefCell::new(None)), reader.clone());
    let result = outcome.clone();
    let task = reactor.handle().unwrap().spawn(async move {
        let taken = take(&mut reader.borrow_mut(), read).await.map_err(|error| error.kind());
        *result.borrow_mut() = Some(taken);
    });
    Pending { read, task, outcome }
}

fn accept(reactor: &mut Reactor) -> (Rc<RefCell<Reader>>, UnixStream) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("echo-fuzz-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = env::temp_dir().join(name);
    let halves = Rc::new(RefCell::new(None));
    let accepted = halves.clone();
    let handler = move |reader, writer| {
        *accepted.borrow_mut() = Some((reader, writer));
        std::future::ready(Ok(()))
    };
    let addresses = [Address::Unix(path.clone())];
    let listener = start_server(reactor, &addresses, &ListenOptions::default(), handler).unwrap();
    let peer = UnixStream::connect(path).unwrap();
    peer.set_nonblocking(true).unwrap();
    loop {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
        if let Some((reader, _)) = halves.borrow_mut().take() {
            reactor.remove(listener.id());
            return (Rc::new(RefCell::new(reader)), peer);
        }
    }
}

/// A `LineBuffer` finds the lines that a search in all bytes finds.
fn lines(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = usize::from(input.byte()).max(1);
    let (mut buffer, mut bytes) = (LineBuffer::new(limit), Vec::new());
    while !input.is_empty() {
        let size = usize::from(input.byte());
        let piece = input.bytes(size);
        buffer.push(piece);
        bytes.extend_from_slice(piece);
        loop {
            let newline = bytes.iter().take(limit).position(|&byte| byte == b'\n');
            let taken = match buffer.next_line() {
                Ok(Some(line)) => {
                    assert_eq!(Some(line.len()), newline.map(|index| index + 1));
                    line
                }
                Ok(None) => {
                    assert!(newline.is_none() && bytes.len() < limit);
                    break;
                }
                Err(_) => {
                    assert!(newline.is_none() && bytes.len() >= limit);
                    buffer.take(limit / 2 + 1)
                }
            };
            assert!(bytes.starts_with(&taken));
            bytes.drain(..taken.len());
            assert_eq!(buffer.len(), bytes.len());
        }
    }
}
