//! Numbers.

/// `strconv.ParseInt` for 64 bits: base 10 or 16, or 0 to let a prefix choose.
///
/// # Errors
/// The text of Go's error.
pub fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let fail = |what: &str| {
        format!(
            "strconv.ParseInt: parsing {}: {what}",
            super::quote(text.as_bytes())
        )
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = magnitude(digits, base).map_err(|error| fail(error.text()))?;
    let value = i128::from(magnitude) * if negative { -1 } else { 1 };
    i64::try_from(value).map_err(|_| fail(Bad::Range.text()))
}

/// `strconv.ParseUint` for 64 bits.
///
/// # Errors
/// The text of Go's error.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    magnitude(text, base).map_err(|error| {
        format!(
            "strconv.ParseUint: parsing {}: {}",
            super::quote(text.as_bytes()),
            error.text()
        )
    })
}

enum Bad {
    Syntax,
    Range,
}

impl Bad {
    fn text(&self) -> &'static str {
        match self {
            Bad::Syntax => "invalid syntax",
            Bad::Range => "value out of range",
        }
    }
}

fn magnitude(digits: &str, base: u32) -> Result<u64, Bad> {
    let lower = digits.to_ascii_lowercase();
    let (digits, base) = match (base, lower.as_bytes()) {
        (0, [b'0', b'x', ..]) => (&lower[2..], 16),
        (0, [b'0', b'b', ..]) => (&lower[2..], 2),
        (0, [b'0', b'o', ..]) => (&lower[2..], 8),
        (0, [b'0', _, ..]) => (&lower[1..], 8),
        (0, _) => (&lower[..], 10),
        _ => (&lower[..], base),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(Bad::Syntax);
    }
    u64::from_str_radix(digits, base).map_err(|_| Bad::Range)
}

/// `strconv.ParseBool`.
///
/// # Errors
/// The text of Go's error.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let text = super::quote(text.as_bytes());
            Err(format!("strconv.ParseBool: parsing {text}: invalid syntax"))
        }
    }
}

/// A size with two significant digits and a decimal unit, like `20 kB` or `4.3 MB`.
pub fn bytes_short(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog10() / 3) as usize;
    let scaled = bytes as f64 / 1000f64.powi(exponent as i32);
    let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent];
    if rounded < 10.0 {
        format!("{rounded:.1} {unit}")
    } else {
        format!("{rounded:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, base, value) in [
            ("5", 10, Ok(5)),
            ("-5", 10, Ok(-5)),
            ("+5", 10, Ok(5)),
            ("7d7b", 16, Ok(0x7d7b)),
            ("0x10", 0, Ok(16)),
            ("010", 0, Ok(8)),
            ("9223372036854775808", 10, Err("value out of range")),
            ("-9223372036854775808", 10, Ok(i64::MIN)),
            ("zz", 16, Err("invalid syntax")),
            ("", 10, Err("invalid syntax")),
            ("--5", 10, Err("invalid syntax")),
        ] {
            let error = |what| format!("strconv.ParseInt: parsing {text:?}: {what}");
            assert_eq!(parse_int(text, base), value.map_err(error), "{text}");
        }
    }

    #[test]
    fn sizes_have_two_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20480, "20 kB"),
            (4_300_000, "4.3 MB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(bytes_short(bytes), text);
        }
    }
}
