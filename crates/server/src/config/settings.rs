//! The configuration of one member: what the flags, the environment or the file said, as values.
//!
//! Every field belongs to one row of the [flag table](super::flags); its name, default, range and
//! help stand there. Here each field says its unit and what zero or empty means.

use std::collections::BTreeSet;

use super::duration::Span;
use super::gates::FeatureGates;
use super::url::Url;

/// Quota used when `--quota-backend-bytes` is zero.
///
/// Source: v3.7.1 `server/storage/quota.go` (`DefaultQuotaBytes`).
pub const QUOTA_BYTES_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;

/// Everything a member is told at its start.
///
/// `Config::default()` is blank, a frame to be filled; [`Config::defaults`] holds the defaults of
/// the flag table.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Name of the member; must be a key of [`initial_cluster`](Self::initial_cluster).
    pub name: String,
    /// Data directory; never empty after [`parse`](super::parse).
    pub data_dir: String,
    /// Directory of the write-ahead log; empty means `member/wal` in the data directory.
    pub wal_dir: String,
    /// Applied entries between two raft snapshots.
    pub snapshot_count: u64,
    /// Entries kept in memory behind a snapshot.
    pub snapshot_catchup_entries: u64,
    /// Raft snapshot files kept; zero keeps all.
    pub max_snapshots: u64,
    /// Log files kept; zero keeps all.
    pub max_wals: u64,
    /// Heartbeat of the leader in milliseconds, never zero.
    pub heartbeat_interval_ms: u64,
    /// Election time-out in milliseconds, at least five heartbeats and at most 50,000.
    pub election_timeout_ms: u64,
    /// Whether the first election after boot may come early.
    pub initial_election_tick_advance: bool,
    /// Listeners for peers.
    pub listen_peer_urls: Vec<Url>,
    /// Listeners for clients: gRPC, and HTTP unless there are HTTP listeners of their own.
    pub listen_client_urls: Vec<Url>,
    /// Listeners for HTTP alone; empty serves HTTP on the client listeners.
    pub listen_client_http_urls: Vec<Url>,
    /// Extra listeners for metrics and health; may be empty.
    pub listen_metrics_urls: Vec<Url>,
    /// Whether memory is to be locked; see the flag's class.
    pub memory_mlock: bool,
    /// Quota in bytes; zero means [`QUOTA_BYTES_DEFAULT`], negative means none.
    pub quota_backend_bytes: i64,
    /// Kind of free list of the official backend; see the flag's class.
    pub backend_bbolt_freelist_type: String,
    /// Commit interval of the official backend; see the flag's class.
    pub backend_batch_interval: Span,
    /// Commit batch of the official backend; see the flag's class.
    pub backend_batch_limit: i64,
    /// Operations in one list of a transaction.
    pub max_txn_ops: u64,
    /// Largest request in bytes.
    pub max_request_bytes: u64,
    /// Streams of one client connection.
    pub max_concurrent_streams: u32,
    /// Least time between two pings of a client.
    pub grpc_keepalive_min_time: Span,
    /// Time between two pings of the server; zero pings never.
    pub grpc_keepalive_interval: Span,
    /// Wait for the answer to a ping; zero pings never.
    pub grpc_keepalive_timeout: Span,
    /// Whether the JSON gateway is served.
    pub enable_grpc_gateway: bool,
    /// Whether listeners set `SO_REUSEPORT`.
    pub socket_reuse_port: bool,
    /// Whether listeners set `SO_REUSEADDR`.
    pub socket_reuse_address: bool,
    /// Read time-out of peer connections, at least five seconds.
    pub raft_read_timeout: Span,
    /// Write time-out of peer connections, at least five seconds.
    pub raft_write_timeout: Span,
    /// Features switched on and off by name.
    pub feature_gates: FeatureGates,

    /// Peer URLs announced to the cluster.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// The founding members as `name=url,name=url`.
    pub initial_cluster: String,
    /// `new` or `existing`.
    pub initial_cluster_state: String,
    /// Text mixed into the ids of members and cluster.
    pub initial_cluster_token: String,
    /// Client URLs announced to the cluster.
    pub advertise_client_urls: Vec<Url>,
    /// How the founding members are found when they are not listed.
    pub discovery: Discovery,
    /// Whether member changes that endanger the quorum are refused.
    pub strict_reconfig_check: bool,
    /// Whether elections are preceded by a pre-vote.
    pub pre_vote: bool,
    /// Retention of automatic compaction as text; `0` switches it off.
    pub auto_compaction_retention: String,
    /// `periodic` or `revision`.
    pub auto_compaction_mode: String,
    /// Always `write-only`: etcd 3.7 enforces its default whatever is asked for.
    pub v2_deprecation: String,

    /// TLS of the client listeners.
    pub client_tls: Tls,
    /// TLS of the peer listeners.
    pub peer_tls: Tls,
    /// Life of generated certificates in years.
    pub self_signed_cert_validity: u64,
    /// Cipher suites by their Go names; empty means the default list.
    pub cipher_suites: Vec<String>,
    /// Lowest TLS version; empty means the library's.
    pub tls_min_version: String,
    /// Highest TLS version; empty means the library's.
    pub tls_max_version: String,
    /// Origins allowed by CORS; `*` allows all.
    pub cors: BTreeSet<String>,
    /// Host headers allowed without TLS; `*` allows all.
    pub host_whitelist: BTreeSet<String>,

    /// `simple` or `jwt` with its options.
    pub auth_token: String,
    /// Cost factor of password hashes.
    pub bcrypt_cost: u64,
    /// Life of a simple token in seconds.
    pub auth_token_ttl_seconds: u64,

    /// Whether profiles are served.
    pub enable_pprof: bool,
    /// `basic` or `extensive`.
    pub metrics: String,
    /// Where traces go.
    pub tracing: Tracing,

    /// What is logged, how, and where to.
    pub log: LogSettings,

    /// Time between two comparisons of hashes with the peers; zero never compares.
    pub corrupt_check_time: Span,
    /// Time between two comparisons of compaction hashes, never zero.
    pub compact_hash_check_time: Span,
    /// Least time between two checkpoints; zero for none.
    pub kvorum_checkpoint_pause: Span,
    /// Promote learners that have caught up, while this member leads.
    pub kvorum_promote_learners: bool,
    /// Time between two rounds of the scrub; zero for no scrub.
    pub kvorum_scrub_pause: Span,
    /// Revisions removed in one step of a compaction; zero leaves the choice to the server.
    pub compaction_batch_limit: i64,
    /// Pause between two steps of a compaction; zero leaves the choice to the server.
    pub compaction_sleep_interval: Span,
    /// Time between two progress notices of a watcher; zero means the server's default.
    pub watch_progress_notify_interval: Span,
    /// Time between two looks at a running downgrade.
    pub downgrade_check_time: Span,
    /// An apply that takes longer is logged.
    pub warning_apply_duration: Span,
    /// A unary call that takes longer is logged.
    pub warning_unary_request_duration: Span,
    /// Defragment at start if it frees so many megabytes; zero never does.
    pub bootstrap_defrag_threshold_megabytes: u64,
    /// Learners allowed in the cluster.
    pub max_learners: i64,

    /// Whether to restart as the only member of the cluster.
    pub force_new_cluster: bool,
    /// Whether to leave out every sync: fast, and unsafe.
    pub unsafe_no_fsync: bool,
    /// Path of the configuration file; empty without one.
    pub config_file: String,
    /// Whether only the version is asked for.
    pub version: bool,
    /// What to do when discovery says that the cluster is full.
    pub discovery_fallback: String,
}

