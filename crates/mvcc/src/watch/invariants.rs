//! What always holds, checked. Tests and the simulator do so after every step.

use std::collections::BTreeMap;

use super::hub::WatchHub;
use super::stream::Position;

impl WatchHub {
    /// Checks every invariant of the hub, at a cost that grows with the number of watchers.
    ///
    /// # Panics
    ///
    /// When one does not hold; the message says which.
    pub fn check_invariants(&self) {
        assert!(
            self.live <= self.view.current_revision(),
            "the hub shows what the store has"
        );
        self.targets.check_invariants();
        self.check_places();
        self.check_owners();
        self.check_turn();
        self.check_timers();
    }

    /// A watcher stands in one place, with its cursor at most the live revision.
    fn check_places(&self) {
        let mut slow = 0;
        for (slot, watcher) in self.watchers.iter() {
            let synced = self.targets[watcher.target].synced.contains(&slot);
            match watcher.position {
                Position::Synced => assert!(synced, "a synced watcher stands at its target"),
                Position::Behind(next) => {
                    let behind = &self.streams[watcher.stream].behind;
                    assert!(
                        !synced,
                        "a watcher that is behind is not shown what happens"
                    );
                    assert!(behind.contains(&(next, slot)), "it stands at its stream");
                    assert!(next <= self.live, "a cursor is at most the live revision");
                    slow += 1;
                }
            }
        }
        let behind: usize = self
            .streams
            .iter()
            .map(|(_, stream)| stream.behind.len())
            .sum();
        assert_eq!(
            slow, behind,
            "only watchers that are behind stand at a stream"
        );
        assert_eq!(slow, self.counts.slow_watchers, "slow watchers are counted");
    }

    /// Streams, watchers and targets point at each other.
    fn check_owners(&self) {
        assert_eq!(
            self.names.len(),
            self.streams.len(),
            "a stream has one name"
        );
        let mut owned = 0;
        for (name, slot) in &self.names {
            let stream = &self.streams[*slot];
            assert_eq!(stream.id, *name, "a stream is found by its name");
            for (id, watcher) in &stream.watchers {
                let watcher = &self.watchers[*watcher];
                assert_eq!(
                    (watcher.stream, watcher.id),
                    (*slot, *id),
                    "a watcher has one stream"
                );
            }
            owned += stream.watchers.len();
            assert!(
                stream.behind.len() <= stream.watchers.len(),
                "those behind are its own"
            );
        }
        assert_eq!(owned, self.watchers.len(), "every watcher has a stream");
        let mut watching = BTreeMap::new();
        for (_, watcher) in self.watchers.iter() {
            *watching.entry(watcher.target).or_insert(0) += 1;
        }
        for (slot, target) in self.targets.iter() {
            assert_eq!(
                watching.get(&slot),
                Some(&target.watchers),
                "a target counts its watchers"
            );
            for watcher in &target.synced {
                let watcher = self
                    .watchers
                    .find(*watcher)
                    .expect("a target holds live watchers");
                assert_eq!(
                    watcher.target, slot,
                    "a target shows events to its own watchers"
                );
            }
        }
    }

    /// The turn is that of the streams that have room and a watcher behind.
    fn check_turn(&self) {
        let due = (self.streams.iter())
            .filter(|(_, stream)| stream.is_flowing() && !stream.behind.is_empty())
            .map(|(slot, _)| slot);
        assert!(
            due.eq(self.turn.iter().copied()),
            "the turn is that of streams with work"
        );
    }

    /// Timers and streams agree, and where a watcher is to be notified there is a timer.
    fn check_timers(&self) {
        let mut timers = 0;
        for (slot, stream) in self.streams.iter() {
            let mut watchers = stream
                .watchers
                .values()
                .map(|watcher| &self.watchers[*watcher]);
            match stream.progress_at {
                Some(at) => {
                    assert!(
                        self.timers.contains(&(at, slot)),
                        "the timer of a stream is set"
                    );
                    timers += 1;
                }
                None => assert!(
                    !watchers.any(|watcher| watcher.notify),
                    "who asks is notified"
                ),
            }
        }
        assert_eq!(timers, self.timers.len(), "a timer has a stream");
    }
}
