//! Whole configurations: what a command line, an environment or a file becomes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::flags::{self, Class};
use super::settings::Config;
use super::{Exit, Parsed, STATUS_FAILED, STATUS_OK, STATUS_USAGE, parse_on};
use crate::log::Line;
use crate::scratch::Scratch;

/// Flags of the release with their variables and defaults, written apart from the flag table.
const EXPECTED_FLAGS: &str = include_str!("../../testdata/flags-3.7.tsv");

/// Flags that etcd does not have.
const OWN_FLAGS: [&str; 3] = [
    "experimental-kvorum-checkpoint-pause",
    "experimental-kvorum-promote-learners",
    "experimental-kvorum-scrub-pause",
];

/// Flags of older releases that are read and forgotten.
const OLD_FLAGS: [&str; 15] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

fn parse_with(
    arguments: &[&str],
    variables: &[(&str, &str)],
    host: Option<IpAddr>,
) -> Result<Parsed, Exit> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    parse_on(&arguments, &variables, host)
}

fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, Exit> {
    parse_with(arguments, variables, None)
}

/// Parses arguments that are right.
fn config(arguments: &[&str]) -> Config {
    let parsed = parse(arguments, &[]);
    parsed
        .unwrap_or_else(|exit| panic!("{arguments:?}: {exit:?}"))
        .config
}

/// Parses the text of a configuration file that is right.
fn config_of_file(text: &str) -> Config {
    let scratch = Scratch::new();
    let path = scratch.file("etcd.yaml");
    std::fs::write(&path, text).expect("a configuration file");
    config(&["--config-file", &path])
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn messages(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(Line::message).collect()
}

/// The error of a line `failed to verify flags`, which ends the process with 1.
fn refusal(exit: &Exit) -> String {
    assert_eq!(exit.status, STATUS_FAILED, "{exit:?}");
    let line = exit
        .lines
        .iter()
        .find(|line| line.message() == "failed to verify flags");
    let error = line
        .and_then(|line| line.value("error"))
        .and_then(|error| error.as_str());
    error.unwrap_or_else(|| panic!("{exit:?}")).to_owned()
}

fn check_refused(arguments: &[&str], error: &str) {
    let exit = parse(arguments, &[]).expect_err("a configuration that is refused");
    assert_eq!(refusal(&exit), error, "{arguments:?}");
}

fn check_file_refused(text: &str, error: &str) {
    let scratch = Scratch::new();
    let path = scratch.file("etcd.yaml");
    std::fs::write(&path, text).expect("a configuration file");
    let exit = parse(&["--config-file", &path], &[]).expect_err("a file that is refused");
    assert_eq!(refusal(&exit), error, "{text:?}");
}

/// A command line that cannot be read: the error, and the usage behind it.
fn check_usage(arguments: &[&str], error: &str) {
    let exit = parse(arguments, &[]).expect_err("a command line that cannot be read");
    assert_eq!(exit.status, STATUS_USAGE, "{arguments:?}");
    let (first, usage) = exit.stderr.split_once('\n').expect("lines");
    assert_eq!(first, error, "{arguments:?}");
    assert!(usage.starts_with("Usage:"), "{usage:?}");
}

#[test]
fn the_table_holds_every_flag_of_the_release() {
    let rows: BTreeMap<&str, (&str, &str)> = EXPECTED_FLAGS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut columns = line.split('\t');
            let mut next = || columns.next().unwrap_or("");
            (next(), (next(), next()))
        })
        .collect();
    assert_eq!(rows.len(), 113);
    let (own, of_etcd): (Vec<_>, Vec<_>) =
        flags::all().partition(|flag| flag.name.starts_with("experimental-kvorum-"));
    assert_eq!(texts(own.iter().map(|flag| flag.name)), texts(OWN_FLAGS));
    let (old, current): (Vec<_>, Vec<_>) =
        of_etcd.into_iter().partition(|flag| flag.help.is_empty());
    assert_eq!(texts(old.iter().map(|flag| flag.name)), texts(OLD_FLAGS));
    let names =
        |names: Vec<&'static str>| names.into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(
        names(current.iter().map(|flag| flag.name).collect()),
        rows.keys().copied().collect()
    );
    for flag in current {
        let (variable, default) = rows[flag.name];
        assert_eq!(flag.variable(), variable);
        let (mut ours, mut expected) = (Config::defaults(), Config::defaults());
        flag.kind.set_default(&mut expected, default);
        assert!(
            flag.kind.is_same(&mut ours, &mut expected),
            "{}: {default:?}",
            flag.name
        );
        assert_eq!(flag.default.is_empty(), default.is_empty(), "{}", flag.name);
    }
}

