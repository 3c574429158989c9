//! How calls fail, in the words of the tool.

use kvorum_cli::Failure;
use kvorum_cli::failure::{ERROR, log};
use kvorum_client::Error;

/// A call failed: `Error:` with the error, and this exit code.
pub(crate) fn call(code: u8, error: &Error) -> Failure {
    warn_of(error);
    Failure::new(code, error.to_string())
}

/// The same with the exit code of errors.
pub(crate) fn failed(error: Error) -> Failure {
    call(ERROR, &error)
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
