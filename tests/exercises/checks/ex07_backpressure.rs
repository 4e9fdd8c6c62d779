//! A loop with one echo connection, whose peer sends much before it reads anything.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use crate::judge::{Verdict, doing, ensure, stop};

/// When so many bytes are unsent, reading pauses.
pub const HIGH_WATER: usize = 1 << 16;

/// When no more than so many bytes are unsent, reading resumes.
pub const LOW_WATER: usize = 1 << 14;

/// The method that the loop calls.
pub trait Echo {
    /// Handles an event. One direction is `true`.
    fn ready(&mut self, readable: bool, writable: bool) -> io::Result<()>;
}

/// The socket of the connection.
pub struct Stream {
    socket: UnixStream,
    state: Rc<State>,
}

/// A record of the calls that the answer makes.
#[derive(Default)]
struct State {
    /// The number of bytes that were read and not written.
    unsent: Cell<usize>,
    is_paused: Cell<bool>,
    /// Reading was still paused when a call of `ready` left no more than `LOW_WATER` unsent.
    is_late: Cell<bool>,
    /// How many bytes the kernel takes before the peer reads.
    room: Cell<usize>,
    write_blocked: Cell<bool>,
    in_vain: Cell<usize>,
}

impl State {
    /// Counts calls that returned `WouldBlock`, or wrote nothing.
    fn count(&self, result: &io::Result<usize>) {
        self.in_vain.set(if matches!(result, Ok(1..)) { 0 } else { self.in_vain.get() + 1 });
        if self.in_vain.get() == 1000 {
            stop("`ready` does not end: it made 1,000 calls that moved no byte".to_owned());
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unsent = self.state.unsent.get();
        if unsent >= HIGH_WATER {
            stop(format!(
                "`read` was called when {unsent} bytes had been read and not written. From {HIGH_WATER} on, \
                 reading has to pause: look at the mark after each `receive`, and throw nothing away"
            ));
        }
        if self.state.is_paused.get() && unsent > LOW_WATER {
            stop(format!(
                "reading was paused, and resumed when {unsent} bytes were unsent. It has to wait until no more \
                 than {LOW_WATER} are: keep `is_paused`, and clear it only after a `send`"
            ));
        }
        if self.state.is_late.get() {
            stop(format!(
                "reading was paused, and resumed too late. It has to resume in the call in which the unsent \
                 bytes fall to {LOW_WATER} or less"
            ));
        }
        let result = self.socket.read(buffer);
        self.state.count(&result);
        self.state.unsent.set(unsent + *result.as_ref().unwrap_or(&0));
        self.state.is_paused.set(self.state.unsent.get() >= HIGH_WATER);
        result
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.state.room.get();
        let result = match bytes.len().min(room).min(10_000) {
            // a kernel may take a part, too
            0 => Err(ErrorKind::WouldBlock.into()),
            count => self.socket.write(&bytes[..count]),
        };
        self.state.room.set(room - *result.as_ref().unwrap_or(&0));
        self.state.count(&result);
        self.state.unsent.update(|unsent| unsent.saturating_sub(*result.as_ref().unwrap_or(&0)));
        self.state.write_blocked.set(matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock));
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Loop<E> {
    connection: E,
    state: Rc<State>,
    /// The same socket once more, to see what is in it.
    socket: UnixStream,
    peer: UnixStream,
    sent: Vec<u8>,
    received: Vec<u8>,
}

pub fn check<E: Echo>(new: fn(Stream) -> E) -> Verdict {
    doing("in `ready`");
    let (socket, peer) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    let state = Rc::new(State { room: Cell::new(50_000), ..State::default() });
    let stream = Stream { socket: socket.try_clone().unwrap(), state: state.clone() };
    let connection = new(stream);
    let mut all = Loop { connection, state, socket, peer, sent: Vec::new(), received: Vec::new() };
    all.event(false, true)?;

    all.send()?;
    all.receive(usize::MAX)?;
    ensure!(
        all.received.len() == all.sent.len(),
        "the peer sent {} bytes in one piece, and got {} of them back. No second event comes for them, so \
         `ready` has to go on while it can read or write",
        all.sent.len(),
        all.received.len()
    );
    for _ in 0..2 {
        while all.send()? {} // and it does not read
        let (unsent, unread) = (all.state.unsent.get(), all.unread());
        ensure!(
            unread == 0 || unsent >= HIGH_WATER,
            "{unread} bytes have arrived and are not read, but only {unsent} are unsent. `ready` has \
             to go on until `WouldBlock` or the high-water mark, which is {HIGH_WATER}"
        );
        while all.received.len() < all.sent.len() {
            all.receive(4096)?; // now it does
        }
        ensure!(all.received == all.sent, "the peer got other bytes than it sent");
    }
    Ok(())
}

impl<E: Echo> Loop<E> {
    fn event(&mut self, readable: bool, writable: bool) -> Verdict {
        let result = self.connection.ready(readable, writable);
        ensure!(
            result.is_ok(),
            "`ready` returned {result:?}: `WouldBlock` is not an error of the connection"
        );
        Ok(())
    }

    fn unread(&self) -> usize {
        rustix::io::ioctl_fionread(&self.socket).unwrap() as usize
    }

    /// The peer sends a piece. Returns whether there was room for it.
    fn send(&mut self) -> Result<bool, crate::judge::Mistake> {
        let piece: Vec<_> = (self.sent.len()..self.sent.len() + 5000).map(|at| (at / 7) as u8).collect();
        let Ok(count) = self.peer.write(&piece) else { return Ok(false) };
        self.sent.extend(&piece[..count]);
        self.event(true, false)?;
        Ok(true)
    }

    /// The peer reads at most so many bytes.
    fn receive(&mut self, limit: usize) -> Verdict {
        let mut buffer = vec![0; limit.min(1 << 16)];
        let result = self.peer.read(&mut buffer);
        let count = *result.as_ref().unwrap_or(&0);
        self.received.extend(&buffer[..count]);
        self.state.room.update(|room| room + count);
        if count > 0 && self.state.write_blocked.take() {
            self.event(false, true)?;
            let (unsent, unread) = (self.state.unsent.get(), self.unread());
            let is_late = self.state.is_paused.get() && (1..=LOW_WATER).contains(&unsent) && unread > 0;
            self.state.is_late.set(is_late);
            return Ok(());
        }
        let (unsent, unread) = (self.state.unsent.get(), self.unread());
        if count == 0 && self.sent.len() > self.received.len() {
            if unread > 0 && unsent <= LOW_WATER {
                self.state.is_late.set(false);
                self.event(true, false)?; // no kernel reports this, but it shows which part is wrong
                let reason = if self.unread() < unread {
                    "either `ready` makes only one call for an event, and has to go on in a loop; or the bit \
                     `readable` of an earlier event was lost. Neither an event for writing may clear it (use `|=`) \
                     nor a pause, only `WouldBlock`"
                } else {
                    "Reading has to resume, but no event comes for bytes that arrived while it was paused. Read again \
                     after `send`"
                };
                ensure!(
                    false,
                    "{unread} bytes are in the socket and are never read, although only {unsent} are unsent: {reason}"
                );
            }
            ensure!(
                unsent == 0,
                "{unsent} bytes are unsent, the socket has room for them, and they are never written. A \
                 pause is for reading only, and `writable` stays set until a write returns `WouldBlock`"
            );
            ensure!(
                false,
                "the peer sent {} bytes, got {}, and the rest was thrown away",
                self.sent.len(),
                self.received.len()
            );
        }
        Ok(())
    }
}
