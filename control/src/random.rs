//! Numbers that an outsider should not guess: seeds for sequence numbers and ports.

/// A stream of seeds, from the boot loader's entropy where there is some.
pub struct Random {
    state: [u64; 2],
}

impl Random {
    /// Folds `seed` (the devicetree's `rng-seed`) into the state; without one, the jitter of a counter against the core.
    pub fn new(seed: Option<&[u8]>) -> Self {
        let mut random = Random {
            state: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
        };
        for chunk in seed.unwrap_or_default().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            random.stir(u64::from_le_bytes(word));
        }
        random
    }

    /// Mixes a word in: a sample of jitter, an address.
    pub fn stir(&mut self, word: u64) {
        self.state[0] ^= word;
        self.draw();
    }

    /// The next seed. (xoroshiro128++, Blackman and Vigna: not for keys.)
    pub fn draw(&mut self) -> u64 {
        let [a, b] = self.state;
        let result = a.wrapping_add(b).rotate_left(17).wrapping_add(a);
        let b = b ^ a;
        self.state = [a.rotate_left(49) ^ b ^ b << 21, b.rotate_left(28)];
        result
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn every_byte_of_the_seed_matters() {
        let seed = [7u8; 32];
        let first = Random::new(Some(&seed)).draw();
        for at in 0..seed.len() {
            let mut other = seed;
            other[at] ^= 1;
            assert_ne!(Random::new(Some(&other)).draw(), first, "byte {at}");
        }
    }

    #[test]
    fn the_stream_does_not_repeat_soon() {
        let mut random = Random::new(None);
        let seen: std::collections::HashSet<u64> = (0..10_000).map(|_| random.draw()).collect();
        assert_eq!(seen.len(), 10_000);
    }
}