#[test]
fn old_flags_are_read_and_forgotten() {
    for name in OLD_FLAGS {
        let parsed = parse(&[&format!("--{name}"), &format!("-{name}=x")], &[]).expect(name);
        let notice = parsed
            .notices
            .iter()
            .find(|line| line.value("flag").is_some());
        assert_eq!(
            notice.and_then(|line| line.value("flag")),
            Some(&name.into())
        );
    }
}

#[test]
fn flags_are_written_the_way_of_go() {
    let config = config(&[
        "-name=a",
        "--data-dir",
        "d=e",
        "--pre-vote=F",
        "-strict-reconfig-check",
        "--heartbeat-interval",
        "0x10",
        "--quota-backend-bytes=-1",
        "--warning-apply-duration",
        "1m30s",
        "--name",
        "b",
        "--wal-dir=",
    ]);
    assert_eq!(config.name, "b");
    assert_eq!(config.data_dir, "d=e");
    assert!(!config.pre_vote);
    assert!(config.strict_reconfig_check);
    assert_eq!(config.heartbeat_interval_ms, 16);
    assert_eq!(config.quota_bytes(), None);
    assert_eq!(config.warning_apply_duration.to_string(), "1m30s");
}

#[test]
fn bad_command_lines_print_the_texts_of_go() {
    check_usage(
        &["--no-such-flag"],
        "flag provided but not defined: -no-such-flag",
    );
    check_usage(&["-no-such=1"], "flag provided but not defined: -no-such");
    check_usage(&["---name"], "bad flag syntax: ---name");
    check_usage(&["-=x"], "bad flag syntax: -=x");
    check_usage(&["--name"], "flag needs an argument: -name");
    check_usage(
        &["--pre-vote=yes"],
        "invalid boolean value \"yes\" for -pre-vote: parse error",
    );
    check_usage(
        &["--max-wals=-1"],
        "invalid value \"-1\" for flag -max-wals: parse error",
    );
    check_usage(
        &["--quota-backend-bytes", "9223372036854775808"],
        "invalid value \"9223372036854775808\" for flag -quota-backend-bytes: value out of range",
    );
    check_usage(
        &["--max-concurrent-streams=4294967296"],
        "invalid value \"4294967296\" for flag -max-concurrent-streams: strconv.ParseUint: \
         parsing \"4294967296\": value out of range",
    );
    check_usage(
        &["--grpc-keepalive-timeout=5"],
        "invalid value \"5\" for flag -grpc-keepalive-timeout: parse error",
    );
    check_usage(
        &["--v2-deprecation", "not-yet"],
        "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
    );
    check_usage(
        &["--initial-cluster-state=old"],
        "invalid value \"old\" for flag -initial-cluster-state: invalid value",
    );
    check_usage(
        &["--listen-client-urls=tcp://a:1"],
        "invalid value \"tcp://a:1\" for flag -listen-client-urls: URL scheme must be http, \
         https, unix, or unixs: tcp://a:1",
    );
    check_usage(
        &["--feature-gates=Nonsense=true"],
        "invalid value \"Nonsense=true\" for flag -feature-gates: unrecognized feature gate: \
         Nonsense",
    );
}

#[test]
fn stray_words_are_refused() {
    check_refused(&["start"], "\"start\" is not a valid flag");
    check_refused(&["--pre-vote", "false"], "\"false\" is not a valid flag");
    check_refused(&["--name", "a", "--", "-b"], "\"-b\" is not a valid flag");
    check_refused(&["-"], "\"-\" is not a valid flag");
}

#[test]
fn help_and_version_end_with_success() {
    for argument in ["-h", "--help", "-help"] {
        let exit = parse(&[argument], &[]).expect_err("help");
        assert_eq!(exit.status, STATUS_OK);
        assert!(exit.stderr.starts_with("Usage:"));
        for flag in flags::all().filter(|flag| !flag.help.is_empty()) {
            assert!(
                exit.stdout.contains(&format!("  --{} '", flag.name)),
                "{}",
                flag.name
            );
        }
    }
    for argument in ["-version", "--version", "--version=true"] {
        let exit = parse(&[argument], &[]).expect_err("version");
        assert_eq!((exit.status, exit.stderr.as_str()), (STATUS_OK, ""));
        assert!(exit.stdout.starts_with("etcd Version: 3.7.1\n"));
    }
}

