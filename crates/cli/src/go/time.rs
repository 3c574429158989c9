//! Durations and times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;

/// `time.Duration.String`: the largest fitting unit, as many digits as needed.
pub fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let fraction = |value: u128, unit: u128| {
        let width = unit.ilog10() as usize;
        let fraction = format!("{:0width$}", value % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() || unit == 1 {
            ""
        } else {
            "."
        };
        let fraction = if unit == 1 { "" } else { fraction };
        format!("{}{point}{fraction}", value / unit)
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..MICROSECOND => format!("{nanoseconds}ns"),
        MICROSECOND..MILLISECOND => format!("{}µs", fraction(nanoseconds, MICROSECOND)),
        MILLISECOND..SECOND => format!("{}ms", fraction(nanoseconds, MILLISECOND)),
        _ => {
            let seconds = fraction(nanoseconds % MINUTE, SECOND);
            let minutes = nanoseconds % HOUR / MINUTE;
            match (nanoseconds / HOUR, nanoseconds / MINUTE) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                (hours, _) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `time.ParseDuration`; a negative duration counts as none.
///
/// # Errors
/// The text of Go's error.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let quoted = || super::quote(text.as_bytes());
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0u128;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(invalid());
        }
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "" => return Err(format!("time: missing unit in duration {}", quoted())),
            "ns" => 1,
            "us" | "µs" | "μs" => MICROSECOND,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => {
                let unit = super::quote(unit.as_bytes());
                return Err(format!(
                    "time: unknown unit {unit} in duration {}",
                    quoted()
                ));
            }
        };
        let digits = |text: &str| {
            if text.is_empty() {
                Ok(0)
            } else {
                text.parse::<u64>().map_err(|_| invalid())
            }
        };
        total += u128::from(digits(whole)?) * unit;
        let fraction = &fraction[..fraction.len().min(18)];
        total += u128::from(digits(fraction)?) * unit / 10u128.pow(fraction.len() as u32);
        rest = tail;
    }
    let nanoseconds = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative {
        Duration::ZERO
    } else {
        Duration::from_nanos(nanoseconds.unsigned_abs())
    })
}

/// The time in UTC with microseconds, as in etcd's logs.
pub fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years are counted from March on, in eras of 400 years, so that the leap day is the last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}.{:06}Z",
        era * 400 + year + next_year,
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_and_read_as_go_does() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (2_005_032, "2.005032ms"),
            (1_002_129_576, "1.002129576s"),
            (5_000_000_000, "5s"),
            (65_000_000_000, "1m5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)));
        }
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5y", "time: unknown unit \"y\" in duration \"5y\""),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn times_follow_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_794_886_548, "2026-11-17T03:35:48.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
