//! Spans of time as etcd's flags write them.
//!
//! On the command line a span is a Go duration text (`1h30m`, `100ms`); in a configuration file it
//! is a whole number of nanoseconds; in the log it is printed the way Go prints it (`1m0s`). All
//! three forms meet in [`Span`], a signed count of nanoseconds.
//!
//! Source: go1.24 `time/time.go` (`ParseDuration`, `Duration.String`).

use std::fmt;
use std::time::Duration;

/// Units a duration text may use, with their length in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
];

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A signed span of time in nanoseconds.
///
/// Negative and zero spans are legal values of most flags; what they mean is said at each field of
/// [`Config`](super::Config).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

impl Span {
    /// A span of so many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A span of so many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000_000)
    }

    /// The span in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The span as an unsigned duration; a negative span becomes zero.
    #[must_use]
    pub fn to_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads a Go duration text such as `1h30m`, `-1.5s` or `0`.
    ///
    /// Returns `None` when the text is not a duration or does not fit 63 bits of nanoseconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut remaining = rest;
        let mut total: u64 = 0;
        while !remaining.is_empty() {
            let (nanos, tail) = parse_term(remaining)?;
            total = total.checked_add(nanos)?;
            remaining = tail;
        }
        // One more nanosecond fits on the negative side, as in two's complement.
        if negative && total == i64::MIN.unsigned_abs() {
            return Some(Self(i64::MIN));
        }
        let magnitude = i64::try_from(total).ok()?;
        Some(Self(if negative { -magnitude } else { magnitude }))
    }
}

/// Reads one number with its unit from the front of `text` and returns the rest.
fn parse_term(text: &str) -> Option<(u64, &str)> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    Some((
        whole
            .checked_mul(scale)?
            .checked_add(fraction_nanos(fraction, scale))?,
        tail,
    ))
}

/// The nanoseconds of a decimal fraction of a unit; digits below a nanosecond are dropped.
fn fraction_nanos(digits: &str, scale: u64) -> u64 {
    let mut nanos = 0;
    let mut place = scale;
    for digit in digits.bytes() {
        // Whole units divide by ten for at most 13 places; what is left is below a nanosecond.
        let weight = u64::from(digit - b'0');
        nanos += weight * place / 10;
        place /= 10;
    }
    nanos
}

impl From<Duration> for Span {
    /// A duration of more than 292 years becomes the longest span.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if nanos < NANOS_PER_SECOND {
            let (unit, scale) = match nanos {
                0..1_000 => ("ns", 1),
                1_000..1_000_000 => ("\u{b5}s", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{}{unit}", decimal(nanos, scale));
        }
        let seconds = nanos / NANOS_PER_SECOND;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        write!(
            f,
            "{}s",
            decimal(nanos % (60 * NANOS_PER_SECOND), NANOS_PER_SECOND)
        )
    }
}

/// `value / scale` in decimal without trailing zeros; `scale` is a power of ten.
fn decimal(value: u64, scale: u64) -> String {
    let width = scale.ilog10() as usize;
    let fraction = format!("{:0width$}", value % scale);
    let fraction = fraction.trim_end_matches('0');
    if width == 0 || fraction.is_empty() {
        (value / scale).to_string()
    } else {
        format!("{}.{fraction}", value / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    /// Parses, prints, and compares with the expected nanoseconds and Go text.
    fn check(text: &str, nanos: i64, printed: &str) {
        let span = Span::parse(text).unwrap_or_else(|| panic!("{text:?} is a duration"));
        assert_eq!(span.nanos(), nanos, "{text:?}");
        assert_eq!(span.to_string(), printed, "{text:?}");
    }

    #[test]
    fn reads_and_prints_like_go() {
        check("0", 0, "0s");
        check("100ms", 100_000_000, "100ms");
        check("1m", 60_000_000_000, "1m0s");
        check("2h", 7_200_000_000_000, "2h0m0s");
        check("1h30m", 5_400_000_000_000, "1h30m0s");
        check("1.5s", 1_500_000_000, "1.5s");
        check("-1.5s", -1_500_000_000, "-1.5s");
        check("1.5h", 5_400_000_000_000, "1h30m0s");
        check(".5ms", 500_000, "500\u{b5}s");
        check("1us1ns", 1_001, "1.001\u{b5}s");
        check("61.25s", 61_250_000_000, "1m1.25s");
        check(
            "2562047h47m16.854775807s",
            i64::MAX,
            "2562047h47m16.854775807s",
        );
        check(
            "-9223372036854775808ns",
            i64::MIN,
            "-2562047h47m16.854775808s",
        );
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "-",
            "1",
            "1.5",
            "s",
            ".s",
            "1x",
            "1 s",
            "1..5s",
            "9223372036854775808ns",
        ] {
            assert_eq!(Span::parse(text), None, "{text:?}");
        }
    }
}
