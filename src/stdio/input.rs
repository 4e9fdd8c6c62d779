//! Reading stdin, or any descriptor, into a mailbox.
//!
//! Invariant: nothing is read that there is no room for, and all that was read is in the mailbox or in
//! `pending`. Lines are cut here and nowhere else: a buffered reader on top of a descriptor that is
//! polled would hold lines that no readiness tells of.
//!
//! Read next: `output.rs`.

use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use mio::Interest;

use super::{Descriptor, Direction};
use crate::mailbox::{Mailbox, Room};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source};

/// The largest chunk, and the longest line that is not cut.
const CHUNK: usize = 64 * 1024;

/// Reads in one turn.
const RATION: usize = 4;

/// What an [`Input`] puts into its mailbox: bytes, or, as the last item, why there are no more.
pub type Chunk = io::Result<Vec<u8>>;

/// How bytes are cut into items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As they come: what one read gave.
    Bytes,
    /// Line by line, each with its newline. A line of more than 64 KiB comes in pieces, of which only
    /// the last has one; so does a last line without a newline.
    Lines,
}

#[derive(PartialEq, Eq)]
enum State {
    Reading,
    /// The end was read; what is pending has yet to be delivered.
    Ended,
}

/// A source that reads a descriptor to its end, and then closes the mailbox.
pub struct Input {
    descriptor: Descriptor,
    framing: Framing,
    mailbox: Handle<Mailbox<Chunk>>,
    /// Read, but not delivered: the beginning of a line, or lines that wait for room.
    pending: Vec<u8>,
    readable: bool,
    state: State,
}

impl Input {
    /// Begins to read `descriptor` (asyncio: `connect_read_pipe`, for what that cannot do, too). It is
    /// duplicated; its flags stay as they are.
    ///
    /// ```
    /// use echo_reactor::{Framing, Input, Mailbox, Reactor};
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let lines = Mailbox::new(&mut reactor, 16);
    /// Input::open(&mut reactor, &std::io::stdin(), Framing::Lines, lines)?;
    /// // ... and a protocol calls lines.take(transport.reactor(), id) when it is woken
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of [`Descriptor::open`], and of [`Reactor::add`].
    pub fn open(
        reactor: &mut Reactor,
        descriptor: &impl AsFd,
        framing: Framing,
        mailbox: Handle<Mailbox<Chunk>>,
    ) -> io::Result<Handle<Input>> {
        let descriptor = Descriptor::open(descriptor, Direction::Read)?;
        let pollable = descriptor.is_pollable();
        let input = Input {
            descriptor,
            framing,
            mailbox,
            pending: Vec::new(),
            readable: true,
            state: State::Reading,
        };
        let handle =
            if pollable { reactor.add_lent(input, Interest::READABLE)? } else { reactor.insert(input) };
        reactor.call_again(handle.id());
        Ok(handle)
    }

    fn read(&mut self, id: Id, reactor: &mut Reactor) {
        let result: io::Result<()> = reactor.with_scratch(|reactor, scratch| {
            let count = self.descriptor.read(&mut scratch[..CHUNK])?;
            if count == 0 {
                self.state = State::Ended;
            } else if self.framing == Framing::Bytes {
                self.put(id, reactor, Ok(scratch[..count].to_vec()));
            } else {
                self.pending.extend_from_slice(&scratch[..count]);
            }
            Ok(())
        });
        let Err(error) = result else { return };
        match error.kind() {
            ErrorKind::Interrupted => {}
            // A device that is non-blocking already and that epoll does not take.
            ErrorKind::WouldBlock => self.readable = !self.descriptor.is_pollable(),
            // The terminal is gone, or another process group has it: as good as its end.
            _ if error.raw_os_error() == Some(libc::EIO) && self.descriptor.as_fd().is_terminal() => {
                self.state = State::Ended;
            }
            _ => {
                self.state = State::Ended;
                self.put(id, reactor, Err(error));
            }
        }
    }

    /// Delivers the pending lines that there is room for. `false`: there was not room for all.
    fn deliver_lines(&mut self, id: Id, reactor: &mut Reactor) -> bool {
        let mut start = 0;
        let mut room = true;
        while let Some(length) = self.next_line(start) {
            room = self.mailbox.room(reactor, id) == Room::Free;
            if !room {
                break;
            }
            self.put(id, reactor, Ok(self.pending[start..start + length].to_vec()));
            start += length;
        }
        self.pending.drain(..start);
        room
    }

    /// The length of the line at `start`, if it is whole, or as whole as it will be.
    fn next_line(&self, start: usize) -> Option<usize> {
        let rest = &self.pending[start..];
        match rest.iter().take(CHUNK).position(|&byte| byte == b'\n') {
            Some(index) => Some(index + 1),
            None if rest.len() >= CHUNK => Some(CHUNK),
            None if self.state == State::Ended && !rest.is_empty() => Some(rest.len()),
            None => None,
        }
    }

    /// There is room: it was asked for. Where the mailbox is closed, nobody wants it.
    fn put(&self, id: Id, reactor: &mut Reactor, chunk: Chunk) {
        let _ = self.mailbox.put(reactor, id, chunk);
    }
}

impl Source for Input {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.readable |= ready.is(Ready::READABLE);
        for _ in 0..RATION {
            let delivered = self.deliver_lines(id, reactor);
            match self.mailbox.room(reactor, id) {
                Room::Closed => return Next::Done,
                Room::Full => return Next::Wait,
                Room::Free if !delivered => return Next::Again,
                Room::Free => {}
            }
            if self.state == State::Ended {
                self.mailbox.close(reactor);
                return Next::Done;
            }
            if !self.readable {
                return Next::Wait;
            }
            self.read(id, reactor);
        }
        Next::Again
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
