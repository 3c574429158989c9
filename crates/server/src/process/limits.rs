//! The limit of open files, which is the limit of client connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept back for the member itself: log, state, peers.
///
/// Source: v3.7.1 `server/embed/etcd.go` (`reservedInternalFDNum`).
pub const FILES_RESERVED: u64 = 150;

/// The limit of open files is not above what the member itself needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "file descriptor limit of etcd process is too low; please set higher (limit {limit}, \
     recommended above {FILES_RESERVED})"
)]
pub struct TooFewFiles {
    /// Open files allowed.
    pub limit: u64,
}

/// Raises the limit of open files to what the system allows, as a Go program does at its start.
/// Returns the limit; `None` when there is none.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    }
}

/// The connections of clients that a limit of open files leaves room for; `None` for no limit.
///
/// # Errors
/// The limit leaves no room.
pub fn client_connections_max(open_files: Option<u64>) -> Result<Option<u64>, TooFewFiles> {
    let Some(limit) = open_files else {
        return Ok(None);
    };
    if limit <= FILES_RESERVED {
        return Err(TooFewFiles { limit });
    }
    Ok(Some(limit - FILES_RESERVED))
}

#[cfg(test)]
mod tests {
    use super::{FILES_RESERVED, TooFewFiles, client_connections_max, raise_open_files};

    #[test]
    fn some_files_are_kept_back() {
        assert_eq!(client_connections_max(None), Ok(None));
        assert_eq!(
            client_connections_max(Some(FILES_RESERVED + 1)),
            Ok(Some(1))
        );
        let limit = FILES_RESERVED;
        assert_eq!(
            client_connections_max(Some(limit)),
            Err(TooFewFiles { limit })
        );
    }

    #[test]
    fn raising_twice_changes_nothing_more() {
        assert_eq!(raise_open_files(), raise_open_files());
    }
}
