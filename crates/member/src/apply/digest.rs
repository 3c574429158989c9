//! One number for the whole replicated state, to compare members with.

use std::fmt;

use sha1::{Digest as _, Sha1};

use super::state::State;

/// A hash of the replicated state at one applied entry. Members that applied the same entries
/// have the same, whatever they have physically removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 20]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl State {
    /// Hashes the state. Looks at everything.
    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha1::new();
        let mut number = |number: i64| hash.update(number.to_be_bytes());
        number(self.applied.0 as i64);
        number(self.term.0 as i64);
        number(self.store.current_revision());
        number(self.store.compact_revision());
        for record in self.store.view().records() {
            let record =
                record.expect("who looks at everything has made sure that no file is damaged");
            let at = record.mod_revision();
            for part in [at.main, at.sub] {
                hash.update(part.to_be_bytes());
            }
            text(&mut hash, record.encoded());
        }
        for (id, grant) in self.grants.iter() {
            for part in [id.0, grant.ttl_seconds, grant.remaining_seconds] {
                hash.update(part.to_be_bytes());
            }
            for key in grant.keys() {
                text(&mut hash, key);
            }
        }
        // The derived form names every field, and holds ordered collections only.
        text(&mut hash, format!("{:?}", self.cluster()).as_bytes());
        Digest(hash.finalize().into())
    }
}

/// With its length in front, so that neighbours cannot run into each other.
fn text(hash: &mut Sha1, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