#[test]
fn subcommands_of_other_programs_are_refused() {
    for command in ["gateway", "grpc-proxy"] {
        let exit = parse(&[command, "start"], &[]).expect_err("a subcommand");
        assert_eq!(exit.status, STATUS_FAILED);
        assert!(
            exit.stderr
                .contains(&format!("etcd {command} is not supported"))
        );
    }
}

#[test]
fn variables_stand_in_for_flags() {
    let variables = [
        ("ETCD_NAME", "a"),
        ("ETCD_WAL_DIR", ""),
        ("ETCD_NO_SUCH", "1"),
        ("ETCD_UNSUPPORTED_ARCH", "amd64"),
        ("ETCD_VERSION", "3.5.0"),
        ("PATH", "/bin"),
    ];
    let parsed = parse(&["--pre-vote=false"], &variables).expect("a configuration");
    assert_eq!(parsed.config.name, "a");
    assert!(!parsed.config.pre_vote);
    assert_eq!(
        messages(&parsed.early),
        [
            "cannot set special environment variable",
            "recognized and used environment variable",
            "unrecognized environment variable",
            "unrecognized environment variable",
        ]
    );
    assert_eq!(
        parsed.early[1].value("variable-name"),
        Some(&"ETCD_NAME".into())
    );
    assert_eq!(parsed.early[1].value("variable-value"), Some(&"a".into()));
    assert_eq!(
        parsed.early[3].value("environment-variable"),
        Some(&"ETCD_NO_SUCH=1".into())
    );
}

#[test]
fn a_variable_beside_its_flag_is_fatal() {
    let exit = parse(&["--name", "a"], &[("ETCD_NAME", "a")]).expect_err("a conflict");
    assert_eq!(exit.status, STATUS_FAILED);
    let line = exit.lines.last().expect("a line");
    assert_eq!(line.level(), crate::log::Level::Fatal);
    assert_eq!(
        line.message(),
        "conflicting environment variable is shadowed by corresponding command-line flag (either \
         unset environment variable or disable flag))"
    );
    assert_eq!(
        line.value("environment-variable"),
        Some(&"ETCD_NAME".into())
    );
}

#[test]
fn a_bad_variable_is_named() {
    let exit = parse(&[], &[("ETCD_MAX_WALS", "many")]).expect_err("a bad variable");
    assert_eq!(
        refusal(&exit),
        "invalid value \"many\" for ETCD_MAX_WALS: parse error"
    );
}

#[test]
fn lists_of_urls_are_sorted_and_unique() {
    let config = config(&[
        "--listen-client-urls=http://127.0.0.1:2,http://127.0.0.1:1,http://127.0.0.1:2",
        "--advertise-client-urls=http://127.0.0.1:1",
        "--listen-peer-urls=",
        "--log-outputs=stdout,stderr,stdout",
    ]);
    let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
    assert_eq!(texts(&config.listen_client_urls), urls);
    assert_eq!(texts(&config.listen_peer_urls), ["http://localhost:2380"]);
    assert_eq!(texts(&config.log.outputs), ["stderr", "stdout"]);
}

