//! The bytes that are owed to a peer and that the kernel would not take yet.
//!
//! ```text
//!      sent            owed              room
//!  ├───────────┼──────────────────┼───────────────┤
//!  0         start               len           capacity
//! ```
//!
//! Invariant: bytes leave in the order in which they came. An empty buffer owns no memory, so a
//! healthy connection has none; the price of an allocation is paid only by a peer that is slow.
//!
//! Read next: `connection.rs`, which fills and drains it.

/// Bytes under way. See the module.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is owed.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Owes `bytes` as well.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `count` bytes are sent.
    pub fn consume(&mut self, count: usize) {
        self.consume_and_keep(count, 0);
    }

    /// The same for a buffer that is filled again soon: empty, it keeps at most `most` bytes of memory.
    pub fn consume_and_keep(&mut self, count: usize, most: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.is_empty() {
            self.start = 0;
            if self.bytes.capacity() > most {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut buffer = Buffer::default();
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
            buffer.consume(take);
        }
        assert_eq!(buffer.len(), usize::from(put.wrapping_sub(got)));
    }

    #[test]
    fn an_empty_buffer_owns_no_memory() {
        let mut buffer = Buffer::default();
        buffer.push(&[1; 10_000]);
        buffer.consume(10_000);
        assert_eq!(buffer.bytes.capacity(), 0);
    }
}
