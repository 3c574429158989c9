//! The end of a start that goes no further: what is printed, what is logged, and the status.

use std::io::Write as _;

use crate::log::Line;

/// Status after help, version, and a normal end.
pub const STATUS_OK: u8 = 0;
/// Status after a configuration that cannot be used, or a failed start.
pub const STATUS_FAILED: u8 = 1;
/// Status after a command line that cannot be read.
pub const STATUS_USAGE: u8 = 2;

/// Why the process ends before the member is started.
#[derive(Debug)]
pub struct Exit {
    /// Status of the process.
    pub status: u8,
    /// Text for standard output.
    pub stdout: String,
    /// Text for standard error.
    pub stderr: String,
    /// Lines of the log.
    pub lines: Vec<Line>,
}

impl Exit {
    /// Help or version: a text on standard output and success.
    #[must_use]
    pub fn print(stdout: String) -> Self {
        Self {
            status: STATUS_OK,
            stdout,
            stderr: String::new(),
            lines: Vec::new(),
        }
    }

    /// A command line that cannot be read: the error, then the usage.
    #[must_use]
    pub fn usage(error: &str, usage: &str) -> Self {
        Self {
            status: STATUS_USAGE,
            stdout: String::new(),
            stderr: format!("{error}\n{usage}\n"),
            lines: Vec::new(),
        }
    }

    /// A text on standard error and failure.
    #[must_use]
    pub fn fail(stderr: String) -> Self {
        Self {
            status: STATUS_FAILED,
            stdout: String::new(),
            stderr,
            lines: Vec::new(),
        }
    }

    /// Lines in the log and failure.
    #[must_use]
    pub fn logged(lines: Vec<Line>) -> Self {
        Self {
            status: STATUS_FAILED,
            stdout: String::new(),
            stderr: String::new(),
            lines,
        }
    }

    /// Prints and logs what there is, and returns the status to end with.
    pub fn report(&self) -> u8 {
        // There is no one left to tell when these streams are closed.
        let _ = std::io::stdout().lock().write_all(self.stdout.as_bytes());
        let _ = std::io::stdout().lock().flush();
        let _ = std::io::stderr().lock().write_all(self.stderr.as_bytes());
        for line in &self.lines {
            line.write();
        }
        self.status
    }
}
