//! How calls fail, in the words of the tool.
//!
//! Scripts read what etcd's tool says and no more. A person at a terminal is also told which
//! endpoint it is about and what to do.

use std::io::IsTerminal as _;

use kvorum_cli::Failure;
use kvorum_cli::failure::{ERROR, log};
use kvorum_client::{Code, Error};

/// A call failed: `Error:` with the error, and this exit code.
pub(crate) fn call(code: u8, error: &Error) -> Failure {
    warn_of(error);
    let mut text = error.to_string();
    if is_watched()
        && let Some(hint) = hint(error)
    {
        text += &format!("\n{hint}");
    }
    Failure::new(code, text)
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
    if is_watched() {
        return;
    }
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

/// Whether a person reads the errors.
fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Parts of reasons for which no connection came about, and what to do about them.
const OF_CONNECTIONS: [(&str, &str); 9] = [
    (
        "refused",
        "Nothing listens there: does the server run, and is --endpoints right?",
    ),
    ("lookup", "The name is not known: is --endpoints right?"),
    (
        "UnknownIssuer",
        "The server's certificate is not trusted: name its CA with --cacert.",
    ),
    (
        "NotValidForName",
        "The server's certificate is for another name than that of the endpoint.",
    ),
    (
        "certificate expired",
        "The server's certificate has expired.",
    ),
    (
        "CertificateRequired",
        "The server wants a certificate: give --cert and --key.",
    ),
    (
        "UnknownCA",
        "The server does not trust the certificate of --cert.",
    ),
    (
        "invalid peer certificate",
        "The server's certificate cannot be used.",
    ),
    (
        "InvalidMessage",
        "The server does not speak TLS there: use http:// in --endpoints.",
    ),
];

/// Texts of servers, and what to do about them.
const OF_SERVERS: [(&str, &str); 5] = [
    (
        "etcdserver: user name is empty",
        "Say who you are with --user NAME[:PASSWORD].",
    ),
    (
        "etcdserver: authentication failed, invalid user ID or password",
        "Is the name and password of --user right?",
    ),
    (
        "etcdserver: mvcc: database space exceeded",
        "Make room with `compaction` and `defrag`, then end the alarm with `alarm disarm`.",
    ),
    (
        "etcdserver: no leader",
        "Most members cannot be reached; see `endpoint status --cluster`.",
    ),
    (
        "etcdserver: request timed out",
        "The cluster is slow or has no leader; see `endpoint status --cluster`.",
    ),
];

/// Where it failed and what to do, for a person.
fn hint(error: &Error) -> Option<String> {
    match error {
        Error::DeadlineExceeded {
            endpoints,
            reason: None,
            ..
        } => Some(format!(
            "No answer from {endpoints}. The cluster may have no leader (see `endpoint status`); \
             --command-timeout gives it more time."
        )),
        Error::DeadlineExceeded {
            reason: Some(reason),
            ..
        } => {
            let known = OF_CONNECTIONS
                .iter()
                .find(|(part, _)| reason.contains(part));
            let advice = known.map_or("", |(_, advice)| advice);
            Some(format!("{reason}\n{advice}").trim_end().to_owned())
        }
        Error::Status(status) if status.code == Code::PERMISSION_DENIED => {
            Some("See what the user may do with `user get NAME --detail`, as root.".to_owned())
        }
        Error::Status(status) if status.code == Code::UNAVAILABLE => {
            let broken = "The connection broke: whether the request was carried out is not known.";
            Some(of_server(&status.message).unwrap_or(broken).to_owned())
        }
        Error::Status(status) => of_server(&status.message).map(str::to_owned),
        _ => None,
    }
}

/// What to do about the text of a server.
fn of_server(text: &str) -> Option<&'static str> {
    let known = OF_SERVERS.iter().find(|(known, _)| *known == text);
    known.map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: Option<&str>, advice: &str) {
        let error = Error::DeadlineExceeded {
            method: "/m",
            endpoints: "node:1".to_owned(),
            reason: reason.map(str::to_owned),
        };
        let hint = hint(&error).expect("a hint");
        assert!(hint.contains("node:1") && hint.contains(advice), "{hint}");
    }

    #[test]
    fn a_person_is_told_the_endpoint_and_what_to_do() {
        check(None, "--command-timeout");
        check(
            Some("connection error: node:1: Connection refused"),
            "does the server run",
        );
        check(
            Some("node:1: invalid peer certificate: UnknownIssuer"),
            "--cacert",
        );
        check(Some("node:1: something new"), "something new");
    }
}
