//! A load as it is asked for on the command line, and its connections.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::drive::{Driver, Extent, Pace};
use crate::endpoint::Endpoint;
use crate::fan_out::{Audience, FanOut};
use crate::keys::KeySpace;
use crate::tally::{Tally, Window};
use crate::workload::{
    CompareAndPut, Grant, KeepAlive, List, Mixed, Page, Put, Range, Stm, Workload,
};

/// Connections over which keys are filled in.
const FILL_CONNECTIONS: u64 = 4;
/// Requests in flight on each of them, and the bytes that these may have together.
const FILL_IN_FLIGHT_MAX: usize = 100;
const FILL_BYTES_MAX: usize = 8 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Puts under random keys
    Put,
    /// Puts of which nine of ten overwrite a key and the others make a new one
    Churn,
    /// Reads of single random keys
    Range,
    /// Transactions: if the key exists, put it
    Txn,
    /// Puts and reads of single random keys on the same connections
    Mixed,
    /// Reads of the first keys, many at once
    List,
    /// Reads of all keys, page after page, each with the count of what is left
    Page,
    /// One put at a time, seen by many watchers; the connections are the watch streams
    Watch,
    /// Puts while watchers get each of them
    PutWatched,
    /// Grants of leases
    LeaseGrant,
    /// Renewals of leases; each connection is one stream
    KeepAlive,
    /// Read a key, and write it unless somebody else did in between; again if so
    Stm,
}

/// A load with all its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    /// Connections; for watch: streams, each on its own connection.
    pub(crate) connections: usize,
    /// Requests in flight per connection.
    pub(crate) in_flight: usize,
    /// Threads of the generator, each with its share of the connections.
    pub(crate) threads: usize,
    /// Keys that there are, or that puts choose from.
    pub(crate) keys: KeySpace,
    /// Keys per list or page; 0: all.
    pub(crate) limit: u64,
    /// Reads of a hundred operations, where both are mixed.
    pub(crate) read_percent: u64,
    /// Whether reads are served without asking the leader.
    pub(crate) serializable: bool,
    /// Watchers over all streams.
    pub(crate) watchers: usize,
    /// Watch streams beside the connections that put.
    pub(crate) watch_streams: usize,
    /// Leases per connection.
    pub(crate) leases: u64,
    /// Requests per second of an open loop; none: closed loop.
    pub(crate) rate: Option<f64>,
    /// Also count by slices of so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slice_seconds: Option<f64>,
}

/// The servers that are asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    /// Connections take turns.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Processes whose CPU and memory are added up; none: not known.
    pub(crate) pids: Vec<u32>,
}

impl Target {
    /// The one that is asked when one is enough.
    pub(crate) fn first(&self) -> Result<&Endpoint> {
        self.of(0)
    }

    /// The one that a connection goes to.
    pub(crate) fn of(&self, connection: usize) -> Result<&Endpoint> {
        ensure!(!self.endpoints.is_empty(), "no endpoint");
        Ok(&self.endpoints[connection % self.endpoints.len()])
    }
}

/// A thread's part: runs when it is given the window.
pub(crate) type Job = Box<dyn FnOnce(Window, &AtomicU64) -> Result<Tally> + Send>;

impl Load {
    /// The usual numbers of a kind.
    pub(crate) fn new(kind: Kind) -> Self {
        let (connections, in_flight) = match kind {
            Kind::List | Kind::Page | Kind::Watch => (1, 1),
            Kind::PutWatched => (1, 10),
            _ => (100, 10),
        };
        Self {
            kind,
            connections,
            in_flight,
            threads: 1,
            keys: KeySpace::short(10_000, 256),
            limit: if kind == Kind::Page { 500 } else { 0 },
            read_percent: 50,
            serializable: false,
            watchers: 1000,
            watch_streams: 10,
            leases: 10,
            rate: None,
            slice_seconds: None,
        }
    }

    /// One request after the other.
    pub(crate) fn sequential(kind: Kind) -> Self {
        Self {
            connections: 1,
            in_flight: 1,
            ..Self::new(kind)
        }
    }

    /// Whether it needs keys to be there before.
    pub(crate) fn needs_keys(&self) -> bool {
        matches!(
            self.kind,
            Kind::Range | Kind::Txn | Kind::Mixed | Kind::List | Kind::Page | Kind::Stm
        )
    }

