//! Numbers for metrics.

/// What a store has done since it was made. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Puts, those inside transactions too.
    pub puts: u64,
    /// Key and value bytes of all puts.
    pub put_bytes: u64,
    /// Delete requests, those inside transactions and those that deleted nothing too.
    pub deletes: u64,
    /// Ranges inside write transactions. Ranges on a view are counted by whoever runs them.
    pub ranges: u64,
    /// Write transactions with more than one put, delete or range.
    pub txns: u64,
    /// Records removed by compaction.
    pub compacted_records: u64,
}
