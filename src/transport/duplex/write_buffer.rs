//! The write buffer: bytes that the kernel has not taken yet.
//!
//! ```text
//!      sent          buffered             room
//!  ├───────────┼──────────────────┼───────────────┤
//!  0         start               len           capacity
//! ```
//!
//! Invariant: the buffer is first in, first out. An empty buffer owns no memory, unless the caller
//! retains some. So a connection whose peer keeps up needs none.
//!
//! Read next: `write.rs`, which fills and drains it.

/// A buffer of at most this capacity, in bytes, does not shrink while it holds something.
const SMALL: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl WriteBuffer {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn push(&mut self, bytes: &[u8]) {
        // Reuse the space of the sent bytes only if there are more of them than bytes to move.
        if self.start > self.len() && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Removes the first `count` bytes. An empty buffer keeps at most `retain` bytes of capacity. A
    /// buffer that holds something keeps at most eight times its length, or [`SMALL`] bytes.
    pub fn consume(&mut self, count: usize, retain: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.start == self.bytes.len() {
            self.start = 0;
            if self.bytes.capacity() > retain {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        } else if self.bytes.capacity() > SMALL && self.len() < self.bytes.capacity() / 8 {
            self.shrink();
        }
    }

    #[cold] // not on the path of a connection whose peer keeps up
    fn shrink(&mut self) {
        self.bytes = self.as_slice().to_vec();
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::WriteBuffer;

    #[test]
    fn small_gap_does_not_move_the_whole_buffer() {
        let mut buffer = WriteBuffer::default();
        buffer.push(&[7; 10_000]);
        for _ in 0..100 {
            buffer.consume(1, 0);
            buffer.push(&[7]);
        }
        assert_eq!((buffer.start, buffer.len()), (100, 10_000));
    }

    #[test]
    fn space_of_sent_bytes_is_reused_if_there_are_more_of_them_than_bytes_to_move() {
        for (sent, start) in [(512, 512), (513, 0), (600, 0)] {
            let mut buffer = WriteBuffer { bytes: Vec::with_capacity(1024), start: 0 };
            buffer.push(&[1; 1024]);
            buffer.consume(sent, 0);
            buffer.push(&[2; 512]);
            assert_eq!((buffer.start, buffer.len()), (start, 1024 - sent + 512));
        }
        let mut buffer = WriteBuffer { bytes: Vec::with_capacity(1024), start: 0 };
        buffer.push(&[1; 1000]);
        buffer.consume(600, 0);
        buffer.push(&[2; 24]);
        assert_eq!(buffer.start, 600, "there was room");
    }

    #[test]
    fn bytes_leave_in_the_order_of_arrival() {
        let mut buffer = WriteBuffer::default();
        let (mut put, mut got) = (0_u8, 0_u8);
        for round in 0..1000 {
            for _ in 0..round % 7 {
                buffer.push(&[put, put.wrapping_add(1)]);
                put = put.wrapping_add(2);
            }
            let take = buffer.len() / 2;
            for &byte in &buffer.as_slice()[..take] {
                assert_eq!(byte, got);
                got = got.wrapping_add(1);
            }
            buffer.consume(take, 0);
        }
        assert_eq!(buffer.len(), usize::from(put.wrapping_sub(got)));
    }

    #[test]
    fn almost_empty_buffer_owns_little_memory() {
        let mut buffer = WriteBuffer::default();
        buffer.push(&vec![1; 65_536]);
        while buffer.len() > 1 {
            buffer.consume(1, 1024);
        }
        assert!(buffer.bytes.capacity() <= super::SMALL, "{}", buffer.bytes.capacity());
        assert_eq!(buffer.as_slice(), [1]);
    }

    #[test]
    fn buffer_shrinks_only_if_it_is_large_and_less_than_an_eighth_is_used() {
        for (capacity, used, shrinks) in [
            (super::SMALL * 8, super::SMALL, false),
            (super::SMALL * 8, super::SMALL - 1, true),
            (super::SMALL, 1, false),
        ] {
            let mut buffer = WriteBuffer { bytes: Vec::with_capacity(capacity), start: 0 };
            buffer.push(&vec![1; capacity]);
            buffer.consume(capacity - used, 0);
            assert_eq!(buffer.bytes.capacity() < capacity, shrinks, "{used} of {capacity}");
            assert_eq!(buffer.len(), used);
        }
    }

    #[test]
    fn empty_buffer_keeps_at_most_the_memory_that_the_caller_wants_to_retain() {
        for (retain, capacity) in [(0, 0), (9_999, 0), (10_000, 10_000)] {
            let mut buffer = WriteBuffer { bytes: Vec::with_capacity(10_000), start: 0 };
            buffer.push(&[1; 10_000]);
            buffer.consume(10_000, retain);
            assert_eq!((buffer.bytes.capacity(), buffer.start), (capacity, 0));
        }
    }
}
