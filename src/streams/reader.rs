//! The reading half of a stream.
//!
//! Invariant: a call that fails consumes nothing. Every method has a limit, so a peer cannot make
//! the reader buffer more. `read` reads from the kernel into the caller's buffer, unless something
//! was read ahead.
//!
//! Read next: `writer.rs`.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::thread;

use super::state::{State, Wait};
use super::stream::Stream;
use crate::net::Address;
use crate::reactor::LoopHandle;

/// The reading half of a connection (asyncio: `StreamReader`).
///
/// Any task of the same reactor may use it. A read may be dropped while it waits; no bytes are
/// lost.
///
/// When the reader is dropped, bytes that arrive later are discarded, so that the peer can go on
/// sending. When the [`Writer`](super::Writer) is dropped, too, the connection is closed
/// gracefully, as by [`Transport::close`](crate::Transport::close). If a panic drops either of
/// them, or if a task that this connection has woken panics, the connection is aborted.
pub struct Reader {
    pub(super) stream: Rc<Stream>,
}

impl Reader {
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Reader { stream }
    }

    /// Reads at most as much as fits into `buffer`, and waits if nothing has arrived. Returns 0 at
    /// the end of file, and at every read after it.
    ///
    /// The kernel writes into this buffer directly. For a lot of data, use a large buffer, or
    /// [`copy`](super::copy).
    ///
    /// # Errors
    /// The error that broke the connection, such as a reset. All bytes that came before it are
    /// returned first.
    pub fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        let stream = &*self.stream;
        stream.reader.until(Wait::Input, move || stream.with_state(|state| state.read(buffer)))
    }

    /// Reads a line of at most `limit` bytes, including its newline. The last line may have none.
    /// Returns `None` at the end of file.
    ///
    /// ```
    /// # use echo_reactor::{Reader, Writer};
    /// async fn shout(mut reader: Reader, mut writer: Writer) -> std::io::Result<()> {
    ///     while let Some(line) = reader.read_line(1024).await? {
    ///         writer.write_all(&line.to_ascii_uppercase()).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// `InvalidData` if the line is longer than `limit`. Its bytes are not lost:
    /// [`read`](Self::read) returns them. Other errors as for `read`.
    pub async fn read_line(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.take(find_delimiter(b'\n', limit), Ok).await
    }

    /// Reads up to and including `delimiter`, at most `limit` bytes. Returns `None` at the end of
    /// file.
    ///
    /// # Errors
    /// `InvalidData` if there is no delimiter within `limit` bytes. `UnexpectedEof` if the stream
    /// ends after some bytes without a delimiter. Other errors as for [`read`](Self::read).
    pub async fn read_until(&mut self, delimiter: u8, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.take(find_delimiter(delimiter, limit), |_| Err(ErrorKind::UnexpectedEof.into())).await
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` if the stream ends before that. Other errors as for [`read`](Self::read).
    pub async fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let find = |bytes: &[u8]| Ok((bytes.len() >= count).then_some(count));
        let at_end = |_| Err(ErrorKind::UnexpectedEof.into());
        self.take(find, at_end).await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// Waits until [`State::take`](super::state::State::take) has a result.
    fn take(
        &mut self,
        mut find: impl FnMut(&[u8]) -> io::Result<Option<usize>>,
        at_end: impl Fn(usize) -> io::Result<usize>,
    ) -> impl Future<Output = io::Result<Option<Vec<u8>>>> {
        let stream = &*self.stream;
        let take = move || stream.with_state(|state| state.take(&stream.handle, &mut find, &at_end));
        stream.reader.until(Wait::Input, take)
    }

    /// Ends the connection at once, as [`Writer::abort`](super::Writer::abort) does.
    pub fn abort(&mut self) {
        self.stream.abort();
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

impl Drop for Reader {
    fn drop(&mut self) {
        if thread::panicking() {
            self.abort(); // the peer must not take half an answer for a whole one
        } else {
            self.stream.with_state(State::discard_input);
        }
    }
}

/// Finds the length of the bytes up to and including `delimiter`, within `limit`. Searches each
/// byte once.
fn find_delimiter(delimiter: u8, limit: usize) -> impl FnMut(&[u8]) -> io::Result<Option<usize>> {
    let mut searched = 0;
    move |bytes| {
        let rest = &bytes[searched..bytes.len().min(limit)];
        let found = rest.iter().position(|&byte| byte == delimiter).map(|index| searched + index + 1);
        searched += rest.len();
        if found.is_none() && bytes.len() > limit {
            let text = format!("no delimiter within {limit} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(found)
    }
}

crate::opaque_debug!(Reader);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::{ListenOptions, Reactor, start_server};

    #[test]
    fn dropped_reader_gives_back_what_it_has_read_ahead() {
        let mut reactor = Reactor::new().unwrap();
        let kept = Rc::new(RefCell::new(None));
        let keeper = kept.clone();
        let handler = move |mut reader: Reader, writer: crate::Writer| {
            let keeper = keeper.clone();
            async move {
                reader.read_line(100).await?;
                let read_ahead = reader.stream.with_state(|state| state.read_ahead());
                keeper.replace(Some((reader, writer, read_ahead)));
                Ok(())
            }
        };
        let any = ["127.0.0.1:0".parse().unwrap()];
        let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
        let address = listener.addresses(&reactor).unwrap()[0].to_string();
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&[b"subscribe\n", &[b'x'; 5000][..]].concat()).unwrap();
        let note = kept.clone();
        assert!(reactor.run_until(Duration::from_secs(10), move |_| note.borrow().is_some()).unwrap());
        let (reader, writer, read_ahead) = kept.take().unwrap();
        assert_eq!(read_ahead, 5000, "one read takes all that has arrived");
        drop(reader);
        assert_eq!(writer.stream.with_state(|state| state.read_ahead()), 0);
    }
}
