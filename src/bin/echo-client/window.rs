//! The bytes that were taken from stdin and whose echo has not arrived.
//!
//! ```text
//!      written on this connection      not yet
//!   ├───────────────────────────────┼────────────┤   at most 8 MiB
//!   0 the next byte of the echo   written       len
//! ```
//!
//! Invariant: a byte is kept until its echo has arrived. So a connection that breaks loses nothing: all
//! that is here is written again on the next one.
//!
//! Read next: `transfer.rs`.

use std::collections::VecDeque;

/// The most bytes that are kept. Beyond that, stdin waits.
pub const LIMIT: usize = 8 << 20;

/// The size of one write.
const PIECE: usize = 64 << 10;

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
    /// Adds bytes that were taken from stdin.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns whether one more chunk of stdin fits.
    pub fn has_room(&self) -> bool {
        self.bytes.len() + PIECE <= LIMIT
    }

    /// Returns the next piece to write, and counts it as written. Empty: all is written.
    pub fn next_piece(&mut self) -> &[u8] {
        let (front, back) = self.bytes.as_slices();
        let rest = if self.written < front.len() {
            &front[self.written..]
        } else {
            &back[self.written - front.len()..]
        };
        let piece = &rest[..rest.len().min(PIECE)];
        self.written += piece.len();
        piece
    }

    /// Counts nothing as written, for a new connection.
    pub fn rewind(&mut self) {
        self.written = 0;
    }

    /// Compares an echo with the oldest bytes that were written, and removes those that are equal. Returns
    /// how many they are, and what is wrong with the next byte, if there is one.
    pub fn take_echo(&mut self, echo: &[u8]) -> (usize, Option<Difference>) {
        let expected = self.bytes.iter().take(self.written);
        let right = expected.zip(echo).take_while(|(sent, received)| sent == received).count();
        let difference = echo.get(right).map(|&received| match self.bytes.get(right) {
            Some(&sent) if right < self.written => Difference::Changed { sent, received },
            _ => Difference::Surplus { received },
        });
        self.bytes.drain(..right);
        self.written -= right;
        (right, difference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes everything, in as many pieces as it takes.
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
        assert_eq!(window.take_echo(b"hel"), (3, None));
        window.push(b" world");
        assert_eq!(write_all(&mut window), b" world");
        window.rewind();
        assert_eq!(write_all(&mut window), b"lo world");
        assert_eq!(window.take_echo(b"lo world"), (8, None));
        assert!(window.bytes.is_empty());
    }

    #[test]
    fn first_wrong_byte_is_returned_and_unwritten_bytes_are_surplus() {
        let mut window = Window::default();
        window.push(b"abc");
        let sent = b'a';
        assert_eq!(window.take_echo(b"a"), (0, Some(Difference::Surplus { received: sent })));
        write_all(&mut window);
        assert_eq!(window.take_echo(b"aX"), (1, Some(Difference::Changed { sent: b'b', received: b'X' })));
        assert_eq!(window.take_echo(b"bcd"), (2, Some(Difference::Surplus { received: b'd' })));
    }
}
