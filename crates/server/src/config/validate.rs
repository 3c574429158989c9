//! The checks of a whole configuration, in etcd's order and with etcd's texts.
//!
//! First come etcd's own checks, then those its listeners make, last what this release cannot do
//! yet. The first fault ends the checking.
//!
//! Source: v3.7.1 `server/embed/config.go` (`Validate`, `checkBindURLs`, `checkHostURLs`),
//! `server/embed/config_logging.go` (`setupLogging`), `server/embed/etcd.go`
//! (`configurePeerListeners`, `configureClientListeners`, `parseCompactionRetention`).

use std::net::IpAddr;
use std::time::Duration;

use kvorum_member::auto_compaction::Retention;

use super::duration::Span;
use super::flags::{self, Class};
use super::gates::Gate;
use super::settings::{Config, Tls};
use super::suites::cipher_suites;
use super::url::{Scheme, Url};
use crate::log::{self, Line};

/// The longest election time-out in milliseconds.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// An election time-out is at least so many heartbeats.
const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;
/// Samples per million calls: all of them.
const SAMPLING_RATE_MAX: i64 = 1_000_000;
/// The most octets a request may have before a warning.
const REQUEST_BYTES_RECOMMENDED_MAX: u64 = 10 * 1024 * 1024;
/// The largest quota before a warning, in bytes.
const QUOTA_BYTES_SUGGESTED_MAX: i64 = 8 * 1024 * 1024 * 1024;

/// Why a configuration is refused; the text is what etcd prints where etcd has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(super) String);

impl Invalid {
    /// etcd's text when client listeners are set and advertised client URLs are not.
    pub(super) const ADVERTISE_MISSING: &str =
        "--advertise-client-urls is required when --listen-client-urls is set explicitly";
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(text.into()))
}

/// Checks a configuration; warnings are added to `lines`.
pub(super) fn check(config: &Config, lines: &mut Vec<Line>) -> Result<(), Invalid> {
    if config.discovery_fallback == "proxy" {
        return invalid(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        );
    }
    check_logging(config)?;
    check_urls(config)?;
    check_bootstrap(config)?;
    check_timing(config)?;
    if !config.listen_client_urls.is_empty() && config.advertise_client_urls.is_empty() {
        return invalid(Invalid::ADVERTISE_MISSING);
    }
    check_features(config, lines)?;
    check_tls_versions(config)?;
    check_listeners(config)?;
    auto_compaction_retention(config)?;
    check_supported(config)?;
    warn_of_sizes(config, lines);
    Ok(())
}

fn check_logging(config: &Config) -> Result<(), Invalid> {
    let settings = &config.log;
    match settings.logger.as_str() {
        "zap" => {}
        "capnslog" => return invalid("--logger=capnslog is removed in v3.5"),
        other => return invalid(format!("unknown logger option {other:?}")),
    }
    if settings.outputs.len() > 1 && settings.outputs.contains("default") {
        return invalid("multi logoutput for \"default\" is not supported yet");
    }
    if settings.rotation {
        let files = settings.outputs.iter();
        let files = files
            .filter(|name| !["default", "stderr", "stdout"].contains(&name.as_str()))
            .count();
        if files > 1 || (files == 0 && settings.outputs.len() == 1) {
            return invalid(
                "--log-outputs requires a single file path when --log-rotate-config-json is defined",
            );
        }
    }
    if settings.outputs.len() > 1 && settings.outputs.contains("systemd/journal") {
        let names: Vec<_> = settings.outputs.iter().collect();
        return invalid(format!(
            "running with systemd/journal but other '--log-outputs' values ({names:?}) are \
             configured with 'default'; override 'default' value with something else"
        ));
    }
    log::check_level(&settings.level).map_err(|error| Invalid(error.to_string()))?;
    log::check_format(&settings.format).map_err(|error| Invalid(error.to_string()))
}

fn check_urls(config: &Config) -> Result<(), Invalid> {
    check_bind(&config.listen_peer_urls)?;
    check_bind(&config.listen_client_urls)?;
    check_bind(&config.listen_client_http_urls)?;
    check_bind(&config.listen_metrics_urls)?;
    let urls = &config.initial_advertise_peer_urls;
    if let Err(error) = check_hosts(urls) {
        return invalid(format!(
            "--initial-advertise-peer-urls {:?} must be \"host:port\" ({error})",
            join(urls)
        ));
    }
    let urls = &config.advertise_client_urls;
    if let Err(error) = check_hosts(urls) {
        return invalid(format!(
            "--advertise-client-urls {:?} must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({error})",
            join(urls)
        ));
    }
    Ok(())
}

