//! How a command fails: an exit code, and what standard error says.
//!
//! Source: v3.7.1 `pkg/cobrautl/error.go`.

use std::time::SystemTime;

use kvorum_client::Error;

use crate::go;

/// An error, also one of the server; an unknown command or flag.
pub(crate) const ERROR: u8 = 1;
/// No connection, and errors of leases.
pub(crate) const BAD_CONNECTION: u8 = 2;
/// What came from standard input cannot be understood.
pub(crate) const INVALID_INPUT: u8 = 3;
/// A flag has a value that is not supported.
pub(crate) const BAD_FEATURE: u8 = 4;
/// The server ended a watch.
pub(crate) const INTERRUPTED: u8 = 5;
/// The arguments are wrong.
pub(crate) const BAD_ARGS: u8 = 128;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// What standard error says, without the last line feed; empty for nothing.
    text: String,
}

impl Failure {
    /// `Error: MESSAGE` and this exit code.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            text: format!("Error: {}", message.into()),
        }
    }

    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(ERROR, message)
    }

    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self::new(BAD_ARGS, message)
    }

    /// Everything was said already.
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            code,
            text: String::new(),
        }
    }

    /// A text of several lines as it is.
    pub(crate) fn verbatim(code: u8, text: String) -> Self {
        Self { code, text }
    }

    /// A call failed.
    pub(crate) fn call(code: u8, error: &Error) -> Self {
        warn_of(error);
        Self::new(code, error.to_string())
    }

    pub(crate) fn report(&self) {
        if !self.text.is_empty() {
            eprintln!("{}", self.text);
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::call(ERROR, &error)
    }
}

/// Logs which endpoints were tried and why none was reached: the error itself does not say it.
pub(crate) fn warn_of(error: &Error) {
    let Error::DeadlineExceeded {
        method,
        endpoints,
        reason,
    } = error
    else {
        return;
    };
    let reason = reason
        .as_deref()
        .unwrap_or("the endpoint does not answer; is the cluster healthy?");
    log(
        "warn",
        "retrying of unary invoker failed",
        &[
            ("logger", "etcd-client"),
            ("target", endpoints),
            ("method", method),
            ("error", reason),
        ],
    );
}

/// One line of JSON on standard error, in the form of etcd's logs.
pub(crate) fn log(level: &str, message: &str, fields: &[(&str, &str)]) {
    let mut line = format!(
        "{{\"level\":\"{level}\",\"ts\":\"{}\"",
        go::timestamp(SystemTime::now())
    );
    for (name, value) in [("msg", message)].iter().chain(fields) {
        line += &format!(",\"{name}\":{}", go::json_string(value));
    }
    eprintln!("{line}}}");
}