/// TLS of one kind of listener.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificate of the listener, a PEM file.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// Certificate used when dialling out; empty uses [`cert_file`](Self::cert_file).
    pub client_cert_file: String,
    /// Its key.
    pub client_key_file: String,
    /// Whether clients must show a certificate.
    pub client_cert_auth: bool,
    /// Revocation list, a DER file.
    pub crl_file: String,
    /// Authorities that may sign client certificates.
    pub trusted_ca_file: String,
    /// Names allowed in the certificate's list of hosts; empty allows all.
    pub allowed_hostnames: Vec<String>,
    /// Common names allowed; empty allows all.
    pub allowed_cns: Vec<String>,
    /// Whether to make a certificate at start.
    pub auto: bool,
    /// Whether the certificate's names are not compared with the caller's address.
    pub skip_client_san_verification: bool,
}

impl Tls {
    /// Whether no certificate is configured.
    ///
    /// Source: v3.7.1 `client/pkg/transport/listener.go` (`TLSInfo.Empty`).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }
}

/// How founding members find each other.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// Domain of the SRV records.
    pub srv: String,
    /// Suffix of the SRV service names.
    pub srv_name: String,
    /// Token of the discovery service.
    pub token: String,
    /// Endpoints of the discovery service.
    pub endpoints: BTreeSet<String>,
    /// Time-out of a dial.
    pub dial_timeout: Span,
    /// Time-out of a request.
    pub request_timeout: Span,
    /// Time between two pings.
    pub keepalive_time: Span,
    /// Wait for the answer to a ping.
    pub keepalive_timeout: Span,
    /// Whether the service is called without TLS.
    pub insecure_transport: bool,
    /// Whether its certificate is not verified.
    pub insecure_skip_tls_verify: bool,
    /// Client certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Authorities that may sign the service's certificate.
    pub cacert: String,
    /// User, or `user:password`.
    pub user: String,
    /// Password.
    pub password: String,
}