#[test]
fn wrong_configurations_are_refused_with_the_texts_of_etcd() {
    check_refused(
        &["--listen-client-urls=http://127.0.0.1:1"],
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    );
    check_refused(
        &["--listen-peer-urls=http://example.com:1"],
        "expected IP in URL for binding (http://example.com:1)",
    );
    check_refused(
        &["--initial-advertise-peer-urls=http://:1"],
        "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host \
         (http://:1))",
    );
    check_refused(
        &["--advertise-client-urls=http://:1"],
        "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \
         \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
    );
    check_refused(
        &["--discovery-srv=a.b", "--initial-cluster=a=http://h:1"],
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\"",
    );
    check_refused(
        &["--discovery-token=x"],
        "both --discovery-token and --discovery-endpoints must be set",
    );
    check_refused(
        &["--discovery-token=x", "--discovery-endpoints=a,"],
        "--discovery-endpoints must not contain empty endpoints",
    );
    check_refused(
        &["--heartbeat-interval=0"],
        "--heartbeat-interval must be >0 (set to 0ms)",
    );
    check_refused(
        &["--election-timeout=0"],
        "--election-timeout must be >0 (set to 0ms)",
    );
    check_refused(
        &["--election-timeout=100"],
        "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
    );
    check_refused(
        &["--election-timeout=50001"],
        "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
    );
    check_refused(
        &["--auto-compaction-mode="],
        "undefined auto-compaction-mode",
    );
    check_refused(
        &["--auto-compaction-mode=x"],
        "unknown auto-compaction-mode \"x\"",
    );
    check_refused(
        &["--auto-compaction-retention=soon"],
        "error parsing CompactionRetention: time: invalid duration \"soon\"",
    );
    check_refused(
        &["--compact-hash-check-time=0s"],
        "--compact-hash-check-time must be >0 (set to 0s)",
    );
    check_refused(
        &["--logger=capnslog"],
        "--logger=capnslog is removed in v3.5",
    );
    check_refused(&["--logger=x"], "unknown logger option \"x\"");
    check_refused(&["--log-level=loud"], "unrecognized level: \"loud\"");
    check_refused(
        &["--log-outputs=default,stdout"],
        "multi logoutput for \"default\" is not supported yet",
    );
    check_refused(
        &["--enable-log-rotation"],
        "--log-outputs requires a single file path when --log-rotate-config-json is defined",
    );
    check_refused(
        &["--discovery-fallback=proxy"],
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
    );
    check_refused(
        &["--feature-gates=LeaseCheckpointPersist=true"],
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
         LeaseCheckpoint",
    );
    let tracing = "--enable-distributed-tracing";
    check_refused(
        &[tracing, "--distributed-tracing-sampling-rate=-1"],
        "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
    );
    check_refused(
        &[tracing, "--distributed-tracing-sampling-rate=1000001"],
        "distributed tracing configurition is not valid: (tracing sampling rate must be less than \
         1000000)",
    );
}

#[test]
fn tls_that_contradicts_itself_is_refused_with_the_texts_of_etcd() {
    check_refused(
        &["--listen-metrics-urls=https://127.0.0.1:1"],
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
    );
    check_refused(
        &[
            "--listen-client-urls=https://127.0.0.1:1",
            "--advertise-client-urls=https://127.0.0.1:1",
        ],
        "TLS key/cert (--cert-file, --key-file) must be provided for client url \
         https://127.0.0.1:1 with HTTPS scheme",
    );
    check_refused(
        &["--listen-peer-urls=https://127.0.0.1:1"],
        "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
    );
    check_refused(
        &["--listen-client-http-urls=http://localhost:2379"],
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
         http://localhost:2379",
    );
    check_refused(
        &["--cert-file=f"],
        "KeyFile and CertFile must both be present[key: , cert: f]",
    );
    check_refused(
        &["--peer-client-key-file=f"],
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: f, cert: ]",
    );
    check_refused(
        &[
            "--peer-cert-allowed-cn=a",
            "--peer-cert-allowed-hostname=b,c",
        ],
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[a], hostnames=[b c])",
    );
    check_refused(
        &["--tls-min-version=TLS1.1"],
        "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
    );
    check_refused(
        &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    );
    check_refused(
        &["--tls-min-version=TLS1.3", "--cipher-suites=a"],
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    );
    check_refused(
        &["--cipher-suites=TLS_AES_128_GCM_SHA256,TLS_NO"],
        "unexpected TLS cipher suite \"TLS_NO\"",
    );
    check_refused(
        &["--peer-auto-tls", "--self-signed-cert-validity=0"],
        "selfSignedCertValidity is invalid,it should be greater than 0",
    );
    check_refused(
        &["--cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256"],
        "TLS cipher suite \"TLS_RSA_WITH_AES_128_GCM_SHA256\" is not supported by this release: it has no forward \
         secrecy or its cipher has been broken",
    );
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    check_refused(
        &["--cert-file=c", "--key-file=k"],
        "--cert-file is not supported by this release: TLS with clients is not there yet",
    );
    let mut refused = 0;
    for flag in flags::all().filter(|flag| matches!(flag.class, Class::Refused(_))) {
        refused += 1;
        // The default said aloud is no wish for more.
        if !flag.default.is_empty() {
            config(&[&format!("--{}={}", flag.name, flag.default)]);
        }
    }
    assert!(refused > 0, "{refused}");
}

