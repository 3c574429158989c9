//! Checkpoints: which segments make the state at one log entry, and everything of that state that
//! is in no segment.
//!
//! # Theory
//!
//! The [`Manifest`] is the one file that says what the state is. It is replaced as a whole: written
//! under another name, synced, renamed, and the directory synced. A segment that it does not list is
//! no part of the state, whether it is too new (its checkpoint did not come to its end) or too old
//! (its removal did not). So the order of a checkpoint is: segments durable, directory durable,
//! manifest replaced; and only what comes after that may rest on it.
//!
//! [`Directory`] does these things one at a time, for whoever keeps the order. The body of a
//! manifest is bytes here: what a state is made of is known further up.
//!
//! # Invariants
//!
//! - At every moment, and after a crash at every moment, the manifest is the one before or the one
//!   after a replacement, whole.
//! - A listed segment is on disk with the listed length and checksum, or opening is refused with
//!   file and offset.

mod directory;
mod error;
mod manifest;
#[cfg(test)]
mod tests;

pub use directory::Directory;
pub use error::{ManifestDamage, StateError};
pub use manifest::{Listed, Manifest};

/// Name of the manifest in the directory of the state.
pub const MANIFEST_NAME: &str = "manifest";

/// Name under which the next manifest is written.
pub const NEXT_MANIFEST_NAME: &str = "manifest.tmp";

/// Name of the manifest of a state that a leader sent, until it takes the place of the own one.
pub const RECEIVED_MANIFEST_NAME: &str = "manifest.received";

/// Name under which the manifest of a state that a leader sent is written.
pub const NEXT_RECEIVED_MANIFEST_NAME: &str = "manifest.received.tmp";

/// Name of the file that the state of a leader is received into.
pub const RECEIVING_NAME: &str = "receiving.db";

/// Name of the file in the directory of the state that names its format.
pub const FORMAT_NAME: &str = "format";

/// The format of the state that this release writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// The word in front of the number in that file.
pub const FORMAT_WORD: &str = "kvorum-state";

/// The content of that file.
#[must_use]
pub fn format_mark() -> String {
    format!("{FORMAT_WORD} {FORMAT}\n")
}
