//! Where lines go: standard error, standard output, files, the journal.
//!
//! Each line is one write. Files are opened for appending, so that several processes and a log
//! rotation that copies and truncates do not tear lines. A line that cannot be written is lost:
//! a full log disk must not stop a member.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;

use super::line::{Level, Line};

/// Where the journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// One place that lines are written to.
#[derive(Debug)]
pub(super) enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file.
    File(File),
    /// The journal of systemd.
    Journal(UnixDatagram),
}

impl Output {
    /// Opens a log file for appending; it is made when it is missing.
    pub(super) fn file(path: &str) -> io::Result<Self> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(Self::File)
    }

    /// Connects to the journal.
    pub(super) fn journal() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(JOURNAL_SOCKET)?;
        Ok(Self::Journal(socket))
    }

    /// Writes one encoded line.
    pub(super) fn write(&self, line: &Line, encoded: &str) {
        // Nobody could be told about a failure but the log itself.
        let _ = match self {
            Self::Stderr => io::stderr().lock().write_all(encoded.as_bytes()),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(encoded.as_bytes())
                    .and_then(|()| stdout.flush())
            }
            Self::File(file) => (&mut &*file).write_all(encoded.as_bytes()),
            Self::Journal(socket) => {
                let sent = socket.send(&journal_entry(line, encoded)).map(|_| ());
                // A line too long for a datagram, or a journal that went away.
                sent.or_else(|_| io::stderr().lock().write_all(encoded.as_bytes()))
            }
        };
    }
}

/// An entry in the journal's own protocol: one `NAME=value` per line. The value of `MESSAGE` is
/// written with its length in front, so that it may hold anything.
///
/// Source: v3.7.1 `client/pkg/logutil/zap_journal.go` for the fields and the priorities.
fn journal_entry(line: &Line, encoded: &str) -> Vec<u8> {
    let priority = match line.level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Panic | Level::Fatal => 2,
    };
    let package = line
        .caller
        .rsplit_once('/')
        .map_or(".", |(package, _)| package);
    let mut entry =
        format!("PRIORITY={priority}\nPACKAGE={package}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n")
            .into_bytes();
    entry.extend_from_slice(&(encoded.len() as u64).to_le_bytes());
    entry.extend_from_slice(encoded.as_bytes());
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::{Level, Line, journal_entry};

    #[test]
    fn a_journal_entry_carries_priority_and_message() {
        let line = Line::at(Level::Error, "server/main.rs:7".to_owned(), "x");
        assert_eq!(
            journal_entry(&line, "{}\n"),
            b"PRIORITY=3\nPACKAGE=server\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n\
              \x03\0\0\0\0\0\0\0{}\n\n"
        );
    }
}
