//! The writing half of a stream.
//!
//! Invariant: what waits here is bounded by the high-water mark and one write. Who writes more waits.
//!
//! Read next: `running_loop.rs`.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::pipe::SharedPipe;
use crate::net::Address;
use crate::transport::Duplex;

/// What goes to the peer (asyncio: `StreamWriter`). It may be given to another task: what that one writes is
/// sent all the same.
pub struct Writer {
    pipe: SharedPipe,
}

impl Writer {
    pub(super) fn new(pipe: SharedPipe) -> Self {
        Writer { pipe }
    }

    /// Writes all of `bytes`; waits first while the peer is slow (asyncio: `write` and `drain`). What
    /// is written before the future waits for something else leaves in one piece.
    ///
    /// # Errors
    /// `BrokenPipe` after [`write_eof`](Self::write_eof) or [`close`](Self::close); what broke the
    /// connection, if it is broken.
    pub fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> {
        poll_fn(move |context| {
            let mut pipe = self.pipe.borrow();
            if pipe.write(bytes) {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = pipe.refusal() {
                return Poll::Ready(Err(error));
            }
            pipe.writer_waits = true;
            pipe.wait(context);
            Poll::Pending
        })
    }

    /// Ends our side after what is written; reading goes on.
    pub fn write_eof(&mut self) {
        self.pipe.borrow().end(Duplex::write_eof);
    }

    /// Ends the connection after what is written, as returning from the handler does.
    pub fn close(&mut self) {
        self.pipe.borrow().end(Duplex::close);
    }

    /// The address of the peer, if there is one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<Address> {
        self.pipe.borrow().peer.clone()
    }
}

crate::opaque_debug!(Writer);
