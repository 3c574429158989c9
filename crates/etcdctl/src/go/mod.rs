//! Numbers, durations, quotes and times in the forms of Go's standard library.

mod number;
mod quote;
mod time;

pub(crate) use number::{bytes_short, parse_bool, parse_int, parse_uint};
pub(crate) use quote::{json_string, quote, scan_quoted};
pub(crate) use time::{duration, parse_duration, timestamp};
