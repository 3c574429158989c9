//! Time: notifications for idle watchers, streams without a leader.

use std::time::Duration;

use kvorum_proto::ids::{Moment, Term};

use super::door::{MessageKind, Output, PROGRESS_INTERVAL_DEFAULT, PROGRESS_INTERVAL_MIN};
use super::hub::{NO_WATCHER, WatchHub};
use super::slots::Slot;
use super::stream::{Position, Stream, StreamId};

/// The random part of the progress interval is less than this part of it.
const JITTER_PART: u64 = 10;

/// What is known of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    /// There is one.
    Known,
    /// There is none.
    Missing {
        /// When the streams that require one end; nothing when they have ended.
        deadline: Option<Moment>,
    },
}

impl WatchHub {
    /// When the next [`super::Input::Tick`] is due; nothing while nobody waits for the time.
    pub fn next_deadline(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let leader = match self.leader {
            Leader::Missing { deadline } => deadline,
            Leader::Known => None,
        };
        timer.into_iter().chain(leader).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        while let Some((at, stream)) = self.timers.first().copied() {
            if at > self.now {
                break;
            }
            self.timers.remove(&(at, stream));
            self.streams[stream].progress_at = None;
            self.notify_idle(stream);
        }
        if let Leader::Missing {
            deadline: Some(deadline),
        } = self.leader
            && deadline <= self.now
        {
            self.leader = Leader::Missing { deadline: None };
            self.end_streams_without_leader();
        }
    }

    /// Answers for the whole stream, or not at all.
    ///
    /// Source: etcd v3.7.1, `server/storage/mvcc/watchable_store.go` (`progressIfSync`).
    pub(super) fn progress_requested(&mut self, stream: StreamId) {
        let Some(slot) = self.names.get(&stream).copied() else {
            return;
        };
        let stream = &self.streams[slot];
        let mut watchers = stream
            .watchers
            .values()
            .map(|watcher| &self.watchers[*watcher]);
        let synced = !stream.watchers.is_empty()
            && stream.behind.is_empty()
            && watchers.all(|watcher| watcher.promise_from <= self.live);
        if synced {
            let notification = self.head(self.live, NO_WATCHER);
            self.send(slot, MessageKind::Progress, &notification, None);
        }
    }

    /// Begins to notify the idle watchers of a stream, unless that has begun.
    pub(super) fn start_timer(&mut self, slot: Slot<Stream>) {
        if self.streams[slot].progress_at.is_none() {
            let at = self.now + self.progress_interval();
            self.streams[slot].progress_at = Some(at);
            self.timers.insert((at, slot));
        }
    }

    /// The interval with its random part, new for each use: clients that came together are not
    /// notified together.
    fn progress_interval(&mut self) -> Duration {
        let interval = match self.config.progress_interval {
            Duration::ZERO => PROGRESS_INTERVAL_DEFAULT,
            interval => interval.max(PROGRESS_INTERVAL_MIN),
        };
        self.draws += 1;
        let chance = super::mix(self.config.seed ^ super::mix(self.draws));
        let jitter_max = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX) / JITTER_PART;
        interval + Duration::from_nanos(chance % jitter_max)
    }

    /// Notifies the watchers of a stream that asked for it, are synced and got no event since the
    /// last time, as far as there is room; the others wait for the next time.
    fn notify_idle(&mut self, stream: Slot<Stream>) {
        let watchers: Vec<_> = self.streams[stream].watchers.values().copied().collect();
        let mut wanted = false;
        for slot in watchers {
            let watcher = &mut self.watchers[slot];
            if !watcher.notify {
                continue;
            }
            wanted = true;
            let was_idle = std::mem::replace(&mut watcher.idle, true);
            let synced = watcher.position == Position::Synced && watcher.promise_from <= self.live;
            if was_idle && synced && self.streams[stream].is_flowing() {
                let notification = self.head(self.live, self.watchers[slot].id);
                self.send(stream, MessageKind::Progress, &notification, None);
            }
        }
        if wanted {
            self.start_timer(stream);
        }
    }

    /// The term or the leader changed. Streams that require a leader end when it is missing for
    /// long; when one is found in time nothing happens.
    ///
    /// Source: etcd v3.7.1, `server/etcdserver/api/v3rpc/interceptor.go` (`monitorLeader`).
    pub(super) fn leadership(&mut self, term: Term, has_leader: bool) {
        self.term = term;
        self.leader = match (has_leader, self.leader) {
            (true, _) => Leader::Known,
            (false, Leader::Known) => Leader::Missing {
                deadline: Some(self.now + self.config.leaderless_max),
            },
            (false, missing) => missing,
        };
    }

    fn end_streams_without_leader(&mut self) {
        let streams = self.streams.iter().map(|(_, stream)| stream);
        let ended: Vec<_> = streams
            .filter(|stream| stream.requires_leader)
            .map(|stream| stream.id)
            .collect();
        for stream in ended {
            self.close(stream);
            self.outputs.push_back(Output::NoLeader { stream });
        }
    }
}