/// Where traces go.
#[derive(Clone, Debug, Default)]
pub struct Tracing {
    /// Whether traces are sent at all.
    pub enabled: bool,
    /// Address of the collector.
    pub address: String,
    /// Name of the service in the traces.
    pub service_name: String,
    /// Name of this process in the traces.
    pub instance_id: String,
    /// Samples per million calls, 0 to 1,000,000.
    pub sampling_rate: i64,
}

/// What is logged, how, and where to.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    /// Always `zap`.
    pub logger: String,
    /// `default`, `stderr`, `stdout`, `systemd/journal`, or paths of files.
    pub outputs: BTreeSet<String>,
    /// Lowest level that is written.
    pub level: String,
    /// `json` or `console`.
    pub format: String,
    /// Whether a log file is rotated.
    pub rotation: bool,
    /// When and how it is rotated, a JSON text.
    pub rotation_json: String,
}

impl Config {
    /// The quota in bytes; `None` when there is none.
    #[must_use]
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.quota_backend_bytes {
            0 => u64::try_from(QUOTA_BYTES_DEFAULT).ok(),
            // A negative number does not convert, and means no quota.
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// Records that one step of a compaction visits; a negative limit is none, as in etcd.
    #[must_use]
    pub fn compaction_step_records(&self) -> usize {
        usize::try_from(self.compaction_batch_limit).unwrap_or(usize::MAX)
    }

    /// Whole heartbeats in an election time-out, at least five.
    #[must_use]
    pub fn election_ticks(&self) -> u64 {
        self.election_timeout_ms / self.heartbeat_interval_ms.max(1)
    }

    /// The directory of the member, `member` in the data directory.
    #[must_use]
    pub fn member_directory(&self) -> std::path::PathBuf {
        std::path::Path::new(&self.data_dir).join("member")
    }

    /// The directory of the write-ahead log.
    #[must_use]
    pub fn wal_directory(&self) -> std::path::PathBuf {
        if self.wal_dir.is_empty() {
            self.member_directory().join("wal")
        } else {
            std::path::PathBuf::from(&self.wal_dir)
        }
    }
}
