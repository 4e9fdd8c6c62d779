//! The writing half of a stream.
//!
//! Invariant: at most the high-water mark plus one write is buffered. A writer beyond that waits.
//!
//! Read next: `operation.rs`.

use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;

use super::stream::Stream;
use crate::net::Address;
use crate::transport::Duplex;

/// What goes to the peer (asyncio: `StreamWriter`).
///
/// Any task of its reactor may use it. When it is dropped, our side ends after what is written.
pub struct Writer {
    pub(super) stream: Rc<Stream>,
}

impl Writer {
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Writer { stream }
    }

    /// Writes all of `bytes`; waits first while the peer is slow (asyncio: `write` and `drain`). Small
    /// writes that follow each other leave in one piece, when the future waits for something else.
    ///
    /// # Errors
    /// `BrokenPipe` after [`write_eof`](Self::write_eof); what broke the connection, if it is broken.
    pub fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> {
        poll_fn(move |context| self.stream.poll_write(context, bytes))
    }

    /// Writes all of `bytes`, or, if the peer is slow, nothing: then it returns `false`. It never waits
    /// (asyncio: `write`), so it can send the same to many peers.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.stream.write(bytes)
    }

    /// Ends our side after what is written; reading goes on (asyncio: `write_eof`).
    pub fn write_eof(&mut self) {
        self.stream.end(Duplex::write_eof);
    }

    /// Ends the connection at once, with a reset. Bytes that wait to be sent are dropped.
    pub fn abort(&mut self) {
        self.stream.abort();
    }

    /// Returns the address of the peer, if there is one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<&Address> {
        self.stream.peer.as_ref()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.write_eof();
    }
}

crate::opaque_debug!(Writer);
