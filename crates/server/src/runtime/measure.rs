//! What the machines count, under the official names.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kvorum_member::alarm::Alarms;
use kvorum_member::apply::{ClusterState, Effect, RequestError, Response};
use kvorum_member::core::Core;
use kvorum_member::lease;
use kvorum_mvcc::watch::{Counts, MessageKind};
use kvorum_mvcc::{self as mvcc, Interval};
use kvorum_proto::etcdserverpb::AlarmType;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::ids::MemberId;

use crate::metrics::{Histogram, Metrics};

/// What the machines had counted when the replay of the log was over: counters of the process begin there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baseline {
    store: mvcc::Counts,
    leases: lease::Counts,
}

impl Baseline {
    /// None while the replay goes on.
    pub(super) fn take(core: &Core) -> Option<Self> {
        let over = core.replay().is_none();
        over.then(|| Self {
            store: core.apply().counts(),
            leases: core.leases().counts(),
        })
    }
}

/// Where the machines stand after a turn.
pub(super) fn standing(metrics: &Metrics, core: &Core, waiting: usize) {
    let status = core.status();
    metrics.proposals_committed.set(status.committed.0 as f64);
    metrics.proposals_applied.set(status.applied.0 as f64);
    metrics.proposals_pending.set(waiting as f64);
    let apply = core.apply();
    let view = apply.read_view().keys;
    let sizes = apply.sizes();
    metrics.total_size.set(sizes.total_bytes as f64);
    metrics.size_in_use.set(sizes.in_use_bytes as f64);
    metrics.current_revision.set(view.current_revision() as f64);
    metrics.compact_revision.set(view.compact_revision() as f64);
    metrics
        .keys
        .set(view.count(&Interval::all(), 0).unwrap_or_default() as f64);
}

/// The files of the state. `age`: time since the last checkpoint.
pub(super) fn files(metrics: &Metrics, core: &Core, age: Duration) {
    let counts = core.apply().segment_counts();
    metrics.segments.set(counts.segments as f64);
    metrics.segment_bytes.set(counts.stored_bytes as f64);
    let live = match counts.stored_bytes {
        0 => 1.0,
        stored => counts.live_bytes as f64 / stored as f64,
    };
    metrics.segment_live_ratio.set(live);
    metrics.segments_retired.set(counts.retired as f64);
    metrics.segments_unwritten.set(counts.unwritten as f64);
    metrics.checkpoint_age.set(age.as_secs_f64());
    metrics
        .checkpoint_index
        .set(core.last_checkpoint().0 as f64);
}

/// What the machines have done since `baseline`.
pub(super) fn done(metrics: &Metrics, core: &Core, baseline: &Baseline) {
    let (store, before) = (core.apply().counts(), baseline.store);
    metrics
        .put_bytes
        .set((store.put_bytes.saturating_sub(before.put_bytes)) as f64);
    metrics
        .puts
        .raise_to(store.puts.saturating_sub(before.puts));
    metrics
        .deletes
        .raise_to(store.deletes.saturating_sub(before.deletes));
    metrics
        .txns
        .raise_to(store.txns.saturating_sub(before.txns));
    metrics.compaction_keys.raise_to(
        store
            .compacted_records
            .saturating_sub(before.compacted_records),
    );
    let (leases, before) = (core.leases().counts(), baseline.leases);
    metrics
        .lease_granted
        .raise_to(leases.granted.saturating_sub(before.granted));
    metrics
        .lease_revoked
        .raise_to(leases.revoked.saturating_sub(before.revoked));
    metrics
        .lease_expired
        .raise_to(leases.expired.saturating_sub(before.expired));
}

