//! Reading stdin, or any descriptor, into a mailbox.
//!
//! Invariant: bytes are read only if there is room for them, and everything that was read is in the
//! mailbox or in `lines`. Lines are cut here and nowhere else: a buffered reader on top of a polled
//! descriptor would hold lines for which no readiness event ever comes.
//!
//! A terminal is not read before epoll reports that there is something to read. So a background job
//! whose stdin is the terminal runs until somebody types, instead of being stopped by SIGTTIN.
//!
//! Read next: `output.rs`.

use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use mio::Interest;

use super::{Descriptor, Direction, cancel_retry, schedule_retry};
use crate::lines::LineBuffer;
use crate::mailbox::Mailbox;
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Timer};
use crate::transport::Flow;

/// The size of the largest chunk.
const CHUNK_SIZE: usize = 64 * 1024;

const READS_PER_CALL: usize = 4;

/// An item that an [`Input`] sends to its mailbox: bytes, or, as the last item, the error that
/// ended the input.
pub type Chunk = io::Result<Vec<u8>>;

/// How bytes are cut into items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// As they arrive: each item has the bytes of one read.
    Bytes,
    /// Line by line, each with its newline. A line of more than [`Input::LONGEST_LINE`] bytes comes
    /// in pieces of that size, and only the last piece has a newline. The last line may lack one,
    /// too.
    Lines,
}

/// A source that reads a descriptor to its end, and then closes the mailbox. If the mailbox is
/// closed or removed before that, the source leaves and closes its duplicate of the descriptor.
pub struct Input {
    descriptor: Descriptor,
    framing: Framing,
    mailbox: Handle<Mailbox<Chunk>>,
    /// Bytes that were read and not sent: the beginning of a line, or lines for which the mailbox
    /// has no room.
    lines: LineBuffer,
    readable: bool,
    /// Set after a signal has interrupted a read.
    retry: Option<Timer>,
    at_eof: bool,
    /// The error that ended the input. It is sent last.
    error: Option<io::Error>,
}

impl Input {
    /// The size in bytes, with the newline, of the longest line that is not cut.
    pub const LONGEST_LINE: usize = CHUNK_SIZE;

