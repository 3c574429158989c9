//! Load on any etcd endpoint, and two servers side by side.
//!
//! ```text
//! bench put --endpoint 127.0.0.1:2379 --connections 100 --in-flight 10
//! bench put --rate 2000                      # open loop: fixed times, honest latency
//! bench compare --a ./etcd --b /usr/bin/etcd --scenarios put,range --json results.json
//! bench table results.json > results.md
//! ```
//!
//! The generator must stay cheaper than what it measures, and says what it costs: one thread drives many connections
//! over an HTTP/2 of its own ([`h2c`]), requests are encoded before the run, and of answers only what a check needs is
//! read. Every answer is checked ([`workload`]).
//!
//! - [`load`] is what was asked for, [`measure`] one run of it, [`compare`] many runs of two servers.
//! - [`drive`] sends requests in a closed or open loop; [`fan_out`] does it for watchers.
//! - [`latency`] and [`tally`] count, [`usage`] asks the kernel, [`table`] tells people.

mod compare;
mod drive;
mod fan_out;
mod fields;
mod h2c;
mod keys;
mod latency;
mod launch;
mod load;
mod measure;
mod poller;
mod table;
mod tally;
mod usage;
mod workload;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::load::{Kind, Load};
use crate::measure::Times;

/// Puts load on an etcd endpoint and tells how it took it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Puts under random keys
    Put(LoadArgs),
    /// Reads of single random keys
    Range(LoadArgs),
    /// Transactions: if the key exists, put it
    Txn(LoadArgs),
    /// Reads of many keys at once
    List(LoadArgs),
    /// One put at a time, seen by many watchers; --connections are the watch streams
    Watch(LoadArgs),
    /// Renewals of leases; each connection is one stream
    KeepAlive(LoadArgs),
    /// Runs two servers in turn (A B A B) under the same loads
    Compare(CompareArgs),
    /// Prints the page of a comparison's raw results
    Table {
        /// What `compare --json` wrote
        results: PathBuf,
    },
}

#[derive(Args)]
struct TimeArgs {
    /// Seconds before counting begins
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that count
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Args)]
struct LoadArgs {
    /// host:port, or http://host:port
    #[arg(long, default_value = "127.0.0.1:2379")]
    endpoint: String,
    /// Connections [default: 100; list and watch: 1]
    #[arg(long)]
    connections: Option<usize>,
    /// Requests in flight per connection [default: 10; list: 1]
    #[arg(long)]
    in_flight: Option<usize>,
    /// Requests per second at fixed times, whatever the server does (open loop)
    #[arg(long)]
    rate: Option<f64>,
    /// Threads of this tool
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Keys that puts choose from, or that are filled in before reads
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Bytes per value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Keys per list; 0: all
    #[arg(long, default_value_t = 0)]
    limit: u64,
    /// Read without asking the leader
    #[arg(long)]
    serializable: bool,
    /// Watchers over all streams
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Leases per connection
    #[arg(long, default_value_t = 10)]
    leases: u64,
    /// The keys are there already: fill in nothing
    #[arg(long)]
    no_fill: bool,
    /// Process id of the server, to tell its CPU and memory
    #[arg(long)]
    server_pid: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    times: TimeArgs,
}

#[derive(Args)]
struct CompareArgs {
    /// The one server's binary
    #[arg(long)]
    a: PathBuf,
    /// The other server's binary
    #[arg(long)]
    b: PathBuf,
    /// What tables call A
    #[arg(long, default_value = "A")]
    a_name: String,
    /// What tables call B
    #[arg(long, default_value = "B")]
    b_name: String,
    /// Which loads, by name, with commas between [default: all]
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// A flag for both servers; may be given several times
    #[arg(long = "server-flag", allow_hyphen_values = true)]
    flags: Vec<String>,
    /// Turns of each server per load
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where data directories are made [default: the system's temporary folder]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Headline of the page
    #[arg(long, default_value = "Two servers side by side")]
    title: String,
    /// A remark on the page; may be given several times
    #[arg(long = "note")]
    notes: Vec<String>,
    /// Write the raw results to this file
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    times: TimeArgs,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Put(args) => one(Kind::Put, &args),
        Command::Range(args) => one(Kind::Range, &args),
        Command::Txn(args) => one(Kind::Txn, &args),
        Command::List(args) => one(Kind::List, &args),
        Command::Watch(args) => one(Kind::Watch, &args),
        Command::KeepAlive(args) => one(Kind::KeepAlive, &args),
        Command::Compare(args) => two(args),
        Command::Table { results } => {
            let raw = fs::read(&results).with_context(|| results.display().to_string())?;
            print(&table::page(&serde_json::from_slice(&raw)?))
        }
    }
}

fn one(kind: Kind, args: &LoadArgs) -> Result<()> {
    let usual = Load::new(kind);
    let load = Load {
        kind,
        connections: args.connections.unwrap_or(usual.connections),
        in_flight: args.in_flight.unwrap_or(usual.in_flight),
        threads: args.threads,
        keys: args.keys,
        value_bytes: args.value_bytes,
        limit: args.limit,
        serializable: args.serializable,
        watchers: args.watchers,
        leases: args.leases,
        rate: args.rate,
    };
    let address = address(&args.endpoint)?;
    if load.needs_keys() && !args.no_fill {
        load.fill(address).context("fill in keys")?;
    }
    let run = measure::run(&load, address, args.times.times()?, args.server_pid)?;
    if args.json {
        let both = serde_json::json!({ "load": load, "run": run });
        return print(&format!("{both:#}\n"));
    }
    print(&table::run(&run))
}

fn two(args: CompareArgs) -> Result<()> {
    let plan = compare::Plan {
        times: args.times.times()?,
        a: args.a,
        b: args.b,
        a_name: args.a_name,
        b_name: args.b_name,
        scenarios: args.scenarios,
        flags: args.flags,
        rounds: args.rounds,
        directory: args.directory.unwrap_or_else(std::env::temp_dir),
        title: args.title,
        notes: args.notes,
    };
    let comparison = compare::run(&plan)?;
    if let Some(path) = args.json {
        let text = serde_json::to_string_pretty(&comparison)? + "\n";
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    print(&table::page(&comparison))
}

impl TimeArgs {
    fn times(&self) -> Result<Times> {
        Ok(Times {
            warm_up: Duration::try_from_secs_f64(self.warm_up)?,
            window: Duration::try_from_secs_f64(self.seconds)?,
        })
    }
}

fn address(endpoint: &str) -> Result<SocketAddr> {
    let plain = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let mut addresses = plain
        .to_socket_addrs()
        .with_context(|| format!("endpoint {endpoint}"))?;
    addresses
        .next()
        .with_context(|| format!("{endpoint} has no address"))
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