/// The histograms of requests that the core thread answers, each looked up once.
#[derive(Default)]
pub(super) struct Times {
    /// By operation and success.
    applied: Vec<(&'static str, bool, Arc<Histogram>)>,
    /// By kind and success.
    requested: Vec<(&'static str, bool, Arc<Histogram>)>,
}

impl Times {
    /// A request was applied; `elapsed` is the time of the batch it was in.
    pub(super) fn applied(
        &mut self,
        metrics: &Metrics,
        result: &Result<Response, RequestError>,
        elapsed: Duration,
    ) {
        let operation = result.as_ref().map_or("", operation);
        let succeeded = result.is_ok();
        known(&mut self.applied, operation, succeeded, || {
            let labels = [operation, success(succeeded), "v3"];
            metrics.apply_duration.with(&labels)
        })
        .observe_duration(elapsed);
        if let Ok(Response::LeaseGrant { ttl_seconds, .. }) = result {
            metrics.lease_ttl.observe(*ttl_seconds as f64);
        }
    }

    /// A request was answered, or given up, `elapsed` after it came.
    pub(super) fn requested(
        &mut self,
        metrics: &Metrics,
        kind: &'static str,
        succeeded: bool,
        elapsed: Duration,
    ) {
        known(&mut self.requested, kind, succeeded, || {
            metrics.request_duration.with(&[success(succeeded), kind])
        })
        .observe_duration(elapsed);
    }
}

/// The histograms of ranges that succeed. Every read counts in them, on whatever thread it runs, so they are looked up
/// once: the table of a family has a lock.
#[derive(Default)]
pub(super) struct RangeTimes {
    executed: OnceLock<Arc<Histogram>>,
    requested: OnceLock<Arc<Histogram>>,
}

impl RangeTimes {
    /// A range or a transaction that only reads was executed.
    pub(super) fn executed(&self, metrics: &Metrics, succeeded: bool, elapsed: Duration) {
        metrics.ranges.increment();
        let look_up = || metrics.range_duration.with(&[success(succeeded)]);
        if succeeded {
            self.executed.get_or_init(look_up).observe_duration(elapsed);
        } else {
            look_up().observe_duration(elapsed);
        }
    }

    /// A range was answered, `elapsed` after it came.
    pub(super) fn requested(&self, metrics: &Metrics, elapsed: Duration) {
        let look_up = || metrics.request_duration.with(&[success(true), "Range"]);
        self.requested
            .get_or_init(look_up)
            .observe_duration(elapsed);
    }
}

/// The histogram of a name and an outcome, looked up if it is not known yet.
fn known<'a>(
    known: &'a mut Vec<(&'static str, bool, Arc<Histogram>)>,
    name: &'static str,
    succeeded: bool,
    look_up: impl FnOnce() -> Arc<Histogram>,
) -> &'a Histogram {
    let place = known
        .iter()
        .position(|(other, outcome, _)| *other == name && *outcome == succeeded)
        .unwrap_or_else(|| {
            known.push((name, succeeded, look_up()));
            known.len() - 1
        });
    &known[place].2
}

/// The value of the label that says how a request ended.
fn success(succeeded: bool) -> &'static str {
    if succeeded { "true" } else { "false" }
}

/// A request was answered, or given up, `elapsed` after it came.
pub(crate) fn requested(metrics: &Metrics, kind: &str, succeeded: bool, elapsed: Duration) {
    let labels = [success(succeeded), kind];
    metrics
        .request_duration
        .with(&labels)
        .observe_duration(elapsed);
}

/// What a proposal asks for, as the metrics name it.
/// Source: etcd v3.7.1 `server/etcdserver/v3_server.go`, `getRequestType`.
pub(super) fn kind(payload: &Payload) -> &'static str {
    match payload {
        Payload::Put(_) => "Put",
        Payload::DeleteRange(_) => "DeleteRange",
        Payload::Txn(_) => "Txn",
        Payload::Compaction(_) => "Compaction",
        Payload::LeaseGrant(_) => "LeaseGrant",
        Payload::LeaseRevoke(_) => "LeaseRevoke",
        Payload::LeaseCheckpoint(_) => "LeaseCheckpoint",
        Payload::Alarm(_) => "Alarm",
        Payload::AuthStatus(_) => "AuthStatus",
        Payload::ClusterVersionSet(_) => "ClusterVersionSet",
        Payload::ClusterMemberAttrSet(_) => "ClusterMemberAttrSet",
        Payload::DowngradeInfoSet(_) => "DowngradeInfoSet",
        // This release proposes nothing else.
        _ => "unknown",
    }
}