    /// Begins to read `descriptor` (asyncio: `connect_read_pipe`, but for every kind of
    /// descriptor). The descriptor is duplicated; its flags stay as they are. When the source is
    /// removed, it closes the mailbox. (Of a datagram socket, an empty datagram is the end of file,
    /// as for `read(2)`.)
    ///
    /// ```
    /// use echo_reactor::{Framing, Input, Mailbox, Reactor};
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let lines = Mailbox::new(&mut reactor, 16);
    /// Input::open(&mut reactor, &std::io::stdin(), Framing::Lines, lines)?;
    /// // ... and a protocol calls lines.try_recv(transport.reactor(), id) when it is woken
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Descriptor::open`] and [`Reactor::add`].
    pub fn open(
        reactor: &mut Reactor,
        descriptor: &impl AsFd,
        framing: Framing,
        mailbox: Handle<Mailbox<Chunk>>,
    ) -> io::Result<Handle<Input>> {
        let descriptor = Descriptor::open(descriptor, Direction::Read)?;
        let is_pollable = descriptor.is_pollable();
        // Everything but a terminal is read at once, because there may never be an event: a FIFO
        // that was reopened after its last writer left does not report its end.
        let readable = !descriptor.as_fd().is_terminal();
        let input = Input {
            descriptor,
            framing,
            mailbox,
            lines: LineBuffer::new(Self::LONGEST_LINE),
            readable,
            retry: None,
            at_eof: false,
            error: None,
        };
        let handle =
            if is_pollable { reactor.add(input, Interest::READABLE)? } else { reactor.insert(input) };
        reactor.call_again(handle.id());
        Ok(handle)
    }

    /// Reads once. Returns `false` if a signal interrupted the read.
    fn read(&mut self, id: Id, reactor: &mut Reactor) -> bool {
        let result: io::Result<()> = reactor.with_scratch(|reactor, scratch| {
            let count = self.descriptor.read(&mut scratch[..CHUNK_SIZE])?;
            if count == 0 {
                self.at_eof = true;
            } else if self.framing == Framing::Bytes {
                self.send(id, reactor, Ok(scratch[..count].to_vec()));
            } else {
                self.lines.push(&scratch[..count]);
            }
            Ok(())
        });
        let Err(error) = result else { return true };
        match error.kind() {
            ErrorKind::Interrupted => return false,
            // A device that epoll refuses may be non-blocking already. No event reports when it is
            // ready.
            ErrorKind::WouldBlock => self.readable = !self.descriptor.is_pollable(),
            // The terminal is gone, or belongs to another process group. Both count as the end of
            // file.
            _ if error.raw_os_error() == Some(libc::EIO) && self.descriptor.as_fd().is_terminal() => {
                self.at_eof = true;
            }
            _ => {
                self.at_eof = true;
                self.error = Some(error);
            }
        }
        true
    }

    /// Sends the lines for which there is room.
    fn send_lines(&mut self, id: Id, reactor: &mut Reactor) {
        while !self.lines.is_empty() && self.mailbox.flow(reactor, id) == Flow::Open {
            let line = match self.lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) if !self.at_eof => break,
                Ok(None) | Err(_) => self.lines.take(Self::LONGEST_LINE), // the last line, or a piece of a long one
            };
            self.send(id, reactor, Ok(line));
        }
    }

    /// Sends a chunk. The caller has checked that there is room. If the mailbox is closed, the
    /// chunk is dropped.
    fn send(&self, id: Id, reactor: &mut Reactor, chunk: Chunk) {
        let _ = self.mailbox.try_send(reactor, id, chunk);
    }
}

impl Handle<Input> {
    /// Returns whether something was read that is not received yet.
    #[cfg(feature = "cli")]
    pub(crate) fn has_unreceived(self, reactor: &Reactor) -> bool {
        reactor.get(self).is_ok_and(|input| !input.lines.is_empty() || !input.mailbox.is_empty(reactor))
    }
}

impl Source for Input {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.readable |= ready.intersects(Ready::READABLE);
        for _ in 0..READS_PER_CALL {
            self.send_lines(id, reactor);
            match self.mailbox.flow(reactor, id) {
                Flow::Closed => return Next::Done,
                Flow::Full => return Next::Wait,
                Flow::Open => {}
            }
            if let Some(error) = self.error.take() {
                self.send(id, reactor, Err(error));
                continue;
            }
            if self.at_eof {
                return Next::Done;
            }
            if !self.readable {
                self.mailbox.wake_when_closed(reactor, id);
                return Next::Wait;
            }
            if !self.read(id, reactor) {
                schedule_retry(&mut self.retry, id, reactor);
                return Next::Wait;
            }
        }
        Next::Again
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        self.mailbox.close(reactor);
        cancel_retry(&mut self.retry, reactor);
        if self.descriptor.is_pollable() {
            // Explicitly, because another process may keep it open.
            let _ = reactor.deregister(id, &self.descriptor);
        }
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

crate::opaque_debug!(Input);

#[cfg(test)]
#[cfg(feature = "cli")]
mod tests {
    use super::*;
    use crate::mailbox::TryRecv;
    use std::io::Write;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn half_a_line_and_an_item_in_the_mailbox_count_as_unreceived() {
        // A read that blocks must fail the test, so another thread does it.
        let (sender, done) = mpsc::channel();
        thread::spawn(move || {
            check_unreceived();
            let _ = sender.send(());
        });
        done.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    fn check_unreceived() {
        let mut reactor = Reactor::new().unwrap();
        let (reading, mut writing) = io::pipe().unwrap();
        let mailbox = Mailbox::new(&mut reactor, 1);
        let input = Input::open(&mut reactor, &reading, Framing::Lines, mailbox).unwrap();
        let mut has_unreceived_after = |text: &[u8]| {
            writing.write_all(text).unwrap();
            reactor.turn(Some(Duration::from_millis(10))).unwrap();
            let before = input.has_unreceived(&reactor);
            let received = matches!(mailbox.try_recv(&mut reactor, mailbox.id()), TryRecv::Item(Ok(_)));
            (before, received, input.has_unreceived(&reactor))
        };
        assert_eq!(has_unreceived_after(b""), (false, false, false));
        assert_eq!(has_unreceived_after(b"half "), (true, false, true));
        assert_eq!(has_unreceived_after(b"a line\n"), (true, true, false));
    }
}
