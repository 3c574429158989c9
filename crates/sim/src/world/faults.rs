//! Which faults there are, and during what they struck.

use std::collections::BTreeMap;

use super::World;
use super::node::Place;

/// How often a fault struck while a client of a kind of use waited for an answer.
pub type Pairs = BTreeMap<(&'static str, &'static str), u64>;

/// What a storm of watchers is called beside the kinds of use.
pub const STORMS: &str = "watch storms";

/// Every fault that strikes while clients are at work.
pub const FAULTS: &[&str] = &[
    "kills",
    "power losses",
    "files torn",
    "sectors lost",
    "sectors kept",
    "names lost",
    "reads of the disk failed",
    "writes failed",
    "syncs failed",
    "disk calls refused by a full disk",
    "disk jobs hung",
    "disks that lie",
    "pauses of the process",
    "clocks put ahead",
    "clocks that drift",
    "clocks that stand still",
    "members that are slow",
    "messages late",
    "messages lost",
    "messages sent twice",
    "messages that overtake others",
    "leaders isolated",
    "partitions",
    "members that hear nobody",
    "members that nobody hears",
    "links that flap",
    "links that lag",
    "elections disturbed",
    "leaders that come back",
    "applies that stall",
    "connections reset",
    "snapshots lost",
    "snapshots that give way to another",
    "snapshots given up in silence",
    "snapshots with a wrong byte",
    "deaths while a snapshot comes in",
    "deaths while a snapshot goes out",
    "deaths during a checkpoint",
    "deaths during a copy",
    "deaths during a compaction",
    "deaths during the installation of a snapshot",
    "learners added",
    "voters added",
    "learners promoted",
    "members removed",
    "members wiped",
    "members wiped and replaced",
    "addresses changed",
    "leads moved",
    "quotas reached",
    "quotas cleared",
];

impl World {
    /// A fault strikes: it is counted, alone and with what clients are doing.
    pub(super) fn struck(&mut self, fault: &'static str) {
        self.count(fault);
        self.pair(fault);
    }

    /// Counts a fault with what clients are doing.
    pub(super) fn pair(&mut self, fault: &'static str) {
        debug_assert!(FAULTS.contains(&fault), "{fault} is not in the list");
        if self.is_resting {
            return;
        }
        for client in &self.clients {
            if client.acts && client.waits_for.is_some() {
                *self.pairs.entry((fault, client.kind.name())).or_default() += 1;
            }
        }
        let storms = |it: &&super::WatchClient| it.storms && it.stream.is_some();
        if self.watch_clients.iter().any(|client| storms(&client)) {
            *self.pairs.entry((fault, STORMS)).or_default() += 1;
        }
    }

    /// Looks at what a disk has counted since the last time.
    pub(super) fn note_disk(&mut self, place: Place) {
        let now = self.nodes[place].disk.counts();
        let before = std::mem::replace(&mut self.nodes[place].noted, now);
        let kinds = [
            ("power losses", before.crashes, now.crashes),
            ("files torn", before.files_torn, now.files_torn),
            ("sectors lost", before.sectors_lost, now.sectors_lost),
            ("sectors kept", before.sectors_kept, now.sectors_kept),
            ("names lost", before.names_lost, now.names_lost),
            (
                "reads of the disk failed",
                before.failed_reads,
                now.failed_reads,
            ),
            ("writes failed", before.failed_writes, now.failed_writes),
            ("syncs failed", before.failed_syncs, now.failed_syncs),
            ("disk calls refused by a full disk", before.full, now.full),
        ];
        for (fault, before, now) in kinds {
            if now > before {
                self.pair(fault);
            }
        }
    }
}
