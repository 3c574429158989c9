//! Numbers, durations, quotes and times in the forms of Go's standard library.

mod number;
mod quote;
mod time;

pub use number::{bytes_short, parse_bool, parse_int, parse_uint};
pub use quote::{json_string, quote, scan_quoted};
pub use time::{duration, parse_duration, timestamp};

/// What went wrong with a file, as Go says it: lower case, without the number.
pub fn os_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase());
    first.into_iter().flatten().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_of_files_are_in_lower_case_without_numbers() {
        for (number, text) in [
            (2, "no such file or directory"),
            (28, "no space left on device"),
        ] {
            let error = std::io::Error::from_raw_os_error(number);
            assert_eq!(super::os_error(&error), text);
        }
    }
}
