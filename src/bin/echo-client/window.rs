//! The window: the bytes that were read from stdin and whose echo has not arrived yet.
//!
//! ```text
//!    written on this connection    not written
//!   ├───────────────────────────┼───────────────┤   at most 8 MiB
//!   0: next byte of the echo    written        len
//! ```
//!
//! Invariant: a byte is kept until its echo arrives. So a broken connection loses nothing: the next
//! connection writes the whole window again.
//!
//! Read next: `transfer.rs`.

use std::collections::VecDeque;

/// The maximum size of the window. If it is full, stdin waits.
pub const MAX_SIZE: usize = 8 << 20;

/// The maximum size of one write.
const MAX_WRITE: usize = 64 << 10;

#[derive(Default)]
pub struct Window {
    bytes: VecDeque<u8>,
    written: usize,
}

/// The first byte of an echo that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    Changed { sent: u8, received: u8 },
    Surplus { received: u8 },
}

impl Window {
    /// Adds bytes that were read from stdin.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns whether every echo has arrived.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the number of bytes whose echo has not arrived.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether another chunk of stdin fits.
    pub fn has_room(&self) -> bool {
        self.bytes.len() + MAX_WRITE <= MAX_SIZE
    }

    /// Returns the next piece to write, and counts it as written. The piece is empty if everything
    /// is written.
    pub fn next_piece(&mut self) -> &[u8] {
        let (front, back) = self.bytes.as_slices();
        let rest = if self.written < front.len() {
            &front[self.written..]
        } else {
            &back[self.written - front.len()..]
        };
        let piece = &rest[..rest.len().min(MAX_WRITE)];
        self.written += piece.len();
        piece
    }

    /// Counts every byte as not written, for a new connection.
    pub fn rewind(&mut self) {
        self.written = 0;
    }

    /// Compares an echo with the oldest written bytes, and removes those that are equal. Returns
    /// how many are equal, and how the byte after them differs, if there is one.
    pub fn match_echo(&mut self, echo: &[u8]) -> (usize, Option<Difference>) {
        let expected = self.bytes.iter().take(self.written);
        let equal = expected.zip(echo).take_while(|(sent, received)| sent == received).count();
        let difference = echo.get(equal).map(|&received| match self.bytes.get(equal) {
            Some(&sent) if equal < self.written => Difference::Changed { sent, received },
            _ => Difference::Surplus { received },
        });
        self.bytes.drain(..equal);
        self.written -= equal;
        (equal, difference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes all pieces.
    fn write_all(window: &mut Window) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match window.next_piece() {
                [] => return all,
                piece => all.extend_from_slice(piece),
            }
        }
    }

    #[test]
    fn rest_without_an_echo_is_written_again() {
        let mut window = Window::default();
        window.push(b"hello");
        assert_eq!(write_all(&mut window), b"hello");
        assert_eq!(window.match_echo(b"hel"), (3, None));
        window.push(b" world");
        assert_eq!(write_all(&mut window), b" world");
        window.rewind();
        assert_eq!(write_all(&mut window), b"lo world");
        assert_eq!(window.match_echo(b"lo world"), (8, None));
        assert!(window.bytes.is_empty());
    }

    #[test]
    fn first_wrong_byte_is_returned_and_echo_of_unwritten_bytes_is_surplus() {
        let mut window = Window::default();
        window.push(b"abc");
        let sent = b'a';
        assert_eq!(window.match_echo(b"a"), (0, Some(Difference::Surplus { received: sent })));
        write_all(&mut window);
        assert_eq!(window.match_echo(b"aX"), (1, Some(Difference::Changed { sent: b'b', received: b'X' })));
        assert_eq!(window.match_echo(b"bcd"), (2, Some(Difference::Surplus { received: b'd' })));
    }
}
