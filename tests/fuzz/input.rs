//! The bytes of a fuzzer, read as numbers and pieces.

pub struct Input {
    data: Vec<u8>,
    next: usize,
}

impl Input {
    pub fn new(data: &[u8]) -> Self {
        Input { data: data.to_vec(), next: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.next == self.data.len()
    }

    /// Returns the next byte, or 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Returns the next bytes, at most `count`.
    pub fn bytes(&mut self, count: usize) -> &[u8] {
        let start = self.next;
        self.next = (start + count).min(self.data.len());
        &self.data[start..self.next]
    }
}