/// A listener binds to an address of this machine, never to a name that would be looked up.
fn check_bind(urls: &[Url]) -> Result<(), Invalid> {
    for url in urls.iter().filter(|url| !url.is_unix()) {
        if url.host() != "localhost" && url.host().parse::<IpAddr>().is_err() {
            return invalid(format!("expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn check_hosts(urls: &[Url]) -> Result<(), Invalid> {
    match urls
        .iter()
        .find(|url| !url.is_unix() && url.host().is_empty())
    {
        Some(url) => invalid(format!("unexpected empty host ({url})")),
        None => Ok(()),
    }
}

fn join(urls: &[Url]) -> String {
    urls.iter()
        .map(Url::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn check_bootstrap(config: &Config) -> Result<(), Invalid> {
    let discovery = &config.discovery;
    if !["new", "existing"].contains(&config.initial_cluster_state.as_str()) {
        return invalid(format!(
            "unexpected clusterState {:?}",
            config.initial_cluster_state
        ));
    }
    let ways = [
        !config.initial_cluster.is_empty(),
        !discovery.srv.is_empty(),
        !discovery.endpoints.is_empty(),
    ];
    if ways.into_iter().filter(|set| *set).count() > 1 {
        return invalid(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        );
    }
    if discovery.token.is_empty() != discovery.endpoints.is_empty() {
        return invalid("both --discovery-token and --discovery-endpoints must be set");
    }
    if discovery
        .endpoints
        .iter()
        .any(|endpoint| endpoint.trim().is_empty())
    {
        return invalid("--discovery-endpoints must not contain empty endpoints");
    }
    Ok(())
}

fn check_timing(config: &Config) -> Result<(), Invalid> {
    let (heartbeat, election) = (config.heartbeat_interval_ms, config.election_timeout_ms);
    if heartbeat == 0 {
        return invalid("--heartbeat-interval must be >0 (set to 0ms)");
    }
    if election == 0 {
        return invalid("--election-timeout must be >0 (set to 0ms)");
    }
    if heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN) > election {
        return invalid(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_TIMEOUT_MS_MAX {
        return invalid(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_TIMEOUT_MS_MAX}ms"
        ));
    }
    Ok(())
}

fn check_features(config: &Config, lines: &mut Vec<Line>) -> Result<(), Invalid> {
    match config.auto_compaction_mode.as_str() {
        "periodic" | "revision" => {}
        "" => return invalid("undefined auto-compaction-mode"),
        other => return invalid(format!("unknown auto-compaction-mode {other:?}")),
    }
    if config.tracing.enabled {
        let reason = match config.tracing.sampling_rate {
            ..0 => "must be positive".to_owned(),
            0..=SAMPLING_RATE_MAX => String::new(),
            _ => format!("must be less than {SAMPLING_RATE_MAX}"),
        };
        if !reason.is_empty() {
            return invalid(format!(
                "distributed tracing configurition is not valid: (tracing sampling rate {reason})"
            ));
        }
    }
    let gates = &config.feature_gates;
    let (checkpoint, persist) = (
        gates.enabled(Gate::LeaseCheckpoint),
        gates.enabled(Gate::LeaseCheckpointPersist),
    );
    if checkpoint && !persist {
        lines.push(Line::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling \
             feature gate LeaseCheckpointPersist",
        ));
    }
    if persist && !checkpoint {
        return invalid(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint",
        );
    }
    if config.compact_hash_check_time <= Span::from_nanos(0) {
        let time = config.compact_hash_check_time;
        return invalid(format!(
            "--compact-hash-check-time must be >0 (set to {time})"
        ));
    }
    if config.name == "default" {
        lines.push(
            Line::warn(
                "it isn't recommended to use default name, please set a value for --name. Note \
                 that etcd might run into issue when multiple members have the same default name",
            )
            .field("name", "default"),
        );
    }
    Ok(())
}

fn check_tls_versions(config: &Config) -> Result<(), Invalid> {
    let rank = |version: &str| match version {
        "" => Ok(0),
        "TLS1.2" => Ok(2),
        "TLS1.3" => Ok(3),
        other => invalid(format!(
            "unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)"
        )),
    };
    let (lowest, highest) = (
        rank(&config.tls_min_version)?,
        rank(&config.tls_max_version)?,
    );
    if highest != 0 && lowest > highest {
        return invalid(format!(
            "min version ({}) is greater than max version ({})",
            config.tls_min_version, config.tls_max_version
        ));
    }
    if lowest == 3 && !config.cipher_suites.is_empty() {
        return invalid("cipher suites cannot be configured when only TLS1.3 is enabled");
    }
    Ok(())
}

/// What etcd's listeners refuse before they bind.
fn check_listeners(config: &Config) -> Result<(), Invalid> {
    let (client, peer) = (&config.client_tls, &config.peer_tls);
    cipher_suites(&config.cipher_suites).map_err(Invalid)?;
    if peer.auto && peer.is_empty() && config.self_signed_cert_validity == 0 {
        return invalid("selfSignedCertValidity is invalid,it should be greater than 0");
    }
    if let Some(url) = config.listen_peer_urls.iter().find(|url| url.is_tls())
        && peer.is_empty()
        && !peer.auto
    {
        let address = url.address();
        return invalid(format!(
            "cannot listen on TLS for {address}: KeyFile and CertFile are not presented"
        ));
    }
    let without_certificate = client.is_empty() && !client.auto;
    let clients = || {
        config
            .listen_client_urls
            .iter()
            .chain(&config.listen_client_http_urls)
    };
    if let Some(url) = clients().find(|url| url.is_tls())
        && without_certificate
    {
        return invalid(format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with \
             HTTPS scheme"
        ));
    }
    for url in &config.listen_client_http_urls {
        if config
            .listen_client_urls
            .iter()
            .any(|other| other.address() == url.address())
        {
            return invalid(format!(
                "cannot bind both --listen-client-urls and --listen-client-http-urls on the same \
                 url {url}"
            ));
        }
    }
    if config
        .listen_metrics_urls
        .iter()
        .any(|url| url.scheme() == Scheme::Https)
        && without_certificate
    {
        return invalid(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        );
    }
    check_certificates(client)?;
    check_certificates(peer)
}

/// Source: v3.7.1 `client/pkg/transport/listener.go` (`TLSInfo.baseConfig`).
fn check_certificates(tls: &Tls) -> Result<(), Invalid> {
    if tls.cert_file.is_empty() != tls.key_file.is_empty() {
        return invalid(format!(
            "KeyFile and CertFile must both be present[key: {}, cert: {}]",
            tls.key_file, tls.cert_file
        ));
    }
    if tls.client_cert_file.is_empty() != tls.client_key_file.is_empty() {
        return invalid(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: \
             {}]",
            tls.client_key_file, tls.client_cert_file
        ));
    }
    if !tls.allowed_cns.is_empty() && !tls.allowed_hostnames.is_empty() {
        return invalid(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
            tls.allowed_cns.join(" "),
            tls.allowed_hostnames.join(" ")
        ));
    }
    Ok(())
}

