//! What all connections send: the same bytes again and again, no two places of which look alike.

pub struct Pattern(Vec<u8>);

/// It repeats itself after so many bytes: a prime, so that messages of one size do not begin at the same places.
const PERIOD: usize = 1_000_003;

impl Pattern {
    /// One that gives pieces of up to `longest` bytes.
    pub fn new(longest: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        bytes.extend_from_within(..longest.min(PERIOD));
        Pattern(bytes)
    }

    /// What stands at `offset`: up to `most` bytes.
    pub fn at(&self, offset: u64, most: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize;
        &self.0[start..self.0.len().min(start + most)]
    }

    /// Where `data`, which should stand at `offset`, differs from it.
    pub fn difference(&self, mut offset: u64, mut data: &[u8]) -> Option<u64> {
        while !data.is_empty() {
            let expected = self.at(offset, data.len());
            let (now, rest) = data.split_at(expected.len());
            if now != expected {
                let right = now.iter().zip(expected).take_while(|(a, b)| a == b).count();
                return Some(offset + right as u64);
            }
            offset += now.len() as u64;
            data = rest;
        }
        None
    }
}
