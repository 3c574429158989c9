//! Values of flags: which kinds there are, how each is read from text, and what is wrong with a
//! text that cannot be read.
//!
//! The texts of the errors are Go's, because tests and scripts look for them.
//!
//! Source: go1.24 `flag/flag.go` (`numError`), `strconv` (`ParseBool`, `ParseInt`); v3.7.1
//! `pkg/flags/*.go`.

use std::collections::BTreeSet;

use super::duration::Span;
use super::settings::Config;
use super::url::Url;

/// The kind of a flag, with the way to its field in [`Config`].
pub(super) enum Kind {
    /// `true` or `false`; on the command line the name alone means true.
    Bool(fn(&mut Config) -> &mut bool),
    /// A Go `uint` or `uint64`.
    Count(fn(&mut Config) -> &mut u64),
    /// A Go `uint32`; its errors carry more words than those of `Count`.
    Count32(fn(&mut Config) -> &mut u32),
    /// A Go `int` or `int64`.
    Number(fn(&mut Config) -> &mut i64),
    /// A span of time.
    Span(fn(&mut Config) -> &mut Span),
    /// Any text.
    Text(fn(&mut Config) -> &mut String),
    /// One of a few texts.
    Choice(&'static [&'static str], fn(&mut Config) -> &mut String),
    /// A comma list of a few texts; the value is enforced elsewhere, so none is kept.
    EnforcedChoice(&'static [&'static str]),
    /// A comma list of unique URLs; the empty text changes nothing.
    Urls(fn(&mut Config) -> &mut Vec<Url>),
    /// `*` or a comma list of URLs, kept as texts.
    Origins(fn(&mut Config) -> &mut BTreeSet<String>),
    /// A comma list of unique texts; one text in a configuration file.
    Hosts(fn(&mut Config) -> &mut BTreeSet<String>),
    /// A comma list of unique texts; a list in a configuration file.
    Set(fn(&mut Config) -> &mut BTreeSet<String>),
    /// A comma list of texts in the given order; a list in a configuration file.
    List(fn(&mut Config) -> &mut Vec<String>),
    /// Feature gates; repeated texts add up.
    Gates,
    /// An old flag that is read and forgotten, with or without a value.
    Ignored,
}

impl Kind {
    /// Whether the name alone is enough on the command line.
    pub(super) fn is_switch(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Ignored)
    }

    /// Reads `text` and stores it in `config`, which is unchanged on an error.
    ///
    /// # Errors
    /// What Go's flag package says about the text.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        match self {
            Self::Bool(field) => {
                *field(config) = go_bool(text).ok_or_else(|| SYNTAX.to_owned())?;
            }
            Self::Count(field) => *field(config) = go_count(text).map_err(IntegerError::text)?,
            Self::Count32(field) => {
                let number = go_count(text)
                    .and_then(|number| u32::try_from(number).map_err(|_| IntegerError::Range));
                *field(config) = number.map_err(|error| error.long_text("ParseUint", text))?;
            }
            Self::Number(field) => *field(config) = go_number(text).map_err(IntegerError::text)?,
            Self::Span(field) => {
                *field(config) = Span::parse(text).ok_or_else(|| SYNTAX.to_owned())?;
            }
            Self::Text(field) => *field(config) = text.to_owned(),
            Self::Choice(valid, field) => {
                if !valid.contains(&text) {
                    return Err("invalid value".to_owned());
                }
                *field(config) = text.to_owned();
            }
            Self::EnforcedChoice(valid) => {
                if let Some(bad) = text.split(',').find(|part| !valid.contains(part)) {
                    return Err(format!("invalid value {bad:?}"));
                }
            }
            Self::Urls(field) => {
                if !text.is_empty() {
                    *field(config) = unique_urls(text)?;
                }
            }
            Self::Origins(field) => {
                if text == "*" {
                    field(config).insert(text.to_owned());
                } else {
                    *field(config) = unique_urls(text)?.iter().map(Url::to_string).collect();
                }
            }
            Self::Hosts(field) | Self::Set(field) => {
                *field(config) = text.split(',').map(str::to_owned).collect();
            }
            Self::List(field) => *field(config) = text.split(',').map(str::to_owned).collect(),
            Self::Gates => config
                .feature_gates
                .set(text)
                .map_err(|error| error.to_string())?,
            Self::Ignored => {}
        }
        Ok(())
    }

    /// Whether two configurations agree in this flag.
    pub(super) fn is_same(&self, one: &mut Config, other: &mut Config) -> bool {
        match self {
            Self::Bool(field) => field(one) == field(other),
            Self::Count(field) => field(one) == field(other),
            Self::Count32(field) => field(one) == field(other),
            Self::Number(field) => field(one) == field(other),
            Self::Span(field) => field(one) == field(other),
            Self::Text(field) | Self::Choice(_, field) => field(one) == field(other),
            Self::Urls(field) => field(one) == field(other),
            Self::Origins(field) | Self::Hosts(field) | Self::Set(field) => {
                field(one) == field(other)
            }
            Self::List(field) => field(one) == field(other),
            Self::EnforcedChoice(_) | Self::Gates | Self::Ignored => true,
        }
    }

    /// Reads the default of the flag table, where the empty text means "nothing set".
    pub(super) fn set_default(&self, config: &mut Config, text: &str) {
        if text.is_empty() {
            return;
        }
        self.set(config, text)
            .expect("the defaults of the flag table are readable, a test reads them all");
    }
}

