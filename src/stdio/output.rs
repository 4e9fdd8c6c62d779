//! Writing to stdout, or to any descriptor, through a buffer.
//!
//! Invariants:
//! - Bytes are written in order, and none is dropped unless the descriptor fails. Callers that
//!   respect [`Flow::Full`] keep the buffer bounded, and are woken one after the other when there
//!   is room.
//! - An error is reported once, even while nobody writes.
//! - The descriptor is registered for writing only while something is buffered. Otherwise each line
//!   that another program writes on the same terminal would wake the loop.
//!
//! Read next: `../lib.rs`, for the map; or a program in `../bin/`.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use mio::Interest;

use super::{Descriptor, Direction, cancel_retry, schedule_retry};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, SCRATCH_SIZE, Source, Timer, Unavailable};
use crate::sys::ERRORS_ONLY;
use crate::transport::{Flow, HIGH_WATER, LOW_WATER, WriteBuffer};
use crate::waiters::Waiters;

type OnError = Box<dyn FnOnce(&mut Reactor, io::Error)>;
type OnFlushed = Box<dyn FnOnce(&mut Reactor)>;

/// A source that writes to a descriptor. Its methods are on its [`Handle`].
pub struct Output {
    descriptor: Descriptor,
    buffer: WriteBuffer,
    /// `false` after a write that would block. Then the descriptor is registered for writing.
    writable: bool,
    /// Set after a signal has interrupted a write.
    retry: Option<Timer>,
    /// The sources that found the output full.
    waiting: Waiters,
    on_flushed: Vec<OnFlushed>,
    /// `None` after an error, which was reported.
    on_error: Option<OnError>,
}

impl Output {
    /// Creates a source that writes to `descriptor` (asyncio: `connect_write_pipe`). The descriptor
    /// is duplicated; its flags stay as they are. `on_error` is called once, with the error that
    /// ends the output. `BrokenPipe` means that nothing reads the descriptor any more, and so does
    /// `ConnectionReset` on a socket that its peer has closed before it has read everything. Such an
    /// end is noticed even while nothing is written, except on a TCP socket whose peer has closed
    /// without a reset: there, only a write shows it.
    ///
    /// The kernel returns the error of a socket once. If an [`Input`](crate::Input) reads the same
    /// socket, one of the two gets it. If that is the output, the input sees an end of file, so do
    /// not take its data for complete. If that is the input, the output gets `BrokenPipe`.
    ///
    /// # Errors
    /// Those of [`Descriptor::open`] and [`Reactor::add`].
    pub fn open(
        reactor: &mut Reactor,
        descriptor: &impl AsFd,
        on_error: impl FnOnce(&mut Reactor, io::Error) + 'static,
    ) -> io::Result<Handle<Output>> {
        let descriptor = Descriptor::open(descriptor, Direction::Write)?;
        let is_pollable = descriptor.is_pollable();
        let output = Output {
            descriptor,
            buffer: WriteBuffer::default(),
            writable: true,
            retry: None,
            waiting: Waiters::default(),
            on_flushed: Vec::new(),
            on_error: Some(Box::new(on_error)),
        };
        if is_pollable { reactor.add(output, ERRORS_ONLY) } else { Ok(reactor.insert(output)) }
    }

    /// Writes as much as the descriptor takes, up to the budget, and returns how many bytes need no
    /// further attempt. After an error, all bytes count as written, because they are lost anyway.
    fn send(&mut self, bytes: &[u8], id: Id, reactor: &mut Reactor) -> usize {
        let budget = bytes.len().min(SCRATCH_SIZE);
        let mut sent = 0;
        while self.writable && sent < budget {
            let result = match self.descriptor.write(&bytes[sent..budget]) {
                Ok(0) => Err(ErrorKind::WriteZero.into()), // otherwise this would go on forever
                Ok(count) => {
                    sent += count;
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    schedule_retry(&mut self.retry, id, reactor);
                    return sent;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.register_for_writing(id, reactor)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.fail(error, reactor);
                return bytes.len();
            }
        }
        if self.writable && sent < bytes.len() {
            reactor.call_again(id); // for the rest
        }
        sent
    }

    fn register_for_writing(&self, id: Id, reactor: &mut Reactor) -> io::Result<()> {
        if self.descriptor.is_pollable() {
            return reactor.reregister(id, &self.descriptor, ERRORS_ONLY | Interest::WRITABLE);
        }
        reactor.call_again(id); // epoll refuses this device, so only another write can find room
        Ok(())
    }

    fn flush(&mut self, id: Id, reactor: &mut Reactor) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.consume(self.send(buffer.as_slice(), id, reactor), 0);
        if self.on_error.is_some() {
            self.buffer = buffer; // otherwise no write will succeed
        }
        let has_room = self.buffer.len() <= LOW_WATER;
        if self.waiting.wake(usize::from(has_room), reactor) {
            reactor.call_again(id); // for the next one, if there is still room
        }
        if self.buffer.is_empty() {
            self.on_flushed.drain(..).for_each(|call| reactor.call_soon(call));
        }
    }

