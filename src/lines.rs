//! Splitting bytes into lines, with a limit.
//!
//! Invariant: a call that fails consumes nothing, so no byte is lost.
//!
//! Read next: `stdio/input.rs`, which reads lines from a terminal.

use std::error::Error;
use std::{fmt, io};

use crate::transport::WriteBuffer;

/// A buffer that collects bytes and returns whole lines.
///
/// ```
/// use echo_reactor::{Flow, LineBuffer, Protocol, Transport};
///
/// struct Shout(LineBuffer);
///
/// impl Shout {
///     /// Answers lines while the peer reads the answers. The other lines stay in the buffer.
///     fn answer(&mut self, transport: &mut Transport) {
///         while transport.flow() != Flow::Full {
///             match self.0.next_line() {
///                 Ok(Some(line)) => drop(transport.write(&line.to_ascii_uppercase())),
///                 Ok(None) => return transport.resume_reading(),
///                 Err(_) => return transport.close(),
///             }
///         }
///     }
/// }
///
/// impl Protocol for Shout {
///     fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
///         self.0.push(data);
///         self.answer(transport);
///     }
///     fn resume_writing(&mut self, transport: &mut Transport) {
///         self.answer(transport);
///     }
/// }
/// # let mut lines = LineBuffer::new(4);
/// # lines.push(b"ab\nabcd\n");
/// # assert_eq!(lines.next_line(), Ok(Some(b"ab\n".to_vec())));
/// # assert!(lines.next_line().is_err());
/// # assert_eq!(lines.take(4), b"abcd");
/// ```
#[derive(Debug)]
pub struct LineBuffer {
    bytes: WriteBuffer,
    limit: usize,
    /// How many bytes are known to hold no newline.
    searched: usize,
}

/// The error of a line that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit in bytes, including the newline.
    pub limit: usize,
}

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line is longer than {} bytes", self.limit)
    }
}

impl Error for LineTooLong {}

impl From<LineTooLong> for io::Error {
    fn from(error: LineTooLong) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl LineBuffer {
    /// Creates an empty buffer for lines of at most `limit` bytes, including the newline. A limit
    /// of 0 counts as 1.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        LineBuffer { bytes: WriteBuffer::default(), limit: limit.max(1), searched: 0 }
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.push(bytes);
    }

    /// Takes the next line, with its newline. Returns `None` if it is not complete yet.
    ///
    /// # Errors
    /// If the line is longer than the limit. The bytes stay in the buffer: [`take`](Self::take)
    /// some of them, or end the connection.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        let bytes = &self.bytes.as_slice()[..self.bytes.len().min(self.limit)];
        match bytes[self.searched..].iter().position(|&byte| byte == b'\n') {
            Some(index) => Ok(Some(self.take(self.searched + index + 1))),
            None if bytes.len() == self.limit => Err(LineTooLong { limit: self.limit }),
            None => {
                self.searched = bytes.len();
                Ok(None)
            }
        }
    }

    /// Takes up to `count` bytes, whatever they are: the rest after the end of file, or a part of a
    /// line that is too long.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        let taken = self.bytes.as_slice()[..count].to_vec();
        self.bytes.consume(count, 0);
        self.searched = 0;
        taken
    }

    /// Returns how many bytes are in the buffer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether the buffer is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_the_bytes_are_split() {
        let text = b"one\n\ntwo\nthree";
        for size in 1..=text.len() {
            let (mut buffer, mut lines) = (LineBuffer::new(8), Vec::new());
            for piece in text.chunks(size) {
                buffer.push(piece);
                while let Some(line) = buffer.next_line().unwrap() {
                    lines.push(line);
                }
            }
            assert_eq!(lines, [&b"one\n"[..], b"\n", b"two\n"]);
            assert_eq!(buffer.take(usize::MAX), b"three");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn limit_counts_the_newline_and_a_failed_call_consumes_nothing() {
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"abc\nabcd\n");
        assert_eq!(buffer.next_line(), Ok(Some(b"abc\n".to_vec())));
        for _ in 0..2 {
            assert_eq!(buffer.next_line(), Err(LineTooLong { limit: 4 }));
        }
        assert_eq!(buffer.take(4), b"abcd");
        assert_eq!(buffer.next_line(), Ok(Some(b"\n".to_vec())));
    }

    #[test]
    fn largest_limit_means_no_limit() {
        let mut buffer = LineBuffer::new(usize::MAX);
        buffer.push(&vec![b'x'; 100_000]);
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"\n");
        assert_eq!(buffer.next_line().map(|line| line.map(|line| line.len())), Ok(Some(100_001)));
    }
}
