//! The configuration of a member: flags, environment, configuration file.
//!
//! ```text
//!  arguments ──► command line ──┬── no file ──► environment ──► derived values ─┐
//!                               └── a file  ──► the file alone ─────────────────┴─► checks ──► Config
//! ```
//!
//! Everything that can be said about a flag stands in one row of the [flag table](flags). The
//! command line wins over the environment, the environment over the default; a configuration
//! file wins over all of them, and replaces them.
//!
//! [`parse`] reads no clock and writes nothing: what it has to say is in its result, as lines for
//! the log. Invariants of a [`Config`] that it returns:
//!
//! - every flag of the class "refused" has its default;
//! - the data directory has a name; the advertised client URLs are not empty while there are
//!   client listeners;
//! - heartbeat and election time-out are not zero and in etcd's proportion.
//!
//! Source: v3.7.1 `server/etcdmain/config.go` (`config.parse`), `server/etcdmain/etcd.go`
//! (`startEtcdOrProxyV2`).

mod arguments;
mod cluster;
mod duration;
mod environment;
mod exit;
mod file;
pub mod flags;
mod gates;
mod help;
mod settings;
mod startup;
mod suites;
mod url;
mod validate;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub(crate) use cluster::resolve;
pub use cluster::{BootstrapError, InitialCluster, parse_initial_cluster, print_initial_cluster};
pub use duration::Span;
pub use exit::{Exit, STATUS_FAILED, STATUS_OK, STATUS_USAGE};
pub use gates::{FeatureGates, Gate, GateError, Stage};
pub use help::text as help_text;
pub use settings::{Config, Discovery, LogSettings, QUOTA_BYTES_DEFAULT, Tls, Tracing};
pub(crate) use suites::cipher_suites;
pub use url::{Scheme, Url, UrlError};
pub use validate::{Invalid, auto_compaction_retention};

use crate::log::Line;
use crate::process::version;

/// Subcommands of etcd that run another program than the server.
const SUBCOMMANDS: [&str; 2] = ["gateway", "grpc-proxy"];

/// A configuration that can be used, with what the log should show about it.
#[derive(Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// Lines about the environment: to be written before the log is set up, as etcd does, so that
    /// they are on standard error whatever the log's outputs are.
    pub early: Vec<Line>,
    /// Lines about the configuration: to be written when the log is set up.
    pub notices: Vec<Line>,
}

/// Reads the configuration from the arguments behind the program's name and the environment.
///
/// # Errors
/// The process is to end: help or version was asked for, or the configuration cannot be used.
pub fn parse(arguments: &[String], variables: &[(String, String)]) -> Result<Parsed, Exit> {
    parse_on(arguments, variables, startup::default_host())
}

/// Like [`parse`], on a machine with the given address.
fn parse_on(
    arguments: &[String],
    variables: &[(String, String)],
    host: Option<IpAddr>,
) -> Result<Parsed, Exit> {
    check_architecture(variables)?;
    if let Some(command) = arguments
        .first()
        .filter(|word| SUBCOMMANDS.contains(&word.as_str()))
    {
        return Err(Exit::fail(format!(
            "etcd {command} is not supported by this release: only the server is there yet\n"
        )));
    }
    let mut config = Config::defaults();
    let set = read_arguments(arguments, &mut config)?;
    if config.config_file.is_empty()
        && let Some(path) = environment::lookup(variables, "ETCD_CONFIG_FILE")
    {
        path.clone_into(&mut config.config_file);
    }
    let sources = if config.config_file.is_empty() {
        read_environment(variables, set, &mut config)
    } else {
        read_file(&mut config)
    }?;
    finish(config, sources, arguments, host)
}

/// What the chosen sources said beside the values.
#[derive(Default)]
struct Sources {
    /// Names of the flags that were set.
    set: BTreeSet<&'static str>,
    early: Vec<Line>,
    notices: Vec<Line>,
    /// Why the values cannot be used; the checks are then left out.
    fault: Option<String>,
}

fn read_arguments(
    arguments: &[String],
    config: &mut Config,
) -> Result<BTreeSet<&'static str>, Exit> {
    let read = arguments::read(arguments, config).map_err(|fault| match fault {
        // Go prints the usage on standard error before the help on standard output.
        arguments::Fault::Help => Exit {
            stderr: format!("{}\n", help::USAGE),
            ..Exit::print(format!("{}\n", help::text()))
        },
        arguments::Fault::Usage(text) => Exit::usage(&text, help::USAGE),
    })?;
    if let Some(word) = read.positional {
        return Err(Exit::logged(failed_lines(
            Vec::new(),
            arguments,
            &format!("{word:?} is not a valid flag"),
        )));
    }
    if config.version {
        return Err(Exit::print(version::text()));
    }
    Ok(read.set)
}

