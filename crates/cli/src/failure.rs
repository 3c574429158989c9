//! How a command fails: an exit code, and what standard error says.
//!
//! Source: v3.7.1 `pkg/cobrautl/error.go`.

use std::time::SystemTime;

use crate::go;

/// An error, also one of the server; an unknown command or flag.
pub const ERROR: u8 = 1;
/// No connection, and errors of leases.
pub const BAD_CONNECTION: u8 = 2;
/// What came from standard input cannot be understood.
pub const INVALID_INPUT: u8 = 3;
/// A flag has a value that is not supported.
pub const BAD_FEATURE: u8 = 4;
/// The server ended a watch; a snapshot could not be saved.
pub const INTERRUPTED: u8 = 5;
/// A file could not be read or written.
pub const IO: u8 = 6;
/// The arguments are wrong.
pub const BAD_ARGS: u8 = 128;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// What standard error says, without the last line feed; empty for nothing.
    pub text: String,
}

impl Failure {
    /// `Error: MESSAGE` and this exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            text: format!("Error: {}", message.into()),
        }
    }

    /// `Error: MESSAGE` and the exit code of errors.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(ERROR, message)
    }

    /// `Error: MESSAGE` and the exit code of wrong arguments.
    pub fn arguments(message: impl Into<String>) -> Self {
        Self::new(BAD_ARGS, message)
    }

    /// Everything was said already.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            text: String::new(),
        }
    }

    /// A text of several lines as it is.
    pub fn verbatim(code: u8, text: String) -> Self {
        Self { code, text }
    }

    /// The text without the word before it.
    pub fn message(&self) -> &str {
        self.text.strip_prefix("Error: ").unwrap_or(&self.text)
    }

    /// Says it on standard error.
    pub fn report(&self) {
        if !self.text.is_empty() {
            eprintln!("{}", self.text);
        }
    }
}

/// One line of JSON on standard error, in the form of etcd's logs: level, time, message, and
/// further fields of text.
pub fn log(level: &str, message: &str, fields: &[(&str, &str)]) {
    let mut line = format!(
        "{{\"level\":\"{level}\",\"ts\":\"{}\"",
        go::timestamp(SystemTime::now())
    );
    for (name, value) in [("msg", message)].iter().chain(fields) {
        line += &format!(",\"{name}\":{}", go::json_string(value));
    }
    eprintln!("{line}}}");
}
