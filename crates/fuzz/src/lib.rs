//! Files that nobody wrote, given to everything that reads files.
//!
//! A target ([`Target`]) is a function from bytes to nothing: it reads them as a file and panics when a
//! promise is broken. Whatever the bytes, no reader panics, takes more memory than the file is long
//! for, or goes on forever; what opens without complaint is coherent in itself. The functions are the
//! entry that any fuzzing engine wants; the engine here ([`Fuzzer`]) is a small one of our own that
//! needs nothing beside the stable compiler. It spoils valid files, and makes their checksums right
//! again in half of the cases, because a reader behind a checksum would otherwise see little.

mod random;
mod seeds;
mod targets;

pub use random::Random;
pub use targets::Target;

/// Makes inputs for a target, one after the other, from a seed.
#[derive(Debug)]
pub struct Fuzzer {
    target: Target,
    random: Random,
    seeds: Vec<Vec<u8>>,
}

/// Changes of one input at most.
const EDITS_MAX: u64 = 6;
/// One input in so many is not a spoiled file but any bytes.
const ANY_BYTES: u64 = 16;
/// Length of any bytes, at most.
const ANY_BYTES_MAX: u64 = 4096;

impl Fuzzer {
    /// The same seed makes the same inputs.
    #[must_use]
    pub fn new(target: Target, seed: u64) -> Self {
        Self {
            target,
            random: Random::new(seed),
            seeds: target.seeds(),
        }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        if self.random.below(ANY_BYTES) == 0 {
            let length = self.random.below(ANY_BYTES_MAX);
            return (0..length).map(|_| self.random.byte()).collect();
        }
        let seed = self.random.below(self.seeds.len() as u64) as usize;
        let mut file = self.seeds[seed].clone();
        for _ in 0..=self.random.below(EDITS_MAX) {
            self.edit(&mut file);
        }
        if self.random.below(2) == 0 {
            self.target.seal(&mut file);
        }
        file
    }

    fn edit(&mut self, file: &mut Vec<u8>) {
        if file.is_empty() {
            return;
        }
        let length = file.len() as u64;
        let at = self.random.below(length) as usize;
        match self.random.below(6) {
            0 => file[at] ^= 1 << self.random.below(8),
            1 => file[at] = self.random.byte(),
            2 => file.truncate(at),
            // Numbers at the ends of what they can be.
            3 => {
                let number = *self
                    .random
                    .pick(&[0, 1, u64::MAX, u64::MAX / 2, length, length - 1]);
                let bytes = number.to_le_bytes();
                let count = (file.len() - at).min(*self.random.pick(&[2, 4, 8]));
                file[at..at + count].copy_from_slice(&bytes[..count]);
            }
            4 => {
                let count = (self.random.below(64) as usize).min(file.len() - at);
                let piece = file[at..at + count].to_vec();
                let to = self.random.below(length - count as u64 + 1) as usize;
                file[to..to + count].copy_from_slice(&piece);
            }
            _ => {
                let count = self.random.below(64);
                let more: Vec<u8> = (0..count).map(|_| self.random.byte()).collect();
                file.splice(at..at, more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs per target in a test run; more by hand, see `docs/testing.md`.
    const INPUTS: usize = 4_000;

    #[test]
    fn no_file_makes_a_reader_panic() {
        for target in Target::ALL {
            let mut fuzzer = Fuzzer::new(target, 1);
            for _ in 0..INPUTS {
                target.run(&fuzzer.input());
            }
        }
    }

    #[test]
    fn valid_files_are_valid_and_spoiled_ones_reach_what_is_behind_the_checksums() {
        for target in Target::ALL {
            for seed in target.seeds() {
                assert!(target.run(&seed), "{target:?}");
                let mut sealed = seed.clone();
                target.seal(&mut sealed);
                assert_eq!(sealed, seed, "{target:?}: a right checksum stays");
            }
            let mut fuzzer = Fuzzer::new(target, 2);
            let inputs = (0..INPUTS).map(|_| fuzzer.input());
            let opened = inputs.filter(|input| target.run(input)).count();
            assert!(opened > INPUTS / 100, "{target:?}: {opened} opened");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let first = |seed| Fuzzer::new(Target::Segment, seed).input();
        assert_eq!(first(5), first(5));
        assert_ne!(first(5), first(6));
    }
}
