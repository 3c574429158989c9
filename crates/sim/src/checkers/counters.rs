//! A counter goes up by one with each write, and no raise that was acknowledged is missing.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::{Change, History};
use crate::workload::counters::{KEYS, number};

/// Each value of a counter is the one before and one more; a deleted counter begins anew.
pub(super) fn go_up_by_one(history: &History) -> Result<(), String> {
    let mut counters: BTreeMap<&Bytes, u64> = BTreeMap::new();
    for (revision, (_, changes)) in &history.published {
        for change in changes
            .iter()
            .filter(|it| it.key().starts_with(&[KEYS as u8]))
        {
            let Change::Put(pair) = change else {
                counters.remove(change.key());
                continue;
            };
            let now = number(&pair.value);
            let before = counters.insert(&pair.key, now).unwrap_or_default();
            if now != before + 1 {
                return Err(format!(
                    "revision {revision}: {:?} went from {before} to {now}",
                    pair.key
                ));
            }
        }
    }
    Ok(())
}
