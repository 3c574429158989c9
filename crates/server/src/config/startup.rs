//! What a configuration turns into before the member starts: derived values, the notices that the
//! log shows about them, and the line that shows the whole configuration.
//!
//! Source: v3.7.1 `server/embed/config.go` (`UpdateDefaultClusterFromName`),
//! `server/etcdmain/etcd.go` (`startEtcdOrProxyV2`), `server/etcdmain/config.go`
//! (`deprecatedFlags`), `server/embed/etcd.go` (`print`).

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use super::cluster::{parse_initial_cluster, print_initial_cluster};
use super::duration::Span;
use super::flags::{self, Class};
use super::settings::{Config, QUOTA_BYTES_DEFAULT};
use super::url::Url;
use crate::log::Line;
use crate::process::version;

/// The least time-out of a peer connection.
const RAFT_TIMEOUT_MIN: Span = Span::from_millis(5_000);

/// Flags that go away, with etcd's warnings.
const DEPRECATED: [(&str, &str); 2] = [
    (
        "max-snapshots",
        "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
    ),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is \
         enforced, ignoring user input.",
    ),
];

/// An address to aim at when the machine's own is looked for. It belongs to documentation, and no
/// packet is sent to it.
const ELSEWHERE: &str = "192.0.2.1:9";

/// Raises time-outs below their least value.
pub(super) fn raise_raft_timeouts(config: &mut Config, lines: &mut Vec<Line>) {
    let fields = [
        ("raft-read-timeout", &mut config.raft_read_timeout),
        ("raft-write-timeout", &mut config.raft_write_timeout),
    ];
    for (name, timeout) in fields {
        if *timeout < RAFT_TIMEOUT_MIN {
            *timeout = RAFT_TIMEOUT_MIN;
            let text = format!("{name} increased to minimum value: {RAFT_TIMEOUT_MIN}");
            lines.push(Line::info(text));
        }
    }
}

/// Replaces zeros that mean "the default", and values that are enforced.
pub(super) fn fill_zeros(config: &mut Config) {
    let defaults = Config::defaults();
    let spans = [
        (
            &mut config.compaction_sleep_interval,
            defaults.compaction_sleep_interval,
        ),
        (
            &mut config.watch_progress_notify_interval,
            defaults.watch_progress_notify_interval,
        ),
        (
            &mut config.warning_unary_request_duration,
            defaults.warning_unary_request_duration,
        ),
    ];
    for (span, default) in spans {
        if *span == Span::default() {
            *span = default;
        }
    }
    if config.compaction_batch_limit == 0 {
        config.compaction_batch_limit = defaults.compaction_batch_limit;
    }
    if config.auto_compaction_retention.is_empty() {
        config.auto_compaction_retention = defaults.auto_compaction_retention;
    }
    if config.self_signed_cert_validity == 0 && !config.config_file.is_empty() {
        config.self_signed_cert_validity = defaults.self_signed_cert_validity;
    }
    "write-only".clone_into(&mut config.v2_deprecation);
}

/// Derives what is missing from what is there.
///
/// A member that listens on all addresses and keeps the default of an advertised URL would
/// announce `localhost`, which no other machine can use; it announces this machine's address
/// instead. A member with a name of its own and no list of members is its cluster's only one.
pub(super) fn derive(config: &mut Config, lines: &mut Vec<Line>, default_host: Option<IpAddr>) {
    let defaults = Config::defaults();
    if let Some(host) = default_host {
        let announced = [
            announce(
                &mut config.initial_advertise_peer_urls,
                &defaults.initial_advertise_peer_urls,
                &config.listen_peer_urls,
                host,
            ),
            announce(
                &mut config.advertise_client_urls,
                &defaults.advertise_client_urls,
                &config.listen_client_urls,
                host,
            ),
        ];
        if announced.contains(&true) {
            lines.push(Line::info("detected default host for advertise").text("host", host));
        }
    }
    if config.name != defaults.name && config.initial_cluster == defaults.initial_cluster {
        let name = if config.name.is_empty() {
            &defaults.name
        } else {
            &config.name
        };
        let parts: Vec<_> = config
            .initial_advertise_peer_urls
            .iter()
            .map(|url| format!("{name}={url}"))
            .collect();
        config.initial_cluster = parts.join(",");
    }
    if config.data_dir.is_empty() {
        config.data_dir = format!("{}.etcd", config.name);
        let line = Line::warn("'data-dir' was empty; using default");
        lines.push(line.field("data-dir", config.data_dir.clone()));
    }
}

/// Puts `host` into an advertised URL that was left alone while its listener is on all addresses.
fn announce(advertised: &mut [Url], default: &[Url], listen: &[Url], host: IpAddr) -> bool {
    let (Some(first), Some(listener)) = (advertised.first_mut(), listen.first()) else {
        return false;
    };
    let untouched = default.len() == 1 && default.first() == Some(&*first);
    if !untouched || listener.host() != "0.0.0.0" {
        return false;
    }
    *first = Url::tcp(first.scheme(), host, listener.port());
    true
}

/// This machine's address on its default route, if it has one.
pub(super) fn default_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_loopback())
}

