//! Who speaks as the leader of an election is the candidate who came first, of those that are there.

use super::state::State;
use crate::history::{Change, History, Keys};
use crate::workload::elections::{CANDIDATES, SPEECH};
use crate::workload::said;

/// At each revision at which somebody spoke, he was the first candidate.
pub(super) fn the_first_speaks(history: &History) -> Result<(), String> {
    let candidates = Keys {
        start: CANDIDATES.into(),
        end: "e0".into(),
    };
    let mut state = State::new(history);
    for (revision, (_, changes)) in &history.published {
        for change in changes {
            let Change::Put(pair) = change else { continue };
            if pair.key != SPEECH {
                continue;
            }
            state.go_to(revision - 1);
            let there = state.select(&candidates);
            let first = there.iter().min_by_key(|pair| pair.create_revision);
            if first.is_none_or(|first| first.key != said(&pair.value)) {
                return Err(format!(
                    "at revision {revision} {:?} spoke, the first was {first:?}",
                    pair.value
                ));
            }
        }
    }
    Ok(())
}
