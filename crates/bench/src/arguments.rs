//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kvorum_client::{Tls, TlsOptions};

use crate::api;
use crate::compare::Plan;
use crate::endpoint::Endpoint;
use crate::keys::{KEY_BYTES_MIN, KeySpace};
use crate::load::{Kind, Load, Target};
use crate::measure::Times;
use crate::servers;
use crate::suite::{Size, Suite};

/// Puts load on etcd endpoints and tells how they took it.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Puts under random keys
    Put(LoadArguments),
    /// Puts of which nine of ten overwrite a key and the others make a new one
    Churn(LoadArguments),
    /// Reads of single random keys
    Range(LoadArguments),
    /// Transactions: if the key exists, put it
    Txn(LoadArguments),
    /// Puts and reads of single random keys on the same connections
    Mixed(LoadArguments),
    /// Reads of the first keys, many at once
    List(LoadArguments),
    /// Reads of all keys, page after page, each with the count of what is left
    Page(LoadArguments),
    /// One put at a time, seen by many watchers; --connections are the watch streams
    Watch(LoadArguments),
    /// Puts while watchers get each of them
    PutWatched(LoadArguments),
    /// Grants of leases
    LeaseGrant(LoadArguments),
    /// Renewals of leases; each connection is one stream
    KeepAlive(LoadArguments),
    /// Read a key, and write it unless somebody else did in between; again if so
    Stm(LoadArguments),
    /// Many leases, each with a key, that all end together, and puts at a steady rate before and meanwhile
    Expire(ExpireArguments),
    /// Plays named sets of scenarios on two servers and writes raw results, page and charts of each
    Suite(SuiteArguments),
    /// Plays some scenarios on two servers in turn (A B A B)
    Compare(CompareArguments),
    /// Tells all scenarios
    Scenarios,
    /// Joins raw results of the same two servers into one page: a long suite played in pieces
    Join(JoinArguments),
    /// Makes page and charts of raw results again, beside them
    Table {
        /// What a suite or a comparison wrote
        results: PathBuf,
    },
}

impl Command {
    /// The load, if it is one.
    pub(crate) fn load(&self) -> Option<(Kind, &LoadArguments)> {
        Some(match self {
            Self::Put(load) => (Kind::Put, load),
            Self::Churn(load) => (Kind::Churn, load),
            Self::Range(load) => (Kind::Range, load),
            Self::Txn(load) => (Kind::Txn, load),
            Self::Mixed(load) => (Kind::Mixed, load),
            Self::List(load) => (Kind::List, load),
            Self::Page(load) => (Kind::Page, load),
            Self::Watch(load) => (Kind::Watch, load),
            Self::PutWatched(load) => (Kind::PutWatched, load),
            Self::LeaseGrant(load) => (Kind::LeaseGrant, load),
            Self::KeepAlive(load) => (Kind::KeepAlive, load),
            Self::Stm(load) => (Kind::Stm, load),
            Self::Expire(_)
            | Self::Suite(_)
            | Self::Compare(_)
            | Self::Join(_)
            | Self::Scenarios
            | Self::Table { .. } => return None,
        })
    }
}

/// Servers that are there.
#[derive(Args)]
struct TargetArguments {
    /// host:port, http://host:port or https://host:port, with commas between; connections take turns, and the first one grants leases that end together
    #[arg(
        long,
        alias = "endpoint",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    endpoints: Vec<String>,
    /// Process ids of the servers, with commas between, to tell their CPU and memory
    #[arg(long, alias = "server-pid", value_delimiter = ',')]
    server_pids: Vec<u32>,
    /// Certificates to trust, a file in PEM [default: what the system trusts]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Our own certificate, a file in PEM; needs --key
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of our own certificate, a file in PEM; needs --cert
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Take any certificate of a server
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// Log in
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<String>,
}

impl TargetArguments {
    fn target(&self) -> Result<Target> {
        let tls = self.tls()?;
        let endpoints = self.endpoints.iter();
        let endpoints = endpoints.map(|endpoint| Endpoint::parse(endpoint, tls.as_ref()));
        let mut target = Target {
            endpoints: endpoints.collect::<Result<_>>()?,
            pids: self.server_pids.clone(),
        };
        if let Some(user) = &self.user {
            let (name, password) = user.split_once(':').context("--user is name:password")?;
            // Every member knows the token.
            let token = api::log_in(target.first()?, name, password)?;
            for endpoint in &mut target.endpoints {
                endpoint.token = Some(token.clone());
            }
        }
        Ok(target)
    }