/// What Go says about a text that is no number, boolean or duration.
const SYNTAX: &str = "parse error";
/// What Go says about a number that does not fit.
const RANGE: &str = "value out of range";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IntegerError {
    Syntax,
    Range,
}

impl IntegerError {
    fn text(self) -> String {
        match self {
            Self::Syntax => SYNTAX.to_owned(),
            Self::Range => RANGE.to_owned(),
        }
    }

    /// The words of `strconv` itself, which flags outside Go's package pass on.
    fn long_text(self, function: &str, text: &str) -> String {
        let reason = match self {
            Self::Syntax => "invalid syntax",
            Self::Range => RANGE,
        };
        format!("strconv.{function}: parsing {text:?}: {reason}")
    }
}

/// Reads one of Go's words for a boolean.
pub(super) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an unsigned number with an optional base prefix (`0x`, `0o`, `0b`, a leading zero).
fn go_count(text: &str) -> Result<u64, IntegerError> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let plain = digits.replace('_', "");
    // Underscores may separate digits, but only behind a base prefix and one at a time.
    let separators_legal = plain.len() == digits.len()
        || (base != 10 && !digits.ends_with('_') && !digits.contains("__"));
    if plain.is_empty() || !separators_legal || !plain.chars().all(|c| c.is_digit(base)) {
        return Err(IntegerError::Syntax);
    }
    u64::from_str_radix(&plain, base).map_err(|_| IntegerError::Range)
}

/// Reads a signed number, as [`go_count`] does behind the sign.
fn go_number(text: &str) -> Result<i64, IntegerError> {
    if let Some(magnitude) = text.strip_prefix('-') {
        let magnitude = go_count(magnitude)?;
        return 0_i64
            .checked_sub_unsigned(magnitude)
            .ok_or(IntegerError::Range);
    }
    let magnitude = go_count(text.strip_prefix('+').unwrap_or(text))?;
    i64::try_from(magnitude).map_err(|_| IntegerError::Range)
}

/// Reads a comma list of URLs, sorted and without repeats.
pub(super) fn unique_urls(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = Url::parse_list(text).map_err(|error| error.to_string())?;
    urls.dedup();
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::{IntegerError, go_bool, go_count, go_number};

    #[test]
    fn numbers_are_read_like_go_base_zero() {
        for (text, number) in [
            ("0", 0),
            ("10", 10),
            ("0x1F", 31),
            ("0b101", 5),
            ("0o17", 15),
        ] {
            assert_eq!(go_count(text), Ok(number), "{text:?}");
        }
        assert_eq!(go_count("017"), Ok(15));
        assert_eq!(go_count("0x_1f"), Ok(31));
        assert_eq!(go_number("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(go_number("+5"), Ok(5));
        for text in ["", "-1", "1_000", "08", "1.5", "ten", "0x", "1e3", " 1"] {
            assert_eq!(go_count(text), Err(IntegerError::Syntax), "{text:?}");
        }
        assert_eq!(go_count("18446744073709551616"), Err(IntegerError::Range));
        assert_eq!(go_number("9223372036854775808"), Err(IntegerError::Range));
    }

    #[test]
    fn booleans_are_the_words_of_go() {
        for word in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(go_bool(word), Some(true), "{word:?}");
        }
        for word in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(go_bool(word), Some(false), "{word:?}");
        }
        assert_eq!(go_bool("yes"), None);
    }
}
