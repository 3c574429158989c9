//! Standard output.

use std::io::Write as _;

use crate::failure;

/// Writes to standard output and flushes it. A reader that went away ends the process: there is
/// nobody left to talk to.
pub fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(failure::ERROR.into());
    }
}

/// The same for text.
pub fn print_text(text: &str) {
    print_bytes(text.as_bytes());
}