    fn fail(&mut self, error: io::Error, reactor: &mut Reactor) {
        if let Some(call) = self.on_error.take() {
            reactor.call_soon(move |reactor| call(reactor, error));
        }
    }
}

impl Handle<Output> {
    /// Writes as many of `bytes` as the descriptor takes now, and the rest when it takes more.
    /// Returns [`Flow::Full`] if more than the high-water mark is buffered; then `waiter` is woken
    /// when there is room. Returns [`Flow::Closed`] if these bytes are lost: the output has failed,
    /// is gone, or is running (a call from inside [`Reactor::with`] on it).
    pub fn write(self, reactor: &mut Reactor, waiter: Id, bytes: &[u8]) -> Flow {
        let flow = reactor.with(self, |output, reactor| {
            if output.on_error.is_none() {
                return Flow::Closed;
            }
            let is_empty = output.buffer.is_empty();
            let sent = if is_empty { output.send(bytes, self.id(), reactor) } else { 0 };
            if output.on_error.is_none() {
                return Flow::Closed; // this write has failed
            }
            output.buffer.push(&bytes[sent..]);
            if output.buffer.len() <= HIGH_WATER {
                return Flow::Open;
            }
            output.waiting.add(waiter, reactor);
            Flow::Full
        });
        flow.unwrap_or(Flow::Closed)
    }

    /// Returns what [`write`](Self::write) would return now. If that is [`Flow::Full`], `waiter` is
    /// woken when there is room.
    pub fn flow(self, reactor: &mut Reactor, waiter: Id) -> Flow {
        self.write(reactor, waiter, &[])
    }

    /// Returns how many bytes the descriptor has not taken yet.
    ///
    /// # Errors
    /// Why the output is unavailable: it is gone, or is running.
    pub fn buffered(self, reactor: &Reactor) -> Result<usize, Unavailable> {
        Ok(reactor.get(self)?.buffer.len())
    }

    /// Calls `f` when nothing is buffered any more: the descriptor has taken everything or has
    /// failed, or the output is gone.
    pub fn on_flushed(self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        let mut f = Some(Box::new(f) as OnFlushed);
        let added = reactor.with(self, |output, reactor| {
            output.on_flushed.extend(f.take());
            output.flush(self.id(), reactor);
        });
        match (added, f) {
            (Err(Unavailable::Running), Some(f)) => {
                reactor.call_soon(move |reactor| self.on_flushed(reactor, f));
            }
            (Err(_), Some(f)) => reactor.call_soon(f),
            _ => {}
        }
    }
}

impl Source for Output {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        if let Some(error) = self.descriptor.hang_up(ready) {
            self.fail(error, reactor);
        }
        let is_pollable = self.descriptor.is_pollable();
        // A hang-up counts as writable, too. To register again would report it again in each turn.
        if !self.writable && (ready.intersects(Ready::WRITABLE) || !is_pollable) {
            self.writable = true;
            if is_pollable && let Err(error) = reactor.reregister(id, &self.descriptor, ERRORS_ONLY) {
                self.fail(error, reactor);
            }
        }
        self.flush(id, reactor);
        Next::Wait
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        cancel_retry(&mut self.retry, reactor);
        self.waiting.wake_all(reactor);
        self.on_flushed.drain(..).for_each(|call| reactor.call_soon(call));
        if self.descriptor.is_pollable() {
            // Explicitly, because another process may keep it open.
            let _ = reactor.deregister(id, &self.descriptor);
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

crate::opaque_debug!(Output);