/// The label that official servers give a request.
/// Source: etcd v3.7.1 `server/etcdserver/apply/apply.go`.
fn operation(response: &Response) -> &'static str {
    match response {
        Response::Range(_) => "Range",
        Response::Put(_) => "Put",
        Response::DeleteRange(_) => "DeleteRange",
        Response::Txn(_) => "Txn",
        Response::Compaction { .. } => "Compaction",
        Response::LeaseGrant { .. } => "LeaseGrant",
        Response::LeaseRevoke { .. } => "LeaseRevoke",
        Response::Alarm { .. } => "Alarm",
        Response::AuthStatus { .. } => "AuthStatus",
        Response::MemberAdd { .. } | Response::Members(_) => "ConfChange",
        Response::Done { .. } => "ClusterMemberAttrSet",
    }
}

/// Who leads.
pub(super) fn leadership(metrics: &Metrics, is_leader: bool, leader: MemberId) {
    metrics.is_leader.set(f64::from(u8::from(is_leader)));
    metrics
        .has_leader
        .set(f64::from(u8::from(leader != MemberId(0))));
}

/// Something happened that operators watch.
pub(super) fn notice(metrics: &Metrics, effect: &Effect) {
    if let Effect::CompactionFinished { .. } = effect {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        metrics
            .compaction_last
            .set(now.unwrap_or_default().as_secs() as f64);
    }
}

/// A step of a compaction kept the machines from other work.
pub(super) fn compaction_step(metrics: &Metrics, elapsed: Duration) {
    metrics.compaction_pause.observe(milliseconds(elapsed));
}

/// The removal of compacted history is done, so long after its first step.
pub(super) fn compacted(metrics: &Metrics, elapsed: Duration) {
    metrics.compaction_duration.observe(milliseconds(elapsed));
}

fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1000.0
}

/// What the members agreed on has changed.
pub(super) fn cluster(metrics: &Metrics, cluster: &ClusterState) {
    metrics.cluster_version.clear();
    if let Some(version) = cluster.version {
        metrics.cluster_version.with(&[&version.short()]).set(1.0);
    }
    alarms(metrics, &cluster.alarms);
}

fn alarms(metrics: &Metrics, alarms: &Alarms) {
    metrics.alarms.clear();
    for alarm in alarms.list(AlarmType::None as i32) {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        let member = MemberId(alarm.member_id).to_string();
        metrics.alarms.with(&[kind, &member]).set(1.0);
    }
}

/// A watch message was handed to its stream.
pub(super) fn watch_sent(metrics: &Metrics, kind: MessageKind, events: usize, elapsed: Duration) {
    match kind {
        MessageKind::Control | MessageKind::Compacted => {
            metrics.watch_control.observe_duration(elapsed);
        }
        MessageKind::Progress => metrics.watch_progress.observe_duration(elapsed),
        MessageKind::Events => {
            metrics.watch_events.observe_duration(elapsed);
            let each = elapsed / u32::try_from(events.max(1)).unwrap_or(u32::MAX);
            metrics.watch_per_event.observe_duration(each);
        }
    }
}

/// The watchers in numbers.
pub(super) fn watch_counts(metrics: &Metrics, counts: &Counts) {
    metrics.watch_streams.set(counts.streams as f64);
    metrics.watchers.set(counts.watchers as f64);
    metrics.slow_watchers.set(counts.slow_watchers as f64);
    metrics.pending_events.set(counts.pending_events as f64);
    metrics.events.raise_to(counts.events_total);
}
