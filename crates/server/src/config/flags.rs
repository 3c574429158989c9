//! The flag table: every flag of etcd 3.7.1, each in one row.
//!
//! A row holds the name, the kind with the way to the value's field, the default, the class, and
//! the help. Everything else follows from it: the command line, the environment, the keys of the
//! configuration file, the help text, the start-up notices and the rows of `COMPAT.md`.
//!
//! The class says what this release makes of a flag:
//!
//! - [`Class::Works`]: it does what it does in etcd.
//! - [`Class::NoEffect`]: it is accepted and changes nothing; when it is set off its default, a
//!   line at start says why.
//! - [`Class::Refused`]: it asks for something that is not there yet; set off its default, the
//!   member does not start.
//!
//! Source: v3.7.1 `server/embed/config.go` (`NewConfig`, `AddFlags`), `server/etcdmain/config.go`.

use super::settings::Config;
use super::value::Kind::{
    self, Bool, Choice, Count, Count32, EnforcedChoice, Gates, Hosts, Ignored, List, Number,
    Origins, Set, Span, Text, Urls,
};

use Class::{NoEffect, Refused, Works};

/// What this release makes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It does what it does in etcd.
    Works,
    /// It is accepted and changes nothing, for this reason.
    NoEffect(&'static str),
    /// It may only have its default, for this reason.
    Refused(&'static str),
}

/// One flag.
pub struct Flag {
    /// Name without dashes in front.
    pub name: &'static str,
    /// Default as text; empty means that nothing is set.
    pub default: &'static str,
    /// What this release makes of it.
    pub class: Class,
    /// One line of help; empty hides the flag.
    pub help: &'static str,
    /// Path of keys in the configuration file, joined by dots; empty when the file has none.
    pub(super) file_key: &'static str,
    /// Kind of the value, and where it goes.
    pub(super) kind: Kind,
}

impl Flag {
    /// The name of the flag's environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_uppercase().replace('-', "_"))
    }

    const fn file_key(self, key: &'static str) -> Self {
        Self {
            file_key: key,
            ..self
        }
    }

    const fn not_in_file(self) -> Self {
        self.file_key("")
    }
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    class: Class,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        default,
        class,
        help,
        file_key: name,
        kind,
    }
}

const fn ignored(name: &'static str) -> Flag {
    flag(name, Ignored, "", NoEffect(OLD), "").not_in_file()
}

/// All flags, in the order of the help text.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

/// The flag of a name without dashes.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

impl Config {
    /// The configuration when nothing is said at all.
    #[must_use]
    pub fn defaults() -> Self {
        let mut config = Self::default();
        for flag in all() {
            flag.kind.set_default(&mut config, flag.default);
        }
        config
    }
}

const MIXED: &str = "checks of the members against each other are not there yet";
const NO_WRITES: &str = "nothing waits for a write to a peer: what it does not take is dropped";
const NO_SNAPSHOTS: &str = "files of raft snapshots are not made yet";
const NO_BACKEND: &str =
    "it tunes the backend of the official server, which this one does not have";
const NO_GATEWAY: &str = "the JSON gateway is not there yet and stays off";
const DISCOVERY: &str = "the discovery service is called without TLS";
const TLS: &str = "TLS with clients is not there yet";
const AUTH: &str = "authentication is not there yet";
const TRACING: &str = "it tunes --enable-distributed-tracing, which is not there yet";
const OLD: &str = "it belongs to older releases";

