//! The writing half of a stream.
//!
//! Invariant: at most the high-water mark plus one write is buffered. A writer beyond that waits.
//!
//! Read next: `awaitable.rs`.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::thread;

use super::state::Wait;
use super::stream::Stream;
use crate::net::Address;
use crate::reactor::LoopHandle;
use crate::transport::Duplex;

/// The writing half of a connection (asyncio: `StreamWriter`).
///
/// Any task of the same reactor may use it. When it is dropped, our side of the connection ends as
/// soon as everything written is sent, and the [`Reader`](super::Reader) still works. To the peer,
/// this looks like the end of a complete answer. So after an error in the middle of an answer, call
/// [`abort`](Self::abort) first.
pub struct Writer {
    pub(super) stream: Rc<Stream>,
}

impl Writer {
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Writer { stream }
    }

    /// Writes all of `bytes` (asyncio: `drain`, and then `write`).
    ///
    /// If more than the high-water mark is buffered from earlier writes, it first waits until at
    /// most the [low-water mark](Self::set_write_marks) is buffered. So it waits for a peer that
    /// reads slowly. If the future is dropped while it waits, nothing was written. When it returns,
    /// the bytes are sent or buffered; the peer may not have them yet.
    ///
    /// Consecutive small writes are sent together when the task waits.
    ///
    /// # Errors
    /// `BrokenPipe` after [`write_eof`](Self::write_eof); the error that broke the connection, if
    /// it is broken.
    pub fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> {
        let stream = &*self.stream;
        stream.writer.until(Wait::Room, move || stream.with_state(|state| state.write(bytes)))
    }

    /// Writes all of `bytes` without waiting (asyncio: `write`). A program can use it to send the
    /// same bytes to many peers.
    ///
    /// # Errors
    /// `WouldBlock` if [`write_all`](Self::write_all) would wait; then nothing is written. Other
    /// errors as for `write_all`.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.try_write(bytes)
    }

    /// Waits until the kernel has taken everything that was written, also after
    /// [`write_eof`](Self::write_eof).
    ///
    /// # Errors
    /// The error that broke the connection, if it is broken.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.writable(Wait::Flushed).await
    }

    /// Waits until no write can succeed any more, for example because the peer has reset the
    /// connection. Returns the error that a write would return.
    ///
    /// The peer of a Unix socket may close while we have not read its last bytes. This method then
    /// waits until the [`Reader`](super::Reader) has returned the end of file or is dropped.
    pub async fn broken(&mut self) -> io::Error {
        let end = self.stream.writable(Wait::Broken).await;
        end.err().unwrap_or_else(|| ErrorKind::BrokenPipe.into())
    }

    /// Ends our side of the connection when everything written is sent (asyncio: `write_eof`).
    /// Reading still works. If the peer has ended its side already, it must go on taking what is
    /// buffered: without progress for 30 seconds, the connection is reset.
    pub fn write_eof(&mut self) {
        self.stream.with_duplex(Duplex::write_eof);
    }

    /// Ends the connection at once. Buffered bytes are lost. A TCP peer gets a reset; the peer of a
    /// Unix socket reads what was sent, and then the end of file.
    pub fn abort(&mut self) {
        self.stream.abort();
    }

    /// Sets the high- and low-water marks in bytes: 64 KiB and 16 KiB unless set (asyncio:
    /// `set_write_buffer_limits`). A `low` above `high` counts as `high`.
    pub fn set_write_marks(&mut self, high: usize, low: usize) {
        self.stream.with_duplex(|duplex| duplex.set_write_marks(high, low));
    }

    /// Returns the address of this end (asyncio: `get_extra_info('sockname')`).
    ///
    /// # Errors
    /// `NotConnected` after the end of the connection; otherwise see `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        let address = self.stream.with_duplex(|duplex| duplex.socket().local_addr());
        address.unwrap_or_else(|| Err(ErrorKind::NotConnected.into()))
    }

    /// Returns a handle to the reactor (asyncio: `get_running_loop`).
    #[must_use]
    pub fn handle(&self) -> LoopHandle {
        self.stream.handle.clone()
    }

    /// Returns the address of the peer, if there is one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<&Address> {
        self.stream.peer.as_ref()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if thread::panicking() {
            self.abort(); // the peer must not take half an answer for a whole one
        } else {
            self.write_eof();
        }
    }
}

crate::opaque_debug!(Writer);
