//! Counting the pairs of an interval without visiting them all.

use kvorum_storage::segment::Damage;

use crate::interval::End;
use crate::{Interval, Revision, View};

/// Number of pairs of an interval at a readable revision.
///
/// At the newest revision the index knows the number. At an older one, as when a client lists page
/// by page while others write, it is corrected by the keys that changed since; only when there are
/// more changes than keys in the interval, the keys are visited.
///
/// # Errors
///
/// [`Damage`] when a change since an older revision lies in a file that is damaged.
pub(crate) fn count(view: &View, interval: &Interval, revision: i64) -> Result<i64, Damage> {
    if interval.end == End::Single {
        let live = view.index.live_at(&interval.start, revision);
        return Ok(i64::from(live.is_some()));
    }
    if revision == view.current {
        return Ok(view.index.count_live(interval));
    }
    if view.log.count_above(revision) < view.index.count_known(interval) {
        return count_back(view, interval, revision);
    }
    let live = view
        .index
        .ascend(interval)
        .filter(|(_, history)| history.live_at(revision).is_some());
    Ok(live.count() as i64)
}

/// Goes back from the newest number. All changes above a readable revision are in the log, and
/// each key is looked at once: at its newest change.
fn count_back(view: &View, interval: &Interval, revision: i64) -> Result<i64, Damage> {
    let mut count = view.index.count_live(interval);
    for change in view.log.from(Revision::start_of(revision + 1)) {
        let change = change?;
        if !interval.contains(change.key()) {
            continue;
        }
        let history = view.index.history(change.key());
        let history = history.expect("changes above a readable revision are in the index");
        if history.newest().mod_revision() == change.mod_revision() {
            count += i64::from(history.live_at(revision).is_some());
            count -= i64::from(!change.is_tombstone());
        }
    }
    Ok(count)
}
