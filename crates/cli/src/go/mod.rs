//! Numbers, durations, quotes and times in the forms of Go's standard library.

mod number;
mod quote;
mod time;

pub use number::{bytes_short, parse_bool, parse_int, parse_uint};
pub use quote::{json_string, quote, scan_quoted};
pub use time::{duration, parse_duration, timestamp};
