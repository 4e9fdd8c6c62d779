//! A loop that calls `receive` once for each event of an edge-triggered socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Peer;
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

use crate::judge::{Verdict, doing, ensure, stop};

/// A connection, as it is in the table of the loop.
pub struct Connection {
    pub stream: Stream,
    /// The bytes that were read.
    pub received: Vec<u8>,
    /// Whether a read may succeed. An event sets it.
    pub readable: bool,
    /// Whether a read has returned 0.
    pub at_eof: bool,
}

/// A socket that counts its reads.
pub struct Stream {
    socket: UnixStream,
    /// The next reads fail with these.
    failures: VecDeque<ErrorKind>,
    /// Reads since the last one that returned bytes, and what they returned.
    in_vain: usize,
    would_block: bool,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match self.failures.pop_front() {
            Some(kind) => Err(kind.into()),
            None => self.socket.read(buffer),
        };
        self.would_block = matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.in_vain = if matches!(result, Ok(1..)) { 0 } else { self.in_vain + 1 };
        match result {
            Ok(0) if buffer.is_empty() => stop("`read` was called with an empty buffer".to_owned()),
            Ok(0) if self.in_vain == 1000 => {
                stop("`read` was called 1,000 times after the end of file: it returns 0 each time".to_owned())
            }
            Err(error) if self.in_vain == 1000 => {
                stop(format!("`read` was called 1,000 times after `{:?}`: the loop is busy", error.kind()))
            }
            result => result,
        }
    }
}

type Receive = fn(&mut Connection) -> io::Result<()>;

struct Loop {
    receive: Receive,
    poll: Poll,
    connection: Connection,
    peer: Peer,
    sent: Vec<u8>,
}

pub fn check(receive: Receive) -> Verdict {
    doing("in `receive`");
    let mut calm = Loop::new(receive);
    calm.send(b"hello");
    calm.handle_event()?;
    calm.send(&(0..100).collect::<Vec<_>>());
    calm.handle_event()?;
    calm.send(b"bye");
    calm.peer.shutdown(Shutdown::Write).unwrap();
    calm.handle_event()?;
    ensure!(
        calm.connection.at_eof,
        "3 bytes and the end of file came in one event. `at_eof` is still false, and no other event comes"
    );

    let mut interrupted = Loop::new(receive);
    interrupted.connection.stream.failures = [ErrorKind::Interrupted].into();
    interrupted.send(b"hello");
    interrupted.handle_event()?;

    let mut reset = Loop::new(receive);
    reset.connection.stream.failures = [ErrorKind::ConnectionReset].into();
    reset.send(b"hello");
    let result = reset.call();
    ensure!(
        matches!(&result, Err(error) if error.kind() == ErrorKind::ConnectionReset),
        "`read` failed with ConnectionReset, and `receive` returned {result:?}: the loop has to know, or \
         the connection stays forever"
    );
    Ok(())
}

impl Loop {
    fn new(receive: Receive) -> Self {
        let (mut socket, peer) = UnixStream::pair().unwrap();
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut socket, Token(0), Interest::READABLE).unwrap();
        let stream = Stream { socket, failures: VecDeque::new(), in_vain: 0, would_block: false };
        let connection = Connection { stream, received: Vec::new(), readable: false, at_eof: false };
        Loop {
            receive,
            poll,
            connection,
            peer: Peer::from(std::os::fd::OwnedFd::from(peer)),
            sent: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.peer.write_all(bytes).unwrap();
        self.sent.extend(bytes);
    }

    fn has_event(&mut self) -> bool {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    fn call(&mut self) -> io::Result<()> {
        assert!(self.has_event());
        self.connection.readable = true;
        (self.receive)(&mut self.connection)
    }

    fn handle_event(&mut self) -> Verdict {
        let is_interrupted = !self.connection.stream.failures.is_empty();
        let had = self.connection.received.len();
        let result = self.call();
        if let Err(error) = result {
            let reason = match error.kind() {
                ErrorKind::WouldBlock => "it only means that nothing is left to read now",
                ErrorKind::Interrupted => "a signal came first, so call `read` once more",
                _ => "no read has failed",
            };
            ensure!(false, "`receive` returned the error {:?}: {reason}", error.kind());
        }
        let (sent, received) = (self.sent.len() - had, self.connection.received.len() - had);
        if received < sent {
            assert!(!self.has_event());
            let when = match received {
                _ if is_interrupted => " after `Interrupted`",
                16 => ", as many as `buffer` holds",
                _ => "",
            };
            ensure!(
                false,
                "{sent} bytes have arrived, and `receive` took {received}{when}. No event comes for the rest"
            );
        }
        ensure!(
            self.connection.received == self.sent,
            "the bytes in `received` are not those that were sent"
        );
        let Connection { readable, at_eof, stream, .. } = &self.connection;
        ensure!(
            *at_eof || stream.would_block,
            "`receive` returned before `WouldBlock`. Here that was all, but the end of file may be there, \
             and no event comes for it"
        );
        ensure!(
            *at_eof || !readable,
            "`readable` is still true after `WouldBlock`: the loop would call `receive` needlessly, forever"
        );
        Ok(())
    }
}
