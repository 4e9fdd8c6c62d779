//! A loop that closes a connection, and a peer that talks. Peer and kernel are simulated.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use crate::judge::{Verdict, doing, ensure, stop};

/// How many reads and writes a connection may make in one turn.
pub const BUDGET: usize = 16;

/// A connection that the program has closed.
pub struct Connection {
    pub stream: Stream,
    /// Bytes that the program has written, and the kernel has not taken.
    pub unsent: Vec<u8>,
    /// Whether `stream.shutdown` was called.
    pub is_shut_down: bool,
    /// Whether the time limit has passed.
    pub is_late: bool,
}

/// The next call of `turn`.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// When an event comes, or the time limit has passed.
    Wait,
    /// In the next turn.
    Again,
    /// Never: the loop closes the socket.
    Done,
}

/// A socket. It does not block.
pub struct Stream {
    /// How many bytes have to be sent.
    length: usize,
    sent: Vec<u8>,
    /// How many bytes the kernel takes at the moment.
    room: usize,
    /// How many bytes of the peer are unread.
    unread: usize,
    peer: Peer,
    is_shut_down: bool,
    /// Reads and writes in this turn.
    calls: usize,
}

/// An act of the peer.
#[derive(PartialEq)]
enum Peer {
    Talks,
    /// It sends without a pause.
    Floods,
    Ended,
    HasReset,
}

impl Stream {
    /// Sends the FIN.
    pub fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        let unsent = self.length - self.sent.len();
        if how != Shutdown::Write {
            stop(
                "`shutdown` was called for reading: the peer still talks, and that causes a reset".to_owned(),
            );
        }
        if unsent > 0 {
            stop(format!("`shutdown` was called with {unsent} bytes unsent: nothing can be sent after it"));
        }
        self.is_shut_down = true;
        Ok(())
    }

    fn count(&mut self) {
        self.calls += 1;
        if self.calls == 1000 {
            let reason = match self.peer {
                Peer::Floods => "a peer that sends without a pause stops all others",
                Peer::Ended => "after the peer's end a read returns 0 each time",
                _ => "after `WouldBlock` it has to wait for an event",
            };
            stop(format!("`turn` made 1,000 calls: {reason}"));
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.count();
        let count = match self.peer {
            Peer::HasReset => return Err(ErrorKind::ConnectionReset.into()),
            Peer::Floods => return Ok(buffer.len()),
            Peer::Talks if self.unread == 0 => return Err(ErrorKind::WouldBlock.into()),
            Peer::Talks | Peer::Ended => buffer.len().min(self.unread),
        };
        self.unread -= count;
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count();
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.is_shut_down {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.sent.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Turn = fn(&mut Connection) -> io::Result<Next>;

struct Loop {
    turn: Turn,
    connection: Connection,
}

pub fn check(turn: Turn) -> Verdict {
    doing("in `turn`");
    let mut talk = Loop::new(turn, 10_000);
    talk.expect("the kernel has no room", &Next::Wait)?;
    talk.stream().room = 4000;
    talk.expect("the kernel took 4,000 of 10,000 bytes", &Next::Wait)?;
    (talk.stream().room, talk.stream().unread) = (20_000, 100);
    talk.expect("everything is sent, and the peer still talks", &Next::Wait)?;
    talk.stream().unread = 9000;
    talk.expect("9,000 bytes have come, and the peer still talks", &Next::Wait)?;
    talk.expect("an event came for nothing, and the peer still talks", &Next::Wait)?;
    (talk.stream().unread, talk.stream().peer) = (10, Peer::Ended);
    talk.expect("the peer has ended its side", &Next::Done)?;
    let expected: Vec<_> = (0..10_000).map(|at| at as u8).collect();
    ensure!(talk.stream().sent == expected, "the peer got other bytes than those that were unsent");

    let mut ended = Loop::new(turn, 5);
    (ended.stream().room, ended.stream().peer) = (100, Peer::Ended);
    ended.expect("the peer has ended its side", &Next::Done)?;
    ensure!(ended.stream().is_shut_down, "`turn` returned `Done` and did not call `shutdown`");

    let mut flood = Loop::new(turn, 0);
    flood.stream().peer = Peer::Floods;
    for _ in 0..3 {
        flood.expect("the peer floods", &Next::Again)?;
    }
    flood.connection.is_late = true;
    flood.expect("the time limit has passed, and the peer floods", &Next::Done)?;

    let mut stalled = Loop::new(turn, 5);
    stalled.expect("the kernel has no room", &Next::Wait)?;
    stalled.connection.is_late = true;
    stalled.expect("the time limit has passed, and the peer takes nothing", &Next::Done)?;

    let mut reset = Loop::new(turn, 0);
    reset.stream().peer = Peer::HasReset;
    let result = turn(&mut reset.connection);
    let is_over = !matches!(result, Ok(Next::Wait | Next::Again));
    ensure!(is_over, "`read` failed with ConnectionReset, and `turn` returned {result:?}: it is broken");
    Ok(())
}

impl Loop {
    fn new(turn: Turn, length: usize) -> Self {
        let unsent: Vec<_> = (0..length).map(|at| at as u8).collect();
        let (sent, peer, is_shut_down) = (Vec::new(), Peer::Talks, false);
        let stream = Stream { length, sent, room: 0, unread: 0, peer, is_shut_down, calls: 0 };
        Loop { turn, connection: Connection { stream, unsent, is_shut_down, is_late: false } }
    }

    fn stream(&mut self) -> &mut Stream {
        &mut self.connection.stream
    }

    /// Calls `turn`, and again in the next turns while it asks for that and there is an end to it.
    fn expect(&mut self, when: &str, expected: &Next) -> Verdict {
        for _ in 0..100 {
            self.stream().calls = 0;
            let result = (self.turn)(&mut self.connection);
            let Ok(next) = result else {
                return Err(format!("{when}, and `turn` returned {result:?}: nothing is broken").into());
            };
            let Stream { sent, length, unread, calls, is_shut_down, .. } = self.stream();
            ensure!(*calls <= BUDGET, "`turn` made {calls} calls. Its budget is {BUDGET}");
            let (is_sent, unread, is_shut_down) = (sent.len() == *length, *unread, *is_shut_down);
            let is_closed_early = next == Next::Done && *expected != Next::Done;
            ensure!(
                !is_closed_early || unread == 0,
                "{when}, and `turn` returned `Done`: {unread} bytes of the peer are unread, so `close` sends a reset"
            );
            ensure!(
                !is_closed_early,
                "{when}, and `turn` returned `Done`: what the peer sends after `close` causes a reset"
            );
            if next == Next::Again && *expected != Next::Again {
                continue;
            }
            ensure!(
                next != Next::Wait || !is_sent || is_shut_down,
                "everything is sent, and `turn` did not call `shutdown`: the peer waits for the end"
            );
            ensure!(
                next != Next::Wait || !is_shut_down || unread == 0,
                "{unread} bytes of the peer are unread, and no event comes for them"
            );
            ensure!(next == *expected, "{when}, and `turn` returned `{next:?}`");
            return Ok(());
        }
        let reason = match self.connection.is_late {
            true => "a peer that does not end its side would keep the connection forever",
            false => "the loop is busy",
        };
        Err(format!("{when}, and `turn` returned `Again` 100 times: {reason}").into())
    }
}
