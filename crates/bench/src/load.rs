//! A load as it is asked for on the command line, and its connections.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::drive::{Driver, Extent, Pace};
use crate::fan_out::FanOut;
use crate::tally::{Tally, Window};
use crate::workload::{CompareAndPut, KeepAlive, List, Put, Range, Workload};

/// Requests in flight while keys are filled in, on one connection: it keeps the order.
const FILL_IN_FLIGHT: usize = 200;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Puts.
    Put,
    /// Reads of one key.
    Range,
    /// Transactions that compare and put.
    Txn,
    /// Reads of many keys.
    List,
    /// One event to many watchers.
    Watch,
    /// Renewals of leases.
    KeepAlive,
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
    pub(crate) keys: u64,
    /// Bytes of every value.
    pub(crate) value_bytes: usize,
    /// Keys per list; 0: all.
    pub(crate) limit: u64,
    /// Whether reads are served without asking the leader.
    pub(crate) serializable: bool,
    /// Watchers over all streams.
    pub(crate) watchers: usize,
    /// Leases per connection.
    pub(crate) leases: u64,
    /// Requests per second of an open loop; none: closed loop.
    pub(crate) rate: Option<f64>,
}

/// A thread's part: runs when it is given the window.
pub(crate) type Job = Box<dyn FnOnce(Window, &AtomicU64) -> Result<Tally> + Send>;

impl Load {
    /// The usual numbers of a kind.
    pub(crate) fn new(kind: Kind) -> Self {
        let (connections, in_flight) = match kind {
            Kind::Put | Kind::Range | Kind::Txn | Kind::KeepAlive => (100, 10),
            Kind::List | Kind::Watch => (1, 1),
        };
        Self {
            kind,
            connections,
            in_flight,
            threads: 1,
            keys: 10_000,
            value_bytes: 256,
            limit: 0,
            serializable: false,
            watchers: 1000,
            leases: 10,
            rate: None,
        }
    }

    /// Whether it needs keys to be there before.
    pub(crate) fn needs_keys(&self) -> bool {
        matches!(self.kind, Kind::Range | Kind::Txn | Kind::List)
    }

    /// What is written before the run, in words.
    pub(crate) fn written_before(&self) -> String {
        match self.kind {
            Kind::Range | Kind::Txn | Kind::List => {
                format!("{} keys of {} B, once each", self.keys, self.value_bytes)
            }
            Kind::KeepAlive => format!("{} leases", self.leases * self.connections as u64),
            Kind::Put | Kind::Watch => "nothing".to_owned(),
        }
    }

    /// Puts every key once, in order.
    pub(crate) fn fill(&self, address: SocketAddr) -> Result<()> {
        let put: Box<dyn Workload> = Box::new(Put::ascending(self.value_bytes));
        let driver = Driver::open(address, vec![put], FILL_IN_FLIGHT, Pace::Closed)?;
        driver.run(Extent::Count(self.keys), &AtomicU64::new(0))?;
        Ok(())
    }

    /// Connects; one job per thread.
    pub(crate) fn open(&self, address: SocketAddr) -> Result<Vec<Job>> {
        ensure!(
            self.keys > 0 && self.in_flight > 0,
            "keys and requests in flight: at least one"
        );
        if self.kind == Kind::Watch {
            let put = Put::random(self.keys, self.value_bytes, 1);
            let fan_out = FanOut::open(address, self.connections, self.watchers, put)?;
            return Ok(vec![Box::new(move |window, progress| {
                fan_out.run(window, progress)
            })]);
        }
        let threads = self.threads.clamp(1, self.connections.max(1));
        let mut jobs: Vec<Job> = Vec::new();
        for thread in 0..threads {
            let workloads: Result<Vec<_>> = (thread..self.connections)
                .step_by(threads)
                .map(|connection| self.workload(address, connection as u64))
                .collect();
            let driver = Driver::open(address, workloads?, self.in_flight, self.pace(threads)?)?;
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

    fn workload(&self, address: SocketAddr, connection: u64) -> Result<Box<dyn Workload>> {
        let seed = connection + 1;
        let Self {
            keys,
            value_bytes,
            serializable,
            ..
        } = *self;
        Ok(match self.kind {
            Kind::Put | Kind::Watch => Box::new(Put::random(keys, value_bytes, seed)),
            Kind::Range => Box::new(Range::new(keys, serializable, seed)),
            Kind::Txn => Box::new(CompareAndPut::new(keys, value_bytes, seed)),
            Kind::List => Box::new(List::new(keys, self.limit, serializable)),
            Kind::KeepAlive => Box::new(KeepAlive::grant(address, self.leases)?),
        })
    }
}
