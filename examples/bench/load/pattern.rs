//! The data that all connections send: one pseudo-random sequence, repeated. A displaced byte is
//! detected, because no two parts of the sequence are alike.

pub struct Pattern(Vec<u8>);

/// The length of the sequence: a prime, so that messages of one size start at different offsets in
/// it.
const PERIOD: usize = 1_000_003;

impl Pattern {
    /// Creates a pattern that returns pieces of up to `max_piece` bytes.
    pub fn new(max_piece: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        bytes.extend_from_within(..max_piece.min(PERIOD));
        Pattern(bytes)
    }

    /// Returns up to `max` bytes at `offset`.
    pub fn at(&self, offset: u64, max: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize;
        &self.0[start..self.0.len().min(start + max)]
    }

    /// Returns the offset of the first byte of `data` that differs from the pattern at `offset`.
    pub fn difference(&self, mut offset: u64, mut data: &[u8]) -> Option<u64> {
        while !data.is_empty() {
            let expected = self.at(offset, data.len());
            let (now, rest) = data.split_at(expected.len());
            if now != expected {
                let equal = now.iter().zip(expected).take_while(|(a, b)| a == b).count();
                return Some(offset + equal as u64);
            }
            offset += now.len() as u64;
            data = rest;
        }
        None
    }
}