/// The flags by section: name, kind and field, default, class; then the help.
#[rustfmt::skip]
pub(super) static SECTIONS: &[(&str, &[Flag])] = &[
    ("Member", &[
        flag("name", Text(|c| &mut c.name), "default", Works,
            "Name of this member, for people to read."),
        flag("data-dir", Text(|c| &mut c.data_dir), "", Works,
            "Data directory; when empty, the name with '.etcd' behind it."),
        flag("wal-dir", Text(|c| &mut c.wal_dir), "", Works,
            "Directory of the write-ahead log, if it is to lie outside the data directory."),
        flag("snapshot-count", Count(|c| &mut c.snapshot_count), "10000", Works,
            "Applied entries between two checkpoints, at least; the raft log in memory is cut, too."),
        flag("snapshot-catchup-entries",
            Count(|c| &mut c.snapshot_catchup_entries),
            "5000", Works,
            "Applied entries that stay in memory when it is cut, for slow followers."),
        flag("heartbeat-interval", Count(|c| &mut c.heartbeat_interval_ms), "100", Works,
            "Milliseconds between two heartbeats of the leader."),
        flag("election-timeout", Count(|c| &mut c.election_timeout_ms), "1000", Works,
            "Milliseconds without a leader before an election; at least five heartbeats."),
        flag("initial-election-tick-advance",
            Bool(|c| &mut c.initial_election_tick_advance),
            "true", Works,
            "Shorten the wait for the first election after a start."),
        flag("listen-peer-urls", Urls(|c| &mut c.listen_peer_urls), "http://localhost:2380", Works,
            "URLs to listen on for peers."),
        flag("listen-client-urls",
            Urls(|c| &mut c.listen_client_urls),
            "http://localhost:2379", Works,
            "URLs to listen on for clients: gRPC, and HTTP if it has no listeners of its own."),
        flag("listen-client-http-urls", Urls(|c| &mut c.listen_client_http_urls), "", Works,
            "URLs to listen on for HTTP alone; takes HTTP away from --listen-client-urls."),
        flag("max-snapshots", Count(|c| &mut c.max_snapshots), "5", NoEffect(NO_SNAPSHOTS),
            "Raft snapshot files to keep, 0 for all. Deprecated."),
        flag("max-wals", Count(|c| &mut c.max_wals), "5", Works,
            "Files of the write-ahead log to keep, 0 for all."),
        flag("memory-mlock", Bool(|c| &mut c.memory_mlock), "false", NoEffect(NO_BACKEND),
            "Keep the pages of the backend in memory."),
        flag("quota-backend-bytes", Number(|c| &mut c.quota_backend_bytes), "0", Works,
            "Size at which puts are refused; 0 for 2 GiB, negative for no limit."),
        flag("backend-bbolt-freelist-type",
            Text(|c| &mut c.backend_bbolt_freelist_type),
            "map", NoEffect(NO_BACKEND),
            "Free list of the official backend, 'array' or 'map'."),
        flag("backend-batch-interval",
            Span(|c| &mut c.backend_batch_interval),
            "0s", NoEffect(NO_BACKEND),
            "Longest time between two commits of the official backend."),
        flag("backend-batch-limit",
            Number(|c| &mut c.backend_batch_limit),
            "0", NoEffect(NO_BACKEND),
            "Operations between two commits of the official backend."),
        flag("max-txn-ops", Count(|c| &mut c.max_txn_ops), "128", Works,
            "Operations allowed in one list of a transaction."),
        flag("max-request-bytes", Count(|c| &mut c.max_request_bytes), "1572864", Works,
            "Largest request in bytes."),
        flag("max-concurrent-streams",
            Count32(|c| &mut c.max_concurrent_streams),
            "4294967295", Works,
            "Streams a client may open on one connection."),
        flag("grpc-keepalive-min-time", Span(|c| &mut c.grpc_keepalive_min_time), "5s", Works,
            "Least time between two pings of a client."),
        flag("grpc-keepalive-interval", Span(|c| &mut c.grpc_keepalive_interval), "2h", Works,
            "Time between two pings of the server, 0 for none."),
        flag("grpc-keepalive-timeout", Span(|c| &mut c.grpc_keepalive_timeout), "20s", Works,
            "Wait for the answer to a ping before the connection is closed, 0 for none."),
        flag("enable-grpc-gateway",
            Bool(|c| &mut c.enable_grpc_gateway),
            "true", NoEffect(NO_GATEWAY),
            "Serve the JSON gateway."),
        flag("socket-reuse-port", Bool(|c| &mut c.socket_reuse_port), "false", Works,
            "Set SO_REUSEPORT on listeners.").file_key("socket-options.reuse-port"),
        flag("socket-reuse-address", Bool(|c| &mut c.socket_reuse_address), "false", Works,
            "Set SO_REUSEADDR on listeners.").file_key("socket-options.reuse-address"),
        flag("raft-read-timeout", Span(|c| &mut c.raft_read_timeout), "5s", Works,
            "Read time-out of connections between peers, at least 5s.").not_in_file(),
        flag("raft-write-timeout", Span(|c| &mut c.raft_write_timeout), "5s", NoEffect(NO_WRITES),
            "Write time-out of connections between peers, at least 5s.").not_in_file(),
    ]),
    ("Clustering", &[
        flag("initial-advertise-peer-urls",
            Urls(|c| &mut c.initial_advertise_peer_urls),
            "http://localhost:2380", Works,
            "Peer URLs of this member, as the others are to reach it."),
        flag("initial-cluster",
            Text(|c| &mut c.initial_cluster),
            "default=http://localhost:2380", Works,
            "Founding members as 'name=url,name=url'."),
        flag("initial-cluster-state",
            Choice(&["new", "existing"], |c| &mut c.initial_cluster_state),
            "new", Works,
            "'new' to found a cluster, 'existing' to join one."),
        flag("initial-cluster-token", Text(|c| &mut c.initial_cluster_token), "etcd-cluster", Works,
            "Text that keeps the ids of clusters apart."),
        flag("advertise-client-urls",
            Urls(|c| &mut c.advertise_client_urls),
            "http://localhost:2379", Works,
            "Client URLs of this member, as clients are to reach it."),
        flag("discovery-srv", Text(|c| &mut c.discovery.srv), "", Works,
            "Domain whose SRV records name the founding members."),
        flag("discovery-srv-name", Text(|c| &mut c.discovery.srv_name), "", Works,
            "Suffix of the SRV service name."),
        flag("discovery-token", Text(|c| &mut c.discovery.token), "", Works,
            "Token of the cluster at the discovery service.").file_key("discovery-config.token"),
        flag("discovery-endpoints", Set(|c| &mut c.discovery.endpoints), "", Works,
            "Endpoints of the discovery service.").file_key("discovery-config.client.endpoints"),
        flag("discovery-dial-timeout",
            Span(|c| &mut c.discovery.dial_timeout),
            "2s", Works,
            "Time-out of a dial to the discovery service.")
            .file_key("discovery-config.client.dial-timeout"),
        flag("discovery-request-timeout",
            Span(|c| &mut c.discovery.request_timeout),
            "5s", Works,
            "Time-out of a request to the discovery service.")
            .file_key("discovery-config.client.request-timeout"),
        flag("discovery-keepalive-time",
            Span(|c| &mut c.discovery.keepalive_time),
            "2s", Works,
            "Time between two pings to the discovery service.")
            .file_key("discovery-config.client.keepalive-time"),
        flag("discovery-keepalive-timeout",
            Span(|c| &mut c.discovery.keepalive_timeout),
            "6s", Works,
            "Wait for the discovery service's answer to a ping.")
            .file_key("discovery-config.client.keepalive-timeout"),
        flag("discovery-insecure-transport",
            Bool(|c| &mut c.discovery.insecure_transport),
            "true", NoEffect(DISCOVERY),
            "Call the discovery service without TLS.")
            .file_key("discovery-config.client.secure.insecure-transport"),
        flag("discovery-insecure-skip-tls-verify",
            Bool(|c| &mut c.discovery.insecure_skip_tls_verify),
            "false", NoEffect(DISCOVERY),
            "Do not verify the certificate of the discovery service. For tests only.")
            .file_key("discovery-config.client.secure.insecure-skip-tls-verify"),
        flag("discovery-cert", Text(|c| &mut c.discovery.cert), "", NoEffect(DISCOVERY),
            "Client certificate for the discovery service.")
            .file_key("discovery-config.client.secure.cert"),
        flag("discovery-key", Text(|c| &mut c.discovery.key), "", NoEffect(DISCOVERY),
            "Key of that certificate.").file_key("discovery-config.client.secure.key"),
        flag("discovery-cacert", Text(|c| &mut c.discovery.cacert), "", NoEffect(DISCOVERY),
            "Authorities that may sign the discovery service's certificate.")
            .file_key("discovery-config.client.secure.cacert"),
        flag("discovery-user", Text(|c| &mut c.discovery.user), "", Works,
            "User at the discovery service, or 'user:password'.")
            .file_key("discovery-config.client.auth.username"),
        flag("discovery-password", Text(|c| &mut c.discovery.password), "", Works,
            "Password at the discovery service.").file_key("discovery-config.client.auth.password"),
        flag("discovery-fallback",
            Choice(&["exit", "proxy"], |c| &mut c.discovery_fallback),
            "exit", Works,
            "What to do when the cluster is full; only 'exit' is left.").not_in_file(),
        flag("strict-reconfig-check",
            Bool(|c| &mut c.strict_reconfig_check),
            "true", Works,
            "Refuse member changes that would cost the quorum."),
        flag("pre-vote", Bool(|c| &mut c.pre_vote), "true", Works,
            "Ask for a pre-vote before an election."),
        flag("auto-compaction-retention",
            Text(|c| &mut c.auto_compaction_retention),
            "0", Works,
            "History to keep: hours or a duration, or revisions; 0 switches automatic compaction off."),
        flag("auto-compaction-mode",
            Text(|c| &mut c.auto_compaction_mode),
            "periodic", Works,
            "What --auto-compaction-retention counts: 'periodic' for time, 'revision' for revisions."),
        flag("v2-deprecation",
            EnforcedChoice(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
            "write-only", NoEffect("the default is enforced"),
            "Stage of the v2 store's removal. Deprecated; the default is enforced."),
    ]),
    ("Security", &[
        flag("cert-file", Text(|c| &mut c.client_tls.cert_file), "", Refused(TLS),
            "Certificate of the client listeners.").file_key("client-transport-security.cert-file"),
        flag("key-file", Text(|c| &mut c.client_tls.key_file), "", Refused(TLS),
            "Key of that certificate.").file_key("client-transport-security.key-file"),
        flag("client-cert-file", Text(|c| &mut c.client_tls.client_cert_file), "", Refused(TLS),
            "Certificate to show when dialling out, if it is another one.")
            .file_key("client-transport-security.client-cert-file"),
        flag("client-key-file", Text(|c| &mut c.client_tls.client_key_file), "", Refused(TLS),
            "Key of that certificate.").file_key("client-transport-security.client-key-file"),
        flag("client-cert-auth",
            Bool(|c| &mut c.client_tls.client_cert_auth),
            "false", Refused(TLS),
            "Ask callers for a certificate and verify it.")
            .file_key("client-transport-security.client-cert-auth"),
        flag("client-crl-file", Text(|c| &mut c.client_tls.crl_file), "", Refused(TLS),
            "List of revoked certificates.").not_in_file(),
        flag("client-cert-allowed-hostname",
            List(|c| &mut c.client_tls.allowed_hostnames),
            "", Refused(TLS),
            "Host names a caller's certificate may carry.")
            .file_key("client-transport-security.allowed-hostname"),
        flag("trusted-ca-file", Text(|c| &mut c.client_tls.trusted_ca_file), "", Refused(TLS),
            "Authorities that may sign callers' certificates.")
            .file_key("client-transport-security.trusted-ca-file"),
        flag("auto-tls", Bool(|c| &mut c.client_tls.auto), "false", Refused(TLS),
            "Make a certificate at start.").file_key("client-transport-security.auto-tls"),
        flag("peer-cert-file", Text(|c| &mut c.peer_tls.cert_file), "", Works,
            "Certificate of the peer listeners.").file_key("peer-transport-security.cert-file"),
        flag("peer-key-file", Text(|c| &mut c.peer_tls.key_file), "", Works,
            "Key of that certificate.").file_key("peer-transport-security.key-file"),
        flag("peer-client-cert-file", Text(|c| &mut c.peer_tls.client_cert_file), "", Works,
            "Certificate to show when dialling out, if it is another one.")
            .file_key("peer-transport-security.client-cert-file"),
        flag("peer-client-key-file", Text(|c| &mut c.peer_tls.client_key_file), "", Works,
            "Key of that certificate.").file_key("peer-transport-security.client-key-file"),
        flag("peer-client-cert-auth",
            Bool(|c| &mut c.peer_tls.client_cert_auth),
            "false", Works,
            "Ask callers for a certificate and verify it.")
            .file_key("peer-transport-security.client-cert-auth"),
        flag("peer-crl-file", Text(|c| &mut c.peer_tls.crl_file), "", Works,
            "List of revoked certificates.").not_in_file(),
        flag("peer-cert-allowed-hostname",
            List(|c| &mut c.peer_tls.allowed_hostnames),
            "", Works,
            "Host names a caller's certificate may carry.")
            .file_key("peer-transport-security.allowed-hostname"),
        flag("peer-cert-allowed-cn", List(|c| &mut c.peer_tls.allowed_cns), "", Works,
            "Common names a peer's certificate may carry.")
            .file_key("peer-transport-security.allowed-cn"),
        flag("peer-trusted-ca-file", Text(|c| &mut c.peer_tls.trusted_ca_file), "", Works,
            "Authorities that may sign callers' certificates.")
            .file_key("peer-transport-security.trusted-ca-file"),
        flag("peer-auto-tls", Bool(|c| &mut c.peer_tls.auto), "false", Works,
            "Make a certificate at start.").file_key("peer-transport-security.auto-tls"),
        flag("peer-skip-client-san-verification",
            Bool(|c| &mut c.peer_tls.skip_client_san_verification),
            "false", Works,
            "Do not compare a peer's address with the names in its certificate.")
            .file_key("peer-transport-security.skip-client-san-verification"),
        flag("self-signed-cert-validity",
            Count(|c| &mut c.self_signed_cert_validity),
            "1", Works,
            "Life of generated certificates in years."),
        flag("cipher-suites", List(|c| &mut c.cipher_suites), "", Works,
            "TLS cipher suites; when empty, a safe default."),
        flag("tls-min-version", Text(|c| &mut c.tls_min_version), "TLS1.2", Works,
            "Lowest TLS version, 'TLS1.2' or 'TLS1.3'."),
        flag("tls-max-version", Text(|c| &mut c.tls_max_version), "", Works,
            "Highest TLS version, 'TLS1.2' or 'TLS1.3'; when empty, the newest."),
        flag("cors", Origins(|c| &mut c.cors), "*", Works,
            "Origins browsers may call from; '*' for all."),
        flag("host-whitelist", Hosts(|c| &mut c.host_whitelist), "*", Works,
            "Host headers accepted without TLS; '*' for all."),
    ]),
    ("Auth", &[
        flag("auth-token",
            Text(|c| &mut c.auth_token),
            "simple", Refused(AUTH),
            "Kind of token, 'simple' or 'jwt' with options."),
        flag("bcrypt-cost", Count(|c| &mut c.bcrypt_cost), "10", NoEffect(AUTH),
            "Cost factor of password hashes, 4 to 31."),
        flag("auth-token-ttl", Count(|c| &mut c.auth_token_ttl_seconds), "300", NoEffect(AUTH),
            "Life of a simple token in seconds."),
    ]),
    ("Profiling and monitoring", &[
        flag("enable-pprof",
            Bool(|c| &mut c.enable_pprof),
            "false", NoEffect("profiles of a Go program cannot be had from this one"),
            "Serve profiles of the process."),
        flag("metrics", Text(|c| &mut c.metrics), "basic", Works,
            "'basic', or 'extensive' to add histograms of gRPC calls."),
        flag("listen-metrics-urls", Urls(|c| &mut c.listen_metrics_urls), "", Works,
            "More URLs to listen on, for metrics and health alone."),
        flag("enable-distributed-tracing",
            Bool(|c| &mut c.tracing.enabled),
            "false", Refused("tracing is not there yet"),
            "Send traces to a collector."),
        flag("distributed-tracing-address",
            Text(|c| &mut c.tracing.address),
            "localhost:4317", NoEffect(TRACING),
            "Address of the collector."),
        flag("distributed-tracing-service-name",
            Text(|c| &mut c.tracing.service_name),
            "etcd", NoEffect(TRACING),
            "Name of the service in traces."),
        flag("distributed-tracing-instance-id",
            Text(|c| &mut c.tracing.instance_id),
            "", NoEffect(TRACING),
            "Name of this process in traces."),
        flag("distributed-tracing-sampling-rate",
            Number(|c| &mut c.tracing.sampling_rate),
            "0", NoEffect(TRACING),
            "Traces per million calls."),
    ]),
    ("Logging", &[
        flag("logger", Text(|c| &mut c.log.logger), "zap", Works,
            "Kind of logger; only 'zap', which means JSON lines."),
        flag("log-outputs", Set(|c| &mut c.log.outputs), "default", Works,
            "Where the log goes: 'default', 'stderr', 'stdout', 'systemd/journal', or paths."),
        flag("log-level", Text(|c| &mut c.log.level), "info", Works,
            "Lowest level written: debug, info, warn, error, panic or fatal."),
        flag("log-format", Text(|c| &mut c.log.format), "json", Works,
            "'json' or 'console'."),
        flag("enable-log-rotation",
            Bool(|c| &mut c.log.rotation),
            "false", Refused("rotation is not there yet; use logrotate with copytruncate"),
            "Rotate the log file."),
        flag("log-rotation-config-json",
            Text(|c| &mut c.log.rotation_json),
            "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", NoEffect("it tunes --enable-log-rotation, which is not there yet"),
            "When and how the log file is rotated."),
    ]),
    ("Features and maintenance", &[
        flag("feature-gates", Gates, "", Works,
            "Features to switch, as 'Name=true,Other=false':"),
        flag("corrupt-check-time", Span(|c| &mut c.corrupt_check_time), "0s", NoEffect(MIXED),
            "Time between two comparisons of hashes with the peers, 0 for never."),
        flag("compact-hash-check-time",
            Span(|c| &mut c.compact_hash_check_time),
            "1m", NoEffect(MIXED),
            "Time between two comparisons of compaction hashes."),
        flag("compaction-batch-limit",
            Number(|c| &mut c.compaction_batch_limit),
            "1000", Works,
            "Revisions visited in one step of a compaction; 0 for 1000, negative for no limit."),
        flag("compaction-sleep-interval",
            Span(|c| &mut c.compaction_sleep_interval),
            "10ms", Works,
            "Pause between two steps of a compaction; 0 for 10ms."),
        flag("watch-progress-notify-interval",
            Span(|c| &mut c.watch_progress_notify_interval),
            "10m", Works,
            "Time between two progress notices of a watcher; 0 for 10m."),
        flag("downgrade-check-time", Span(|c| &mut c.downgrade_check_time), "5s", NoEffect(MIXED),
            "Time between two looks at a running downgrade."),
        flag("warning-apply-duration", Span(|c| &mut c.warning_apply_duration), "100ms", Works,
            "Log requests that take longer to apply."),
        flag("warning-unary-request-duration",
            Span(|c| &mut c.warning_unary_request_duration),
            "300ms", Works,
            "Log calls that take longer."),
        flag("bootstrap-defrag-threshold-megabytes",
            Count(|c| &mut c.bootstrap_defrag_threshold_megabytes),
            "0", NoEffect("space is given back while the member runs"),
            "Defragment at start if it frees so many megabytes, 0 for never."),
        flag("max-learners", Number(|c| &mut c.max_learners), "1", Works,
            "Learners allowed in the cluster."),
    ]),
    ("Unsafe", &[
        flag("force-new-cluster",
            Bool(|c| &mut c.force_new_cluster),
            "false", Works,
            "Restart as the only member of the cluster. Only to rescue data."),
        flag("unsafe-no-fsync", Bool(|c| &mut c.unsafe_no_fsync), "false", Works,
            "Never sync files. A crash of the machine loses data."),
    ]),
    ("Kvorum's own", &[
        flag("experimental-kvorum-checkpoint-pause",
            Span(|c| &mut c.kvorum_checkpoint_pause),
            "5s", Works,
            "Least time between two checkpoints, unless 32 MiB of log came in between."),
        flag("experimental-kvorum-promote-learners",
            Bool(|c| &mut c.kvorum_promote_learners),
            "false", Works,
            "Promote learners that have caught up, while this member leads."),
        flag("experimental-kvorum-scrub-pause",
            Span(|c| &mut c.kvorum_scrub_pause),
            "1h0m0s", Works,
            "Time between two rounds in which all files of the state are read again; 0 for never."),
    ]),
    ("General", &[
        flag("config-file", Text(|c| &mut c.config_file), "", Works,
            "Configuration file; all other flags and variables are then ignored.").not_in_file(),
        flag("version", Bool(|c| &mut c.version), "false", Works,
            "Print the version and exit.").not_in_file(),
    ]),
    ("Old flags, read and forgotten", &[
        ignored("cluster-active-size"),
        ignored("cluster-remove-delay"),
        ignored("cluster-sync-interval"),
        ignored("config"),
        ignored("force"),
        ignored("max-result-buffer"),
        ignored("max-retry-attempts"),
        ignored("peer-heartbeat-interval"),
        ignored("peer-election-timeout"),
        ignored("retry-interval"),
        ignored("snapshot"),
        ignored("v"),
        ignored("vv"),
        ignored("test.coverprofile"),
        ignored("test.outputdir"),
    ]),
];
