//! A list only grows at its end.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::{Change, History};
use crate::workload::appends::KEYS;
use crate::workload::said;

/// Each value of a list is the one before with one element more, or begins anew with one.
pub(super) fn grow_at_their_end(history: &History) -> Result<(), String> {
    let mut lists: BTreeMap<&Bytes, &str> = BTreeMap::new();
    for (revision, (_, changes)) in &history.published {
        for change in changes.iter().filter(|change| is_list(change.key())) {
            let Change::Put(pair) = change else {
                lists.remove(change.key());
                continue;
            };
            let now = said(&pair.value);
            let before = lists.insert(&pair.key, now).unwrap_or_default();
            let added = now.strip_prefix(before).unwrap_or(now);
            let added = added.strip_prefix(',').unwrap_or(added);
            if added.is_empty() || added.contains(',') {
                return Err(format!("revision {revision}: {before:?} became {now:?}"));
            }
        }
    }
    Ok(())
}

/// Keys of lists are a letter and two digits.
fn is_list(key: &[u8]) -> bool {
    matches!(key, [letter, b'0'..=b'9', b'0'..=b'9'] if *letter == KEYS as u8)
}
