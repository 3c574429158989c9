//! The keys and values that all loads use.

use serde::{Deserialize, Serialize};

/// What all keys begin with.
pub(crate) const PREFIX: &str = "/bench/";

/// Digits after the prefix.
pub(crate) const DIGITS: usize = 12;

/// Bytes of the shortest key there is.
pub(crate) const KEY_BYTES_MIN: usize = PREFIX.len() + DIGITS;

/// The keys that a load uses, with their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeySpace {
    /// How many there are, numbered from 0.
    pub(crate) count: u64,
    /// Bytes per key, at least [`KEY_BYTES_MIN`].
    pub(crate) key_bytes: usize,
    /// Bytes per value.
    pub(crate) value_bytes: usize,
}

impl KeySpace {
    /// Short keys.
    pub(crate) const fn short(count: u64, value_bytes: usize) -> Self {
        Self {
            count,
            key_bytes: KEY_BYTES_MIN,
            value_bytes,
        }
    }

    /// The key with a number.
    pub(crate) fn key(self, number: u64) -> Vec<u8> {
        let padding = self.key_bytes.saturating_sub(KEY_BYTES_MIN);
        let padding = "k".repeat(padding);
        format!("{PREFIX}{padding}{number:0DIGITS$}").into_bytes()
    }

    /// What all values are.
    pub(crate) fn value(self) -> Vec<u8> {
        value(self.value_bytes)
    }

    /// In words.
    pub(crate) fn in_words(self) -> String {
        format!(
            "{} keys of {} B with {} B each",
            self.count, self.key_bytes, self.value_bytes
        )
    }
}

/// The end of the range that holds all keys.
pub(crate) fn range_end() -> Vec<u8> {
    let mut end = PREFIX.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// A value of so many printable bytes that do not compress.
fn value(bytes: usize) -> Vec<u8> {
    let mut dice = Dice::new(1);
    (0..bytes).map(|_| b' ' + dice.below(94) as u8).collect()
}

/// A message in which a key stands that is set before each use.
pub(crate) struct Template {
    bytes: Vec<u8>,
    digits_at: Vec<usize>,
}

impl Template {
    /// Around a message that was encoded with the key of number 0, once or several times.
    pub(crate) fn new(bytes: Vec<u8>, keys: KeySpace) -> Self {
        let key = keys.key(0);
        let found = bytes.windows(key.len()).enumerate();
        let digits_at = found
            .filter(|(_, window)| *window == key)
            .map(|(place, _)| place + key.len() - DIGITS)
            .collect();
        Self { bytes, digits_at }
    }

    /// Bytes of the message, whatever the number.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The message for the key with this number.
    pub(crate) fn with(&mut self, number: u64) -> &[u8] {
        for start in &self.digits_at {
            let mut rest = number;
            for digit in self.bytes[*start..*start + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// Even, repeatable chance (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    /// Another sequence for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{Dice, KeySpace, Template};

    fn check(key_bytes: usize, number: u64, expected: &str) {
        let keys = KeySpace {
            key_bytes,
            ..KeySpace::short(1, 1)
        };
        let mut message = keys.key(0);
        message.push(b'|');
        message.extend_from_slice(&keys.key(0));
        let mut template = Template::new(message, keys);
        let text = String::from_utf8(template.with(number).to_vec()).unwrap();
        assert_eq!(text, format!("{expected}|{expected}"));
        assert_eq!(keys.key(number), expected.as_bytes());
    }

    #[test]
    fn template_sets_every_key() {
        check(0, 47, "/bench/000000000047");
        check(19, 5, "/bench/000000000005");
        check(24, 123_456, "/bench/kkkkk000000123456");
    }

    #[test]
    fn dice_reach_every_number() {
        let mut dice = Dice::new(7);
        let mut seen = [0; 10];
        for _ in 0..1000 {
            seen[dice.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }
}
