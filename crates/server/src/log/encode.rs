//! How a line looks: JSON as etcd's logger writes it, or text for people.
//!
//! A JSON line is one object with `level`, `ts`, `caller` and `msg` first and the fields behind
//! them in the order they were added:
//!
//! ```text
//! {"level":"info","ts":"2026-01-02T03:04:05.678901Z","caller":"server/main.rs:7","msg":"ready","port":2379}
//! ```
//!
//! Times are UTC. etcd prints the local time with its offset, which is the same text where the
//! machine's zone is UTC.
//!
//! Source: v3.7.1 `client/pkg/logutil/zap.go` (`DefaultZapLoggerConfig`).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::line::Line;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object per line.
    Json,
    /// Columns with tabs between them, the fields as one JSON object at the end.
    Console,
}

impl Format {
    /// Reads a value of `--log-format`; empty means JSON.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "json" => Some(Self::Json),
            "console" => Some(Self::Console),
            _ => None,
        }
    }

    /// The bytes of a line, with the line end.
    pub(super) fn encode(self, line: &Line, now: SystemTime) -> String {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let time = timestamp(since_epoch);
        match self {
            Self::Json => json(line, &time),
            Self::Console => console(line, &time),
        }
    }
}

fn json(line: &Line, time: &str) -> String {
    let mut out = String::with_capacity(128 + 32 * line.fields.len());
    out.push_str("{\"level\":\"");
    out.push_str(line.level.name());
    out.push_str("\",\"ts\":\"");
    out.push_str(time);
    out.push_str("\",\"caller\":");
    push_text(&mut out, &line.caller);
    out.push_str(",\"msg\":");
    push_text(&mut out, &line.message);
    push_fields(&mut out, line, ",");
    out.push_str("}\n");
    out
}

fn console(line: &Line, time: &str) -> String {
    let mut out = format!("{time}\t{}\t{}\t", line.level.name(), line.caller);
    // A message of several lines would break the rule of one line per event.
    out.push_str(&line.message.replace(['\n', '\r'], " "));
    if !line.fields.is_empty() {
        out.push_str("\t{");
        push_fields(&mut out, line, "");
        out.push('}');
    }
    out.push('\n');
    out
}

fn push_fields(out: &mut String, line: &Line, first_separator: &str) {
    let mut separator = first_separator;
    for (name, value) in &line.fields {
        out.push_str(separator);
        push_text(out, name);
        // Writing to a string does not fail.
        let _ = write!(out, ":{value}");
        separator = ",";
    }
}

fn push_text(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = write!(out, "{}", Value::from(text));
}

/// Seconds in a day.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A time since 1970 as `2006-01-02T15:04:05.000000Z`.
pub(super) fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_date(seconds / DAY_SECONDS);
    let of_day = seconds % DAY_SECONDS;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since_epoch.subsec_micros()
    )
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// The calendar repeats every 400 years; a year is taken to begin in March, so that the leap day
/// is its last day and the lengths of the months before it follow one formula.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_FROM_YEAR_ZERO: u64 = 719_468;
    let days = days + DAYS_FROM_YEAR_ZERO;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Format, timestamp};
    use crate::log::{Level, Line};

    #[test]
    fn times_are_utc_with_microseconds() {
        let check = |seconds: u64, micros: u32, text: &str| {
            assert_eq!(timestamp(Duration::new(seconds, micros * 1000)), text);
        };
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(951_782_399, 5, "2000-02-28T23:59:59.000005Z");
        check(951_782_400, 0, "2000-02-29T00:00:00.000000Z");
        check(1_709_251_200, 120_000, "2024-03-01T00:00:00.120000Z");
        check(4_107_542_399, 999_999, "2100-02-28T23:59:59.999999Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000Z");
    }

    fn line() -> Line {
        Line::at(
            Level::Warn,
            "server/main.rs:7".to_owned(),
            "say \"hi\"\nthere",
        )
        .field("count", 5)
        .texts("urls", ["http://a:1"])
    }

    #[test]
    fn a_json_line_is_one_object_with_the_fields_behind() {
        assert_eq!(
            Format::Json.encode(&line(), UNIX_EPOCH),
            "{\"level\":\"warn\",\"ts\":\"1970-01-01T00:00:00.000000Z\",\
             \"caller\":\"server/main.rs:7\",\"msg\":\"say \\\"hi\\\"\\nthere\",\
             \"count\":5,\"urls\":[\"http://a:1\"]}\n"
        );
    }

    #[test]
    fn a_console_line_stays_on_one_line() {
        assert_eq!(
            Format::Console.encode(&line(), UNIX_EPOCH),
            "1970-01-01T00:00:00.000000Z\twarn\tserver/main.rs:7\tsay \"hi\" there\t\
             {\"count\":5,\"urls\":[\"http://a:1\"]}\n"
        );
    }
}
