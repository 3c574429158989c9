//! Every metric of a member in one table: field, name, kind, meaning.
//!
//! Names, kinds, labels and buckets are those of etcd 3.7.1 ; series about peers
//! appear with the peers. Names that look wrong (gauges ending in `_total`, counters without it) are the official ones.

use super::family::Family;
use super::text::TextWriter;
use super::value::{Buckets, Counter, Gauge, Histogram};

const fn exponential(first: f64, factor: f64, count: usize) -> Buckets {
    Buckets {
        first,
        factor,
        count,
    }
}

/// 1 ms to 8 s, of most durations.
const MILLISECONDS_UP: Buckets = exponential(0.001, 2.0, 14);

/// 0.1 ms to 52 s, of requests.
const TENTHS_UP: Buckets = exponential(0.0001, 2.0, 20);

macro_rules! metrics {
    ($( $field:ident : $kind:ident $([$($label:literal),+])? $(in $buckets:expr)? => $name:literal, $help:literal; )+) => {
        /// The metrics of a member, each by its own field.
        #[derive(Debug)]
        pub struct Table {
            $( #[doc = concat!("`", $name, "`: ", $help)] pub $field: metrics!(@type $kind $([$($label),+])?), )+
        }

        impl Table {
            /// All at zero.
            pub(super) fn new() -> Self {
                Self { $( $field: metrics!(@new $kind $([$($label),+])? $(in $buckets)?), )+ }
            }

            pub(super) fn write(&self, writer: &mut TextWriter) {
                $( writer.metric($name, $help, &self.$field); )+
            }
        }
    };
    (@type $kind:ident) => { $kind };
    (@type $kind:ident [$($label:literal),+]) => { Family<$kind> };
    (@new Histogram in $buckets:expr) => { Histogram::new($buckets) };
    (@new $kind:ident) => { $kind::default() };
    (@new $kind:ident [$($label:literal),+]) => { Family::new(&[$($label),+], None) };
    (@new $kind:ident [$($label:literal),+] in $buckets:expr) => { Family::new(&[$($label),+], Some($buckets)) };
}

#[rustfmt::skip]
metrics! {
    cluster_version: Gauge["cluster_version"] => "etcd_cluster_version", "1 for the present version of the cluster.";
    auth_revision: Gauge => "etcd_debugging_auth_revision", "Revision of the user and role store.";
    backend_rebalance: Histogram in MILLISECONDS_UP => "etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Rebalance part of a backend commit; always empty here.";
    backend_spill: Histogram in MILLISECONDS_UP => "etcd_debugging_disk_backend_commit_spill_duration_seconds", "Spill part of a backend commit; always empty here.";
    backend_write: Histogram in MILLISECONDS_UP => "etcd_debugging_disk_backend_commit_write_duration_seconds", "Write part of a backend commit; always empty here.";
    lease_granted: Counter => "etcd_debugging_lease_granted_total", "Leases granted.";
    lease_renewed: Counter => "etcd_debugging_lease_renewed_total", "Renewals seen by the leader.";
    lease_revoked: Counter => "etcd_debugging_lease_revoked_total", "Leases revoked.";
    lease_ttl: Histogram in exponential(1.0, 2.0, 24) => "etcd_debugging_lease_ttl_total", "Granted times to live, in seconds.";
    compact_revision: Gauge => "etcd_debugging_mvcc_compact_revision", "Revision of the last compaction.";
    current_revision: Gauge => "etcd_debugging_mvcc_current_revision", "Revision of the store.";
    compaction_keys: Counter => "etcd_debugging_mvcc_db_compaction_keys_total", "Revisions removed by compaction.";
    compaction_last: Gauge => "etcd_debugging_mvcc_db_compaction_last", "Unix time of the last compaction, 0 before the first.";
    compaction_pause: Histogram in exponential(1.0, 2.0, 13) => "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Pause caused by one step of a compaction.";
    compaction_duration: Histogram in exponential(100.0, 2.0, 14) => "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Time of a whole compaction.";
    events: Counter => "etcd_debugging_mvcc_events_total", "Watch events sent.";
    index_compaction_pause: Histogram in exponential(0.5, 2.0, 14) => "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Pause caused by a compaction of the index.";
    keys: Gauge => "etcd_debugging_mvcc_keys_total", "Keys in the index.";
    pending_events: Gauge => "etcd_debugging_mvcc_pending_events_total", "Events waiting to be sent.";
    slow_watchers: Gauge => "etcd_debugging_mvcc_slow_watcher_total", "Watchers that read history to catch up.";
    put_bytes: Gauge => "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of the puts seen.";
    watch_streams: Gauge => "etcd_debugging_mvcc_watch_stream_total", "Open watch streams.";
    watchers: Gauge => "etcd_debugging_mvcc_watcher_total", "Watchers.";
    alarms: Gauge["alarm_type", "server_id"] => "etcd_debugging_server_alarms", "1 for each active alarm.";
    lease_expired: Counter => "etcd_debugging_server_lease_expired_total", "Leases expired.";
    watch_control: Histogram in MILLISECONDS_UP => "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Time to send a control answer on a watch stream.";
    watch_progress: Histogram in MILLISECONDS_UP => "etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Time to send a progress notification.";
    watch_per_event: Histogram in MILLISECONDS_UP => "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "Time to send watch events, per event.";
    watch_events: Histogram in MILLISECONDS_UP => "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Time to send one batch of watch events.";
    snap_marshal: Histogram in MILLISECONDS_UP => "etcd_debugging_snap_save_marshalling_duration_seconds", "Time to encode a raft snapshot.";
    snap_save: Histogram in MILLISECONDS_UP => "etcd_debugging_snap_save_total_duration_seconds", "Time to save a raft snapshot.";
    store_expires: Counter => "etcd_debugging_store_expires_total", "Expired keys of the v2 store.";
    store_watch_requests: Counter => "etcd_debugging_store_watch_requests_total", "Watch requests to the v2 store.";
    store_watchers: Gauge => "etcd_debugging_store_watchers", "Watchers of the v2 store.";
    backend_commit: Histogram in MILLISECONDS_UP => "etcd_disk_backend_commit_duration_seconds", "Time to make the manifest of a checkpoint durable.";
    backend_defrag: Histogram in exponential(0.1, 2.0, 13) => "etcd_disk_backend_defrag_duration_seconds", "Time of a defragmentation.";
    backend_snapshot: Histogram in exponential(0.01, 2.0, 17) => "etcd_disk_backend_snapshot_duration_seconds", "Time to send a snapshot of the state.";
    defrag_inflight: Gauge => "etcd_disk_defrag_inflight", "1 while a defragmentation runs.";
    wal_fsync: Histogram in MILLISECONDS_UP => "etcd_disk_wal_fsync_duration_seconds", "Time to make written log entries durable.";
    wal_write_bytes: Gauge => "etcd_disk_wal_write_bytes_total", "Bytes written to the log.";
    wal_write: Histogram in MILLISECONDS_UP => "etcd_disk_wal_write_duration_seconds", "Time to write log entries, without the sync.";
    proxy_cache_hits: Gauge => "etcd_grpc_proxy_cache_hits_total", "Cache hits of a gRPC proxy; always 0 in a server.";
    proxy_cache_keys: Gauge => "etcd_grpc_proxy_cache_keys_total", "Cached ranges of a gRPC proxy; always 0 in a server.";
    proxy_cache_misses: Gauge => "etcd_grpc_proxy_cache_misses_total", "Cache misses of a gRPC proxy; always 0 in a server.";
    proxy_events: Counter => "etcd_grpc_proxy_events_coalescing_total", "Events joined by a gRPC proxy; always 0 in a server.";
    proxy_watchers: Gauge => "etcd_grpc_proxy_watchers_coalescing_total", "Watchers joined by a gRPC proxy; always 0 in a server.";
    open_read_transactions: Gauge => "etcd_mvcc_db_open_read_transactions", "Read views in use.";
    total_size: Gauge => "etcd_mvcc_db_total_size_in_bytes", "Size of the state, in bytes.";
    size_in_use: Gauge => "etcd_mvcc_db_total_size_in_use_in_bytes", "Part of the state that is in use, in bytes.";
    deletes: Counter => "etcd_mvcc_delete_total", "Deletes.";
    hash: Histogram in exponential(0.01, 2.0, 15) => "etcd_mvcc_hash_duration_seconds", "Time of a hash over the whole state.";
    hash_revision: Histogram in exponential(0.01, 2.0, 15) => "etcd_mvcc_hash_rev_duration_seconds", "Time of a hash over the keys at a revision.";
    puts: Counter => "etcd_mvcc_put_total", "Puts.";
    ranges: Counter => "etcd_mvcc_range_total", "Ranges.";
    txns: Counter => "etcd_mvcc_txn_total", "Transactions.";
    stream_failures: Counter["API", "Type"] => "etcd_network_server_stream_failures_total", "Failed streams of clients.";
    apply_duration: Histogram["op", "success", "version"] in TENTHS_UP => "etcd_server_apply_duration_seconds", "Time to apply a committed request.";
    client_requests: Counter["client_api_version", "type"] => "etcd_server_client_requests_total", "Requests by the API version of the client.";
    feature_enabled: Gauge["name", "stage"] => "etcd_server_feature_enabled", "1 for each feature gate that is on, 0 for the others.";
    go_version: Gauge["server_go_version"] => "etcd_server_go_version", "1, with the version of the language runtime.";
    has_leader: Gauge => "etcd_server_has_leader", "1 if a leader is known.";
    health_failures: Counter => "etcd_server_health_failures", "Failed answers of /health.";
    health_success: Counter => "etcd_server_health_success", "Good answers of /health.";
    healthcheck: Gauge["name", "type"] => "etcd_server_healthcheck", "Last result of a livez or readyz check, 1 is good.";
    healthchecks: Counter["name", "status", "type"] => "etcd_server_healthchecks_total", "Checks of livez and readyz by result.";
    active_peers: Gauge["Local", "Remote"] => "etcd_network_active_peers", "1 for each peer that is reached.";
    disconnected_peers: Counter["Local", "Remote"] => "etcd_network_disconnected_peers_total", "Connections to peers that were lost.";
    known_peers: Gauge["Local", "Remote"] => "etcd_network_known_peers", "1 for each peer that is known.";
    peer_received_bytes: Counter["From"] => "etcd_network_peer_received_bytes_total", "Bytes received from peers.";
    peer_received_failures: Counter["From"] => "etcd_network_peer_received_failures_total", "Requests of peers that failed.";
    peer_round_trip: Histogram["To"] in exponential(0.0001, 2.0, 16) => "etcd_network_peer_round_trip_time_seconds", "Time of a question to a peer and its answer.";
    peer_sent_bytes: Counter["To"] => "etcd_network_peer_sent_bytes_total", "Bytes sent to peers.";
    peer_sent_failures: Counter["To"] => "etcd_network_peer_sent_failures_total", "Messages to peers that were lost.";
    snapshot_receive_failures: Counter["From"] => "etcd_network_snapshot_receive_failures", "Snapshots of peers that were not received.";
    snapshot_receive_inflights: Gauge["From"] => "etcd_network_snapshot_receive_inflights_total", "Snapshots of peers being received.";
    snapshot_receive_success: Counter["From"] => "etcd_network_snapshot_receive_success", "Snapshots of peers received.";
    snapshot_receive_duration: Histogram["From"] in exponential(0.1, 2.0, 10) => "etcd_network_snapshot_receive_total_duration_seconds", "Time to receive a snapshot of a peer.";
    snapshot_send_failures: Counter["To"] => "etcd_network_snapshot_send_failures", "Snapshots to peers that failed.";
    snapshot_send_inflights: Gauge["To"] => "etcd_network_snapshot_send_inflights_total", "Snapshots being sent to peers.";
    snapshot_send_success: Counter["To"] => "etcd_network_snapshot_send_success", "Snapshots sent to peers.";
    snapshot_send_duration: Histogram["To"] in exponential(0.1, 2.0, 10) => "etcd_network_snapshot_send_total_duration_seconds", "Time to send a snapshot to a peer.";
    heartbeat_failures: Counter => "etcd_server_heartbeat_send_failures_total", "Heartbeats that the leader sent late.";
    id: Gauge["server_id"] => "etcd_server_id", "1, with the id of the member in hex.";
    is_leader: Gauge => "etcd_server_is_leader", "1 if this member leads.";
    is_learner: Gauge => "etcd_server_is_learner", "1 if this member is a learner.";
    leader_changes: Counter => "etcd_server_leader_changes_seen_total", "Changes of leader seen.";
    promote_failures: Counter["Reason"] => "etcd_server_learner_promote_failures", "Failed promotions of learners.";
    promote_successes: Counter => "etcd_server_learner_promote_successes", "Promotions of learners.";
    proposals_applied: Gauge => "etcd_server_proposals_applied_total", "Index of the last entry applied.";
    proposals_committed: Gauge => "etcd_server_proposals_committed_total", "Index of the last entry committed.";
    proposals_failed: Counter => "etcd_server_proposals_failed_total", "Failed proposals.";
    proposals_pending: Gauge => "etcd_server_proposals_pending", "Proposals waiting for commit.";
    quota: Gauge => "etcd_server_quota_backend_bytes", "Quota of the state, in bytes.";
    range_duration: Histogram["success"] in TENTHS_UP => "etcd_server_range_duration_seconds", "Time to execute a range.";
    read_indexes_failed: Counter => "etcd_server_read_indexes_failed_total", "Failed rounds of read index.";
    request_duration: Histogram["success", "type"] in MILLISECONDS_UP => "etcd_server_request_duration_seconds", "Time of a request in the server.";
    slow_apply: Counter => "etcd_server_slow_apply_total", "Applies slower than the warning limit.";
    slow_read_indexes: Counter => "etcd_server_slow_read_indexes_total", "Rounds of read index that were slow or timed out.";
    snapshot_applying: Gauge => "etcd_server_snapshot_apply_in_progress_total", "1 while a received snapshot is installed.";
    version: Gauge["server_version"] => "etcd_server_version", "1, with the version of the server.";
    snap_db_fsync: Histogram in MILLISECONDS_UP => "etcd_snap_db_fsync_duration_seconds", "Time to sync a received snapshot.";
    snap_db_save: Histogram in exponential(0.1, 2.0, 10) => "etcd_snap_db_save_total_duration_seconds", "Time to save a received snapshot.";
    snap_fsync: Histogram in MILLISECONDS_UP => "etcd_snap_fsync_duration_seconds", "Time to sync a raft snapshot file.";
    checkpoint_age: Gauge => "kvorum_checkpoint_age_seconds", "Time since the last checkpoint was durable, or since the start.";
    checkpoint_index: Gauge => "kvorum_checkpoint_index", "Log index that a start would replay from.";
    copied_bytes: Counter => "kvorum_copier_bytes_total", "Bytes that the copier has written.";
    copier_speed: Gauge => "kvorum_copier_speed_bytes_per_second", "How fast the copier may go at present.";
    disk_free: Gauge => "kvorum_disk_free_bytes", "Room on the disk, or the smaller of two, without the reserve.";
    disk_reserve: Gauge => "kvorum_disk_reserve_bytes", "Room set aside for work on a full disk; 0 while it is given up.";
    scrub_bytes: Counter => "kvorum_scrub_bytes_total", "Bytes of state files that were read again to look for damage.";
    scrub_damages: Counter => "kvorum_scrub_damages_total", "Damaged files that were found; a segment ends the process.";
    scrub_last: Gauge => "kvorum_scrub_last_round_timestamp_seconds", "Unix time at which all state files had been read again; 0 before the first round.";
    scrub_rounds: Counter => "kvorum_scrub_rounds_total", "Rounds in which all state files were read again.";
    segments: Gauge => "kvorum_segments", "Segment files that hold the history.";
    segment_bytes: Gauge => "kvorum_segment_bytes", "Bytes of records in segment files.";
    segment_live_ratio: Gauge => "kvorum_segment_live_ratio", "Part of these bytes that still exists, from 0 to 1; the copier removes the rest.";
    segments_retired: Gauge => "kvorum_segments_retired", "Files that were replaced and wait for a checkpoint to be deleted.";
    segments_unwritten: Gauge => "kvorum_segments_unwritten", "Runs of the history in memory that wait to be written.";
    kvorum_version: Gauge["version"] => "kvorum_build_info", "1, with the version of Kvorum.";
}
