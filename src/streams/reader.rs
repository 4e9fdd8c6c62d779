//! The reading half of a stream.
//!
//! Invariant: a call that fails takes nothing: the bytes are still there for the next one. And every
//! call says how much it may hold, so a peer cannot make it hold more. `read` asks the kernel, unless
//! something was read ahead; the others take from what was.
//!
//! Read next: `writer.rs`.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll};

use super::pipe::{Demand, SharedPipe};
use super::running_loop::Loop;

/// What came from the peer (asyncio: `StreamReader`).
pub struct Reader {
    pipe: SharedPipe,
}

/// Whether what there is makes an answer.
enum Look {
    /// The first so many bytes.
    Found(usize),
    /// Not yet, but with this many it may.
    Wants(usize),
    /// It never will.
    Never(io::Error),
}

impl Reader {
    pub(super) fn new(pipe: SharedPipe) -> Self {
        Reader { pipe }
    }

    /// Reads what there is, as far as `buffer` goes; waits if there is nothing. 0 is the end of file.
    ///
    /// The kernel fills the buffer itself, so for bulk a large one pays.
    ///
    /// # Errors
    /// What broke the connection, after all that came before.
    pub fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        poll_fn(move |context| {
            let mut pipe = self.pipe.borrow();
            if !pipe.ahead.is_empty() || buffer.is_empty() {
                let count = pipe.ahead.len().min(buffer.len());
                pipe.take(count, |bytes| buffer[..count].copy_from_slice(bytes));
                return Poll::Ready(Ok(count));
            }
            if let Some(count) = pipe.receive(buffer) {
                return Poll::Ready(Ok(count));
            }
            if let Some(end) = pipe.end_of_input() {
                return Poll::Ready(end.map(|()| 0));
            }
            pipe.demand = Demand::Buffer;
            pipe.wait(context);
            Poll::Pending
        })
    }

    /// Reads a line of at most `limit` bytes with its newline; the last one may have none. `None` is
    /// the end of file.
    ///
    /// # Errors
    /// `InvalidData` for a line that is longer; and as for [`read`](Self::read).
    pub fn read_line(&mut self, limit: usize) -> impl Future<Output = io::Result<Option<Vec<u8>>>> {
        let mut look = until(b'\n', limit);
        let at_end = move |rest| (rest <= limit).then_some(rest);
        poll_fn(move |context| self.poll_take(context, &mut look, at_end, <[u8]>::to_vec))
    }

    /// Reads up to and with `delimiter`, at most `limit` bytes in all. `None` is the end of file.
    ///
    /// # Errors
    /// `InvalidData` where the delimiter is further away; `UnexpectedEof` where it never came, though
    /// something did; and as for [`read`](Self::read).
    pub fn read_until(
        &mut self,
        delimiter: u8,
        limit: usize,
    ) -> impl Future<Output = io::Result<Option<Vec<u8>>>> {
        let mut look = until(delimiter, limit);
        poll_fn(move |context| self.poll_take(context, &mut look, |_| None, <[u8]>::to_vec))
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` where there are not so many; and as for [`read`](Self::read).
    pub fn read_exactly(&mut self, count: usize) -> impl Future<Output = io::Result<Vec<u8>>> {
        let look = move |bytes: &[u8]| {
            if bytes.len() >= count { Look::Found(count) } else { Look::Wants(count) }
        };
        poll_fn(move |context| {
            let taken = self.poll_take(context, look, |_| None, <[u8]>::to_vec);
            taken.map(|taken| taken?.ok_or_else(|| ErrorKind::UnexpectedEof.into()))
        })
    }

    /// The reactor that this runs on (asyncio: `get_running_loop`).
    #[must_use]
    pub fn running_loop(&self) -> Loop {
        Loop::new(self.pipe.clone())
    }

    /// The one wait of all reads: until `look` finds its answer in what has come, or nothing more
    /// comes. Then `at_end` says how much of the rest is an answer.
    fn poll_take<T>(
        &self,
        context: &Context<'_>,
        mut look: impl FnMut(&[u8]) -> Look,
        at_end: impl Fn(usize) -> Option<usize>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<Option<T>>> {
        let mut pipe = self.pipe.borrow();
        let count = match look(pipe.ahead.as_slice()) {
            Look::Found(count) => count,
            Look::Never(error) => return Poll::Ready(Err(error)),
            Look::Wants(count) => match (pipe.end_of_input(), pipe.ahead.len()) {
                (None, _) => {
                    pipe.demand = Demand::Bytes(count);
                    pipe.wait(context);
                    return Poll::Pending;
                }
                (Some(Err(error)), _) => return Poll::Ready(Err(error)),
                (Some(Ok(())), 0) => return Poll::Ready(Ok(None)),
                (Some(Ok(())), rest) => match at_end(rest) {
                    Some(count) => count,
                    None => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                },
            },
        };
        Poll::Ready(Ok(Some(pipe.take(count, take))))
    }
}

fn until(delimiter: u8, limit: usize) -> impl FnMut(&[u8]) -> Look {
    let mut searched = 0;
    move |bytes| {
        let found = bytes[searched..].iter().position(|&byte| byte == delimiter).map(|at| searched + at + 1);
        searched = bytes.len();
        match found {
            Some(length) if length <= limit => Look::Found(length),
            None if bytes.len() <= limit => Look::Wants(limit.saturating_add(1)),
            _ => {
                let text = format!("no delimiter within {limit} bytes");
                Look::Never(io::Error::new(ErrorKind::InvalidData, text))
            }
        }
    }
}

crate::opaque_debug!(Reader);