/// The lines about flags that are deprecated or change nothing in this release.
pub(super) fn notices(config: &Config, set: &BTreeSet<&'static str>) -> Vec<Line> {
    let mut lines: Vec<Line> = DEPRECATED
        .into_iter()
        .filter(|(name, _)| set.contains(name))
        .map(|(_, text)| Line::warn(text))
        .collect();
    let mut config = config.clone();
    let mut defaults = Config::defaults();
    for flag in flags::all().filter(|flag| set.contains(flag.name)) {
        let Class::NoEffect(reason) = flag.class else {
            continue;
        };
        if flag.help.is_empty() || !flag.kind.is_same(&mut config, &mut defaults) {
            let line = Line::warn("flag is accepted without effect");
            lines.push(line.field("flag", flag.name).field("reason", reason));
        }
    }
    for (gate, reason) in config.feature_gates.without_effect() {
        let line = Line::warn("feature gate is accepted without effect");
        lines.push(line.field("gate", gate).field("reason", reason));
    }
    lines
}

impl Config {
    /// The line at the start of a member: its versions and its configuration.
    ///
    /// `member_initialized` says whether the member restarts from a log, so that the flags about
    /// the founding of the cluster do not count.
    #[must_use]
    pub fn start_line(&self, member_initialized: bool) -> Line {
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let line = Line::info("starting an etcd server")
            .field("etcd-version", version::ETCD)
            .field("kvorum-version", version::KVORUM)
            .field("git-sha", version::GIT_SHA)
            .field("go-version", version::GO)
            .field("go-os", version::go_os())
            .field("go-arch", version::go_arch())
            .field("max-cpu-set", cpus)
            .field("max-cpu-available", cpus)
            .field("member-initialized", member_initialized);
        let line = self.start_fields_member(line);
        let line = self.start_fields_cluster(line, member_initialized);
        self.start_fields_features(line)
    }

    fn start_fields_member(&self, line: Line) -> Line {
        let millis = |ms: u64| Span::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
        let election_ms = self.election_ticks() * self.heartbeat_interval_ms;
        line.field("name", self.name.clone())
            .field("data-dir", self.data_dir.clone())
            .field("wal-dir", self.wal_dir.clone())
            .field("wal-dir-dedicated", self.wal_dir.clone())
            .text("member-dir", self.member_directory().display())
            .field("force-new-cluster", self.force_new_cluster)
            .text("heartbeat-interval", millis(self.heartbeat_interval_ms))
            .text("election-timeout", millis(election_ms))
            .field(
                "initial-election-tick-advance",
                self.initial_election_tick_advance,
            )
            .field("snapshot-count", self.snapshot_count)
            .field("max-wals", self.max_wals)
            .field("max-snapshots", self.max_snapshots)
            .field("snapshot-catchup-entries", self.snapshot_catchup_entries)
    }

    fn start_fields_cluster(&self, line: Line, member_initialized: bool) -> Line {
        let initial_cluster = if member_initialized {
            String::new()
        } else {
            parse_initial_cluster(&self.initial_cluster).map_or_else(
                |_| self.initial_cluster.clone(),
                |list| print_initial_cluster(&list),
            )
        };
        let token = if member_initialized {
            ""
        } else {
            self.initial_cluster_token.as_str()
        };
        line.texts(
            "initial-advertise-peer-urls",
            &self.initial_advertise_peer_urls,
        )
        .texts("listen-peer-urls", &self.listen_peer_urls)
        .texts("advertise-client-urls", &self.advertise_client_urls)
        .texts("listen-client-urls", &self.listen_client_urls)
        .texts("listen-client-http-urls", &self.listen_client_http_urls)
        .texts("listen-metrics-urls", &self.listen_metrics_urls)
        .field("local-address", "")
        .texts("cors", &self.cors)
        .texts("host-whitelist", &self.host_whitelist)
        .field("initial-cluster", initial_cluster)
        .field("initial-cluster-state", self.initial_cluster_state.clone())
        .field("initial-cluster-token", token)
    }

    fn start_fields_features(&self, line: Line) -> Line {
        let quota = match self.quota_backend_bytes {
            0 => QUOTA_BYTES_DEFAULT,
            bytes => bytes,
        };
        line.field("quota-backend-bytes", quota)
            .field("max-request-bytes", self.max_request_bytes)
            .field("max-concurrent-streams", self.max_concurrent_streams)
            .field("max-txn-ops", self.max_txn_ops)
            .field("pre-vote", self.pre_vote)
            .text("feature-gates", &self.feature_gates)
            .text("corrupt-check-time-interval", self.corrupt_check_time)
            .text("compact-check-time-interval", self.compact_hash_check_time)
            .field("auto-compaction-mode", self.auto_compaction_mode.clone())
            .field(
                "auto-compaction-retention",
                self.auto_compaction_retention.clone(),
            )
            .text("downgrade-check-interval", self.downgrade_check_time)
            .field("max-learners", self.max_learners)
            .field("unsafe-no-fsync", self.unsafe_no_fsync)
            .field("v2-deprecation", self.v2_deprecation.clone())
    }
}