    /// None: no flag of TLS was given.
    fn tls(&self) -> Result<Option<Tls>> {
        let options = TlsOptions {
            ca_file: self.cacert.clone(),
            cert_file: self.cert.clone(),
            key_file: self.key.clone(),
            skip_verify: self.insecure_skip_tls_verify,
            ..TlsOptions::default()
        };
        let files = [&options.ca_file, &options.cert_file, &options.key_file];
        let given = options.skip_verify || files.iter().any(|file| file.is_some());
        Ok(given.then(|| Tls::new(&options)).transpose()?)
    }
}

#[derive(Args)]
pub(crate) struct LoadArguments {
    #[command(flatten)]
    servers: TargetArguments,
    /// Connections [default: 100; list, page and watch: 1]
    #[arg(long)]
    connections: Option<usize>,
    /// Requests in flight per connection [default: 10; list and page: 1]
    #[arg(long)]
    in_flight: Option<usize>,
    /// Requests per second at fixed times, whatever the server does (open loop)
    #[arg(long)]
    rate: Option<f64>,
    /// Threads of this tool; 0: one per core
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Keys that puts choose from, or that are filled in before reads
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Bytes per key
    #[arg(long, default_value_t = KEY_BYTES_MIN)]
    key_bytes: usize,
    /// Bytes per value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Keys per list or page [default: page: 500; list: all]
    #[arg(long)]
    limit: Option<u64>,
    /// Reads of a hundred operations of a mixed load
    #[arg(long, default_value_t = 50)]
    read_percent: u64,
    /// Read without asking the leader
    #[arg(long)]
    serializable: bool,
    /// Watchers over all streams
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Streams of the watchers of put-watched
    #[arg(long, default_value_t = 10)]
    watch_streams: usize,
    /// Leases per connection
    #[arg(long, default_value_t = 10)]
    leases: u64,
    /// The keys are there already: fill in nothing
    #[arg(long)]
    pub(crate) no_fill: bool,
    /// Seconds before counting begins
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that count
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// With --json: also count by slices of so many seconds
    #[arg(long)]
    slice_seconds: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl LoadArguments {
    /// The load of a kind.
    pub(crate) fn load(&self, kind: Kind) -> Result<Load> {
        ensure!(
            self.key_bytes >= KEY_BYTES_MIN,
            "keys have at least {KEY_BYTES_MIN} bytes"
        );
        ensure!(
            self.read_percent <= 100,
            "{} reads of a hundred",
            self.read_percent
        );
        let usual = Load::new(kind);
        let cores = || std::thread::available_parallelism().map_or(1, Into::into);
        Ok(Load {
            kind,
            connections: self.connections.unwrap_or(usual.connections),
            in_flight: self.in_flight.unwrap_or(usual.in_flight),
            threads: if self.threads == 0 {
                cores()
            } else {
                self.threads
            },
            keys: KeySpace {
                count: self.keys,
                key_bytes: self.key_bytes,
                value_bytes: self.value_bytes,
            },
            limit: self.limit.unwrap_or(usual.limit),
            read_percent: self.read_percent,
            serializable: self.serializable,
            watchers: self.watchers,
            watch_streams: self.watch_streams,
            leases: self.leases,
            rate: self.rate,
            slice_seconds: self.slice_seconds,
        })
    }

    /// Who is asked.
    pub(crate) fn target(&self) -> Result<Target> {
        self.servers.target()
    }

    /// How long it runs.
    pub(crate) fn times(&self) -> Result<Times> {
        Ok(Times {
            warm_up: Duration::try_from_secs_f64(self.warm_up)?,
            window: Duration::try_from_secs_f64(self.seconds)?,
        })
    }
}

#[derive(Args)]
pub(crate) struct ExpireArguments {
    #[command(flatten)]
    servers: TargetArguments,
    /// Leases that end together
    #[arg(long, default_value_t = 100_000)]
    pub(crate) leases: u64,
    /// Seconds from the first grant until they end: granting must not take longer
    #[arg(long, default_value_t = 45.0)]
    lead: f64,
    /// Puts per second beside them
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// Seconds that count, before and from the moment when the leases end
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl ExpireArguments {
    /// Who is asked.
    pub(crate) fn target(&self) -> Result<Target> {
        self.servers.target()
    }

    /// How long before their end leases begin to be granted.
    pub(crate) fn lead(&self) -> Result<Duration> {
        Ok(Duration::try_from_secs_f64(self.lead)?)
    }

    /// How long either part runs.
    pub(crate) fn times(&self) -> Result<Times> {
        Ok(Times {
            warm_up: Duration::from_secs(1),
            window: Duration::try_from_secs_f64(self.seconds)?,
        })
    }
}

#[derive(Args)]
pub(crate) struct JoinArguments {
    /// What suites or comparisons wrote, in the order of the page; scenarios that come again add turns
    #[arg(required = true)]
    pub(crate) results: Vec<PathBuf>,
    /// What the files of the page are called
    #[arg(long)]
    pub(crate) name: String,
    /// Headline of the page [default: that of the first]
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// The folder of the page
    #[arg(long, default_value = ".")]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct SuiteArguments {
    /// Which, one after the other
    #[arg(value_enum, required = true)]
    pub(crate) suites: Vec<Suite>,
    #[command(flatten)]
    pub(crate) sides: SideArguments,
}

#[derive(Args)]
pub(crate) struct CompareArguments {
    /// Which scenarios, by name, with commas between; `name*` is all that begin so
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) scenarios: Vec<String>,
    /// What the files of the results are called [default: the date and `compare`]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) sides: SideArguments,
}

#[derive(Args)]
pub(crate) struct SideArguments {
    /// The one server's binary
    #[arg(long, default_value = "target/release/etcd")]
    a: PathBuf,
    /// The other server's binary; `none`: A alone
    #[arg(long, default_value = "target/peers/etcd-3.5.1/etcd")]
    b: PathBuf,
    /// What tables call A [default: what it calls itself]
    #[arg(long)]
    a_name: Option<String>,
    /// What tables call B [default: what it calls itself]
    #[arg(long)]
    b_name: Option<String>,
    /// Minutes per suite: shorter runs, less data, the largest scenarios left out
    #[arg(long)]
    quick: bool,
    /// Seconds per suite, to try this tool; the numbers mean nothing
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Turns of each server per scenario [default: 5; quick: 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds before counting begins [default: 2; quick: 0.5]
    #[arg(long)]
    warm_up: Option<f64>,
    /// Seconds that count [default: 10; quick: 2]
    #[arg(long)]
    seconds: Option<f64>,
    /// A flag for all servers; may be given several times
    #[arg(long = "server-flag", allow_hyphen_values = true)]
    flags: Vec<String>,
    /// Where data directories are made [default: the system's temporary folder]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Headline of the page
    #[arg(long)]
    title: Option<String>,
    /// A remark on the page; may be given several times
    #[arg(long = "note")]
    notes: Vec<String>,
    /// Write raw results, page and charts into this folder, such as docs/benchmarks
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

impl SideArguments {
    /// How much work scenarios are.
    pub(crate) fn size(&self) -> Size {
        match (self.smoke, self.quick) {
            (true, _) => Size::Smoke,
            (_, true) => Size::Quick,
            _ => Size::Full,
        }
    }

    /// What to play, under a name.
    pub(crate) fn plan(&self, name: &str) -> Result<Plan> {
        let size = self.size();
        let mut times = size.times();
        if let Some(seconds) = self.warm_up {
            times.warm_up = Duration::try_from_secs_f64(seconds)?;
        }
        if let Some(seconds) = self.seconds {
            times.window = Duration::try_from_secs_f64(seconds)?;
        }
        let mut sides = Vec::new();
        for (binary, called) in [(&self.a, &self.a_name), (&self.b, &self.b_name)] {
            if binary.as_os_str() == "none" {
                continue;
            }
            let called = match called {
                Some(called) => called.clone(),
                None => own_name(&servers::version(binary)?),
            };
            sides.push((binary.clone(), called));
        }
        let names: Vec<_> = sides.iter().map(|(_, called)| called.as_str()).collect();
        let title = format!("{}: {}", names.join(" and "), name);
        Ok(Plan {
            size,
            rounds: self.rounds.unwrap_or(size.rounds()),
            times,
            flags: self.flags.clone(),
            directory: self.directory.clone().unwrap_or_else(std::env::temp_dir),
            name: name.to_owned(),
            title: self.title.clone().unwrap_or(title),
            notes: self.notes.clone(),
            sides,
        })
    }
}

impl Suite {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        value_name(self)
    }
}

impl Size {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        value_name(self)
    }
}

fn value_name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What a server calls itself by its version lines.
fn own_name(version: &[String]) -> String {
    let of = |start: &str| version.iter().find_map(|line| line.strip_prefix(start));
    match (of("Kvorum Version: "), of("etcd Version: ")) {
        (Some(kvorum), _) => format!("Kvorum {kvorum}"),
        (None, Some(etcd)) => format!("etcd {etcd}"),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, own_name};

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn servers_are_called_what_they_call_themselves() {
        let lines = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        let ours = lines(&["etcd Version: 3.7.1", "Kvorum Version: 0.1.0"]);
        assert_eq!(own_name(&ours), "Kvorum 0.1.0");
        assert_eq!(own_name(&lines(&["etcd Version: 3.5.1"])), "etcd 3.5.1");
    }
}