/// Reads `--auto-compaction-retention` in the sense of `--auto-compaction-mode`.
///
/// None switches automatic compaction off.
///
/// # Errors
/// The text is neither a number nor a duration.
pub fn auto_compaction_retention(config: &Config) -> Result<Option<Retention>, Invalid> {
    const HOUR_SECONDS: u64 = 60 * 60;
    let text = config.auto_compaction_retention.as_str();
    let by_revision = config.auto_compaction_mode == "revision";
    if let Ok(number) = text.strip_prefix('+').unwrap_or(text).parse::<u64>() {
        return Ok(match number {
            0 => None,
            number if by_revision => Some(Retention::Revisions(number)),
            hours => Some(Retention::Time(Duration::from_secs(
                hours.saturating_mul(HOUR_SECONDS),
            ))),
        });
    }
    let Some(span) = Span::parse(text) else {
        return invalid(format!(
            "error parsing CompactionRetention: time: invalid duration {text:?}"
        ));
    };
    Ok(match span.to_duration() {
        Duration::ZERO => None,
        // etcd takes the nanoseconds of a duration for revisions.
        time if by_revision => {
            let revisions = time.as_nanos().try_into().unwrap_or(u64::MAX);
            Some(Retention::Revisions(revisions))
        }
        time => Some(Retention::Time(time)),
    })
}

/// Refuses what is off its default and not there yet.
fn check_supported(config: &Config) -> Result<(), Invalid> {
    let mut config = config.clone();
    let mut defaults = Config::defaults();
    for flag in flags::all() {
        if let Class::Refused(reason) = flag.class
            && !flag.kind.is_same(&mut config, &mut defaults)
        {
            return invalid(format!(
                "--{} is not supported by this release: {reason}",
                flag.name
            ));
        }
    }
    Ok(())
}

fn warn_of_sizes(config: &Config, lines: &mut Vec<Line>) {
    if config.max_request_bytes > REQUEST_BYTES_RECOMMENDED_MAX {
        lines.push(
            Line::warn("exceeded recommended request limit")
                .field("max-request-bytes", config.max_request_bytes)
                .field("recommended-request-bytes", REQUEST_BYTES_RECOMMENDED_MAX),
        );
    }
    if config.quota_backend_bytes > QUOTA_BYTES_SUGGESTED_MAX {
        lines.push(
            Line::warn("quota exceeds the maximum value")
                .field("quota-size-bytes", config.quota_backend_bytes)
                .field("quota-maximum-size-bytes", QUOTA_BYTES_SUGGESTED_MAX),
        );
    }
}