#[test]
fn flags_without_effect_are_named_when_they_are_changed() {
    let parsed = parse(
        &[
            "--name=a",
            "--backend-batch-limit=5",
            "--max-wals=5",
            "--corrupt-check-time=2s",
            "--raft-write-timeout=9s",
            "--feature-gates=AllBeta=false",
        ],
        &[],
    );
    let notices = parsed.expect("a configuration").notices;
    let named = |what: &str| -> Vec<String> {
        let values = notices.iter().filter_map(|line| line.value(what));
        texts(values.filter_map(|value| value.as_str()))
    };
    assert_eq!(
        named("flag"),
        [
            "backend-batch-limit",
            "raft-write-timeout",
            "corrupt-check-time",
        ]
    );
    assert_eq!(
        named("gate"),
        ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]
    );
}

#[test]
fn flags_that_work_bring_no_notice() {
    let parsed = parse(
        &[
            "--name=a",
            "--cors=http://a:80",
            "--host-whitelist=a",
            "--snapshot-count=10",
            "--snapshot-catchup-entries=5",
            "--compaction-batch-limit=10",
            "--compaction-sleep-interval=1ms",
            "--auto-compaction-mode=revision",
            "--auto-compaction-retention=1000",
        ],
        &[],
    );
    let parsed = parsed.expect("a configuration");
    assert!(
        parsed
            .notices
            .iter()
            .all(|line| line.value("flag").is_none())
    );
    assert_eq!(parsed.config.compaction_step_records(), 10);
    let steps =
        |limit: &str| config(&["--compaction-batch-limit", limit]).compaction_step_records();
    assert_eq!((steps("0"), steps("-1")), (1000, usize::MAX));
}

#[test]
fn deprecated_flags_are_warned_of_and_enforced() {
    let parsed = parse(&["--max-snapshots=5", "--v2-deprecation=gone"], &[]);
    let parsed = parsed.expect("a configuration");
    assert_eq!(parsed.config.v2_deprecation, "write-only");
    let messages = messages(&parsed.notices);
    for text in [
        "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is \
         enforced, ignoring user input.",
    ] {
        assert!(messages.contains(&text), "{messages:?}");
    }
}

#[test]
fn a_name_alone_founds_its_own_cluster() {
    let config = config(&["--name=a"]);
    assert_eq!(config.initial_cluster, "a=http://localhost:2380");
    assert_eq!(config.data_dir, "a.etcd");
    assert_eq!(config.founding_members().expect("one member").len(), 1);
}

#[test]
fn a_listener_on_all_addresses_announces_this_machine() {
    let host = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let arguments = [
        "--name=a",
        "--listen-peer-urls=http://0.0.0.0:7",
        "--data-dir=d",
    ];
    let parsed = parse_with(&arguments, &[], Some(host)).expect("a configuration");
    assert_eq!(
        texts(&parsed.config.initial_advertise_peer_urls),
        ["http://10.0.0.7:7"]
    );
    assert_eq!(
        texts(&parsed.config.advertise_client_urls),
        ["http://localhost:2379"]
    );
    assert_eq!(parsed.config.initial_cluster, "a=http://10.0.0.7:7");
    let line = parsed.notices.last().expect("a line");
    assert_eq!(line.message(), "detected default host for advertise");
}

#[test]
fn a_peer_port_of_zero_is_accepted_beside_the_default_peer_url() {
    let config = config(&["--listen-peer-urls=http://127.0.0.1:0"]);
    assert_eq!(config.listen_peer_urls[0].port(), "0");
    assert_eq!(config.founding_members().expect("one member").len(), 1);
}

#[test]
fn timeouts_of_peers_are_raised_to_their_least_value() {
    let parsed = parse(&["--raft-read-timeout=1s"], &[]).expect("a configuration");
    assert_eq!(parsed.config.raft_read_timeout.to_string(), "5s");
    assert_eq!(
        messages(&parsed.early),
        ["raft-read-timeout increased to minimum value: 5s"]
    );
}

#[test]
fn the_start_line_shows_the_configuration() {
    let config = config(&["--snapshot-catchup-entries=1000"]);
    let line = config.start_line(false);
    assert_eq!(line.message(), "starting an etcd server");
    for (field, value) in [
        ("etcd-version", serde_json::json!("3.7.1")),
        ("snapshot-catchup-entries", serde_json::json!(1000)),
        ("v2-deprecation", serde_json::json!("write-only")),
        ("quota-backend-bytes", serde_json::json!(2_147_483_648_u64)),
        ("election-timeout", serde_json::json!("1s")),
        (
            "listen-client-urls",
            serde_json::json!(["http://localhost:2379"]),
        ),
        (
            "initial-cluster",
            serde_json::json!("default=http://localhost:2380"),
        ),
    ] {
        assert_eq!(line.value(field), Some(&value), "{field}");
    }
}

