//! The only source of chance in the simulated world.
//!
//! Every draw comes from one seed, so a run is a function of its seed. Streams that must not
//! disturb each other (the network's luck must not change the disk's) are split off by name.

/// A small deterministic generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose draws are a function of the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator of its own for one purpose; the purposes do not disturb each other.
    #[must_use]
    pub fn split(&self, purpose: &str) -> Self {
        let mut state = self.state ^ 0x9e37_79b9_7f4a_7c15;
        for byte in purpose.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut split = Self { state };
        split.number();
        split
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    ///
    /// When `bound` is 0: there is no such number.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw needs at least one outcome");
        // The bias is under 2^-32 for the small bounds used here.
        self.number() % bound
    }

    /// A number in `low..=high`.
    ///
    /// # Panics
    ///
    /// When `high` is below `low`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an interval needs low <= high");
        low + self.below(high - low + 1)
    }

    /// True `times` times out of `out_of`.
    pub fn chance(&mut self, times: u64, out_of: u64) -> bool {
        self.below(out_of) < times
    }

    /// One of the items.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn same_seed_gives_the_same_draws() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.number()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn purposes_do_not_disturb_each_other() {
        let root = Random::new(1);
        let mut disk = root.split("disk");
        let mut network = root.split("network");
        let untouched = network.clone().number();
        disk.number();
        assert_eq!(network.number(), untouched);
        assert_ne!(root.split("disk").number(), root.split("network").number());
    }
}
