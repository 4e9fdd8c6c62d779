//! Writing stdout, or any descriptor, with a buffer of its own.
//!
//! Invariant: bytes are written in the order in which they came, and none is dropped while the
//! descriptor takes any. What is owed is bounded by whoever heeds [`Flow::Full`]: who does is woken
//! when there is room again. A failure is told once, also while nobody writes.
//!
//! Read next: `../lib.rs`, for the map; or a program in `../bin/`.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use mio::Interest;

use super::{Descriptor, Direction};
use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source};
use crate::transport::{Buffer, Flow};

const HIGH_WATER: usize = 64 * 1024;
const LOW_WATER: usize = 16 * 1024;

type OnError = Box<dyn FnOnce(&mut Reactor, io::Error)>;
type OnWritten = Box<dyn FnOnce(&mut Reactor)>;

/// A source that writes. It is used through its [`Handle`].
pub struct Output {
    descriptor: Descriptor,
    owed: Buffer,
    writable: bool,
    /// Who found it full.
    waiting: Option<Id>,
    on_written: Option<OnWritten>,
    /// `None` when it has failed, and that was told.
    on_error: Option<OnError>,
}

impl Output {
    /// Takes `descriptor` for writing (asyncio: `connect_write_pipe`). It is duplicated; its flags
    /// stay as they are. `on_error` is told of the failure that ends it: `BrokenPipe` when its reader
    /// is gone, which is noticed also while nothing is written.
    ///
    /// # Errors
    /// Of [`Descriptor::open`], and of [`Reactor::add`].
    pub fn open(
        reactor: &mut Reactor,
        descriptor: &impl AsFd,
        on_error: impl FnOnce(&mut Reactor, io::Error) + 'static,
    ) -> io::Result<Handle<Output>> {
        let descriptor = Descriptor::open(descriptor, Direction::Write)?;
        let pollable = descriptor.is_pollable();
        let output = Output {
            descriptor,
            owed: Buffer::default(),
            writable: true,
            waiting: None,
            on_written: None,
            on_error: Some(Box::new(on_error)),
        };
        if pollable { reactor.add_lent(output, Interest::WRITABLE) } else { Ok(reactor.insert(output)) }
    }

    /// Writes as far as the descriptor takes it. What a failed one does not take is lost in any case,
    /// so it counts as written.
    fn send(&mut self, mut bytes: &[u8], reactor: &mut Reactor) -> usize {
        let length = bytes.len();
        while self.writable && !bytes.is_empty() {
            match self.descriptor.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => self.writable = false,
                    _ => {
                        self.fail(error, reactor);
                        return length;
                    }
                },
            }
        }
        length - bytes.len()
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        let mut owed = std::mem::take(&mut self.owed);
        owed.consume(self.send(owed.as_slice(), reactor));
        self.owed = owed;
        if self.owed.len() <= LOW_WATER
            && let Some(id) = self.waiting.take()
        {
            reactor.wake(id);
        }
        if self.owed.is_empty()
            && let Some(call) = self.on_written.take()
        {
            reactor.call_soon(call);
        }
    }

    fn fail(&mut self, error: io::Error, reactor: &mut Reactor) {
        if let Some(call) = self.on_error.take() {
            reactor.call_soon(move |reactor| call(reactor, error));
        }
    }
}

impl Handle<Output> {
    /// Writes `bytes`: at once as far as the descriptor takes them, the rest as soon as it does. At
    /// [`Flow::Full`] `by` is woken when less is owed.
    pub fn write(self, reactor: &mut Reactor, by: Id, bytes: &[u8]) -> Flow {
        let flow = reactor.with(self, |output, reactor| {
            if output.on_error.is_none() {
                return Flow::Closed;
            }
            let sent = if output.owed.is_empty() { output.send(bytes, reactor) } else { 0 };
            output.owed.push(&bytes[sent..]);
            if output.owed.len() <= HIGH_WATER {
                return Flow::Open;
            }
            output.waiting = Some(by);
            Flow::Full
        });
        flow.unwrap_or(Flow::Closed)
    }

    /// What [`write`](Self::write) would say now; at [`Flow::Full`] `by` is woken in the same way.
    pub fn flow(self, reactor: &mut Reactor, by: Id) -> Flow {
        self.write(reactor, by, &[])
    }

    /// Calls `f` when all that was written so far is on the descriptor.
    pub fn when_written(self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        reactor.with(self, |output, reactor| {
            output.on_written = Some(Box::new(f));
            output.flush(reactor);
        });
    }
}

impl Source for Output {
    fn ready(&mut self, _: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        self.writable |= ready.is(Ready::WRITABLE);
        if ready.is(Ready::WRITE_CLOSED) {
            self.fail(ErrorKind::BrokenPipe.into(), reactor);
        }
        self.flush(reactor);
        Next::Wait
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