    /// What is written before the run, in words.
    pub(crate) fn written_before(&self) -> String {
        match self.kind {
            _ if self.needs_keys() => format!("{}, once", self.keys.in_words()),
            Kind::KeepAlive => format!("{} leases", self.leases * self.connections as u64),
            _ => "nothing".to_owned(),
        }
    }

    /// Connects; one job per thread.
    pub(crate) fn open(&self, target: &Target) -> Result<Vec<Job>> {
        ensure!(
            self.keys.count > 0 && self.in_flight > 0,
            "keys and requests in flight: at least one"
        );
        let put = |seed| Put::random(self.keys, seed);
        if self.kind == Kind::Watch {
            let fan_out = FanOut::open(target, self.connections, self.watchers, put(1))?;
            return Ok(vec![Box::new(move |window, progress| {
                fan_out.run(window, progress)
            })]);
        }
        let mut jobs: Vec<Job> = Vec::new();
        if self.kind == Kind::PutWatched {
            let audience = Audience::open(target, self.watch_streams, self.watchers)?;
            jobs.push(Box::new(move |window, _| audience.listen(window)));
        }
        let threads = self.threads.clamp(1, self.connections.max(1));
        for thread in 0..threads {
            let workloads: Result<Vec<_>> = (thread..self.connections)
                .step_by(threads)
                .map(|connection| {
                    let endpoint = target.of(connection)?;
                    Ok((endpoint, self.workload(endpoint, connection as u64)?))
                })
                .collect();
            let mut driver = Driver::open(workloads?, self.in_flight, self.pace(threads)?)?;
            if let Some(seconds) = self.slice_seconds {
                driver.slice(Duration::try_from_secs_f64(seconds)?)?;
            }
            jobs.push(Box::new(move |window, progress| {
                driver.run(Extent::Time(window), progress)
            }));
        }
        Ok(jobs)
    }

    fn pace(&self, threads: usize) -> Result<Pace> {
        let Some(rate) = self.rate else {
            return Ok(Pace::Closed);
        };
        ensure!(rate > 0.0, "a rate of {rate} requests per second");
        Ok(Pace::Open(Duration::try_from_secs_f64(
            threads as f64 / rate,
        )?))
    }

    fn workload(&self, endpoint: &Endpoint, connection: u64) -> Result<Box<dyn Workload>> {
        let seed = connection + 1;
        let Self {
            keys,
            limit,
            serializable,
            ..
        } = *self;
        Ok(match self.kind {
            Kind::Put | Kind::Watch | Kind::PutWatched => Box::new(Put::random(keys, seed)),
            Kind::Churn => {
                let connections = self.connections as u64;
                Box::new(Put::churn(keys, seed, keys.count + connection, connections))
            }
            Kind::Range => Box::new(Range::new(keys, serializable, seed)),
            Kind::Txn => Box::new(CompareAndPut::new(keys, seed)),
            Kind::Mixed => Box::new(Mixed::new(keys, self.read_percent, serializable, seed)),
            Kind::List => Box::new(List::new(keys, limit, serializable)),
            Kind::Page => Box::new(Page::new(keys, limit, serializable, connection)),
            Kind::LeaseGrant => Box::new(Grant::new()),
            Kind::KeepAlive => Box::new(KeepAlive::grant(endpoint, self.leases)?),
            Kind::Stm => Box::new(Stm::new(keys, seed)),
        })
    }
}

/// Puts every key once, or goes through all of them again until there were `puts` puts.
pub(crate) fn fill(keys: KeySpace, puts: u64, target: &Target) -> Result<()> {
    let connections = FILL_CONNECTIONS.min(puts);
    let request_bytes = keys.key_bytes + keys.value_bytes;
    let in_flight = (FILL_BYTES_MAX / request_bytes).clamp(1, FILL_IN_FLIGHT_MAX);
    let made = Arc::new(AtomicU64::new(0));
    let mut workloads: Vec<(&Endpoint, Box<dyn Workload>)> = Vec::new();
    for _ in 0..connections {
        // All to one member: the order of the keys stays nearly the same from run to run.
        let put = Put::in_order(keys, Arc::clone(&made));
        workloads.push((target.first()?, Box::new(put)));
    }
    let driver = Driver::open(workloads, in_flight, Pace::Closed)?;
    driver.run(Extent::Count(puts), &AtomicU64::new(0))?;
    Ok(())
}