fn read_environment(
    variables: &[(String, String)],
    mut set: BTreeSet<&'static str>,
    config: &mut Config,
) -> Result<Sources, Exit> {
    let mut read = environment::read(variables, &set, config);
    if read.conflict {
        return Err(Exit::logged(read.lines));
    }
    set.append(&mut read.set);
    let mut sources = Sources {
        set,
        early: read.lines,
        notices: Vec::new(),
        fault: read.bad_value,
    };
    if sources.fault.is_none() {
        startup::raise_raft_timeouts(config, &mut sources.early);
        let is_set = |name| sources.set.contains(name);
        if is_set("listen-client-urls") && !is_set("advertise-client-urls") {
            config.advertise_client_urls.clear();
        }
        let discovery = &config.discovery;
        let discovers = !discovery.srv.is_empty()
            || !discovery.srv_name.is_empty()
            || !discovery.endpoints.is_empty();
        if discovers && !is_set("initial-cluster") {
            config.initial_cluster.clear();
        }
    }
    Ok(sources)
}

fn read_file(config: &mut Config) -> Result<Sources, Exit> {
    let path = std::mem::take(&mut config.config_file);
    // Nothing of the command line stays.
    *config = Config::defaults();
    config.config_file.clone_from(&path);
    let mut sources = Sources::default();
    match file::read(&path, config) {
        Ok(set) => sources.set = set,
        Err(error @ file::FileError::Url { .. }) => return Err(Exit::fail(format!("{error}\n"))),
        Err(error) => {
            sources.fault = Some(error.to_string());
            return Ok(sources);
        }
    }
    let line = Line::info(
        "loaded server configuration, other configuration command line flags and environment \
         variables will be ignored if provided",
    );
    sources.notices.push(line.field("path", path));
    let defaults = Config::defaults();
    let discovers = !config.discovery.srv.is_empty() || !config.discovery.endpoints.is_empty();
    if discovers && config.initial_cluster == defaults.initial_cluster {
        config.initial_cluster.clear();
    }
    if config.initial_cluster_state.is_empty() {
        config.initial_cluster_state = defaults.initial_cluster_state;
    }
    Ok(sources)
}

/// Checks the configuration and derives what is missing.
fn finish(
    mut config: Config,
    sources: Sources,
    arguments: &[String],
    host: Option<IpAddr>,
) -> Result<Parsed, Exit> {
    let Sources {
        set,
        early,
        mut notices,
        fault,
    } = sources;
    let checked = match fault {
        Some(text) => Err(Invalid(text)),
        None => {
            startup::fill_zeros(&mut config);
            validate::check(&config, &mut notices)
        }
    };
    notices.extend(startup::notices(&config, &set));
    if let Err(Invalid(text)) = checked {
        let lines = early.into_iter().chain(notices).collect();
        return Err(Exit::logged(failed_lines(lines, arguments, &text)));
    }
    notices.push(running_line(arguments));
    startup::derive(&mut config, &mut notices, host);
    Ok(Parsed {
        config,
        early,
        notices,
    })
}

fn running_line(arguments: &[String]) -> Line {
    Line::info("Running: ").texts(
        "args",
        std::iter::once("etcd").chain(arguments.iter().map(String::as_str)),
    )
}

/// The lines of a start that ends because of its configuration.
fn failed_lines(mut lines: Vec<Line>, arguments: &[String], text: &str) -> Vec<Line> {
    lines.push(running_line(arguments));
    lines.push(Line::warn("failed to verify flags").field("error", text));
    if text == Invalid::ADVERTISE_MISSING {
        lines.push(Line::warn("advertise client URLs are not set").field("error", text));
    }
    lines
}

/// etcd runs on four architectures, and on others only when the operator says so.
///
/// Source: v3.7.1 `server/etcdmain/etcd.go` (`checkSupportArch`).
fn check_architecture(variables: &[(String, String)]) -> Result<(), Exit> {
    let here = version::go_arch();
    let supported = ["amd64", "arm64", "ppc64le", "s390x"].contains(&here);
    if supported || environment::lookup(variables, "ETCD_UNSUPPORTED_ARCH") == Some(here) {
        return Ok(());
    }
    let line = Line::new(
        crate::log::Level::Error,
        "Refusing to run etcd on unsupported architecture since ETCD_UNSUPPORTED_ARCH is not set",
    );
    Err(Exit::logged(vec![line.field("arch", here)]))
}
