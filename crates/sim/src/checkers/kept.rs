//! A compaction takes away what nobody may read any more, and nothing else.

use super::state::State;
use crate::history::{History, Outcome, Request};

/// What every member holds at rest of its compacted revision and of later ones is what was published; nobody is compacted
/// further than somebody asked for.
pub(super) fn keeps_what_it_must(history: &History) -> Result<(), String> {
    let asked = history.operations.iter();
    let asked = asked.filter(|operation| !matches!(operation.outcome, Outcome::Refused(_)));
    let asked = asked.filter_map(|operation| match operation.request {
        Request::Compact { revision } => Some(revision),
        _ => None,
    });
    let furthest = asked.max().unwrap_or_default();
    let mut kept: Vec<_> = history.kept.iter().collect();
    kept.sort_by_key(|kept| kept.revision);
    let mut state = State::new(history);
    for kept in kept {
        if kept.compacted > furthest {
            return Err(format!(
                "member {} is compacted at {}, nobody asked for more than {furthest}",
                kept.member, kept.compacted
            ));
        }
        state.go_to(kept.revision);
        let expected = state.all();
        if kept.pairs != expected {
            return Err(format!(
                "member {} is compacted at {} and holds of revision {} {:?}, published was {expected:?}",
                kept.member, kept.compacted, kept.revision, kept.pairs
            ));
        }
    }
    Ok(())
}