#[test]
fn a_file_wins_completely() {
    let scratch = Scratch::new();
    let path = scratch.file("etcd.yaml");
    std::fs::write(&path, "name: filed\n").expect("a configuration file");
    let arguments = ["--name=flagged", "--max-txn-ops=7", "--config-file", &path];
    let variables = [("ETCD_NAME", "variable"), ("ETCD_MAX_WALS", "many")];
    let parsed = parse(&arguments, &variables).expect("a configuration");
    assert_eq!(parsed.config.name, "filed");
    assert_eq!(parsed.config.max_txn_ops, 128);
    assert!(parsed.early.is_empty());
    assert!(
        parsed.notices[0]
            .message()
            .starts_with("loaded server configuration, other")
    );
    let by_variable = parse(&[], &[("ETCD_CONFIG_FILE", &path)]).expect("a configuration");
    assert_eq!(by_variable.config.name, "filed");
}

#[test]
fn a_file_has_forms_of_its_own() {
    let config = config_of_file(
        "name: a\n\
         listen-client-urls: http://127.0.0.1:2,http://127.0.0.1:1\n\
         auto-compaction-retention: 0\n\
         grpc-keepalive-timeout: 600000000000\n\
         heartbeat-interval: 50\n\
         log-outputs: [stderr]\n\
         host-whitelist: '*'\n\
         socket-options: {reuse-port: true}\n\
         discovery-config: {client: {dial-timeout: 1000000000}}\n\
         client-transport-security: {client-cert-auth: false}\n\
         feature-gates: CompactHashCheck=true\n\
         raft-read-timeout: 1\n\
         enable-v2: true\n\
         wal-dir:\n",
    );
    let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
    assert_eq!(texts(&config.listen_client_urls), urls);
    assert_eq!(config.grpc_keepalive_timeout.to_string(), "10m0s");
    assert_eq!(config.heartbeat_interval_ms, 50);
    assert!(config.socket_reuse_port);
    assert_eq!(config.discovery.dial_timeout.to_string(), "1s");
    assert_eq!(config.feature_gates.to_string(), "CompactHashCheck=true");
    assert_eq!(config.raft_read_timeout.to_string(), "5s");
}

#[test]
fn keys_of_a_file_are_read_in_the_case_of_their_flags() {
    // etcd would take it: its reader ignores the case of keys.
    assert_eq!(config_of_file("NAME: a").name, "default");
}

#[test]
fn a_file_may_be_json_or_empty() {
    assert_eq!(
        config_of_file("{\"name\": \"a\", \"max-wals\": 7}").max_wals,
        7
    );
    assert_eq!(config_of_file("").name, "default");
}

#[test]
fn wrong_files_are_refused_with_the_key() {
    check_file_refused(
        "grpc-keepalive-timeout: 10m",
        "configuration file: key \"grpc-keepalive-timeout\": expected a number of nanoseconds, \
         found the text \"10m\"",
    );
    check_file_refused(
        "log-outputs: stderr",
        "configuration file: key \"log-outputs\": expected a list of texts, found the text \
         \"stderr\"",
    );
    check_file_refused(
        "socket-options: 1",
        "configuration file: key \"socket-options\": expected a map, found the number 1",
    );
    check_file_refused(
        "initial-cluster-state: old",
        "unexpected clusterState \"old\"",
    );
    check_file_refused(
        "feature-gates: X=true",
        "configuration file: key \"feature-gates\": unrecognized feature gate: X",
    );
    check_file_refused("[]", "the configuration file holds no map of keys");
    check_refused(
        &["--config-file=/no/such/file"],
        "open /no/such/file: No such file or directory (os error 2)",
    );
}

#[test]
fn a_bad_url_in_a_file_is_named_on_standard_error() {
    let scratch = Scratch::new();
    let path = scratch.file("etcd.yaml");
    std::fs::write(&path, "listen-peer-urls: http://a\n").expect("a configuration file");
    let exit = parse(&["--config-file", &path], &[]).expect_err("a bad URL");
    assert_eq!(exit.status, STATUS_FAILED);
    assert_eq!(
        exit.stderr,
        "unexpected error setting up listen-peer-urls: URL address does not have the form \
         \"host:port\": http://a\n"
    );
}
