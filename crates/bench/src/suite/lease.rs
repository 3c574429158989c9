//! Many leases that end together.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kvorum_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use prost::Message;

use super::{Size, Spec, Stage, accept, steady_puts};
use crate::api;
use crate::drive::{Driver, Extent, Pace};
use crate::endpoint::Endpoint;
use crate::fan_out::Audience;
use crate::keys::{KEY_BYTES_MIN, KeySpace};
use crate::load::Target;
use crate::measure::{self, Times};
use crate::results::Outcome;
use crate::workload::{Request, Step, Workload};

/// Keys of leases are longer than those of other loads, so that a watcher sees only them.
const KEY_BYTES: usize = KEY_BYTES_MIN + 5;
const IN_FLIGHT: usize = 100;

/// How long all leases may take to go after they ended.
const GONE_TIMEOUT: Duration = Duration::from_secs(600);

pub(super) fn mass_expiry(size: Size) -> Spec {
    let leases = size.pick(50, 10_000, 100_000);
    let what =
        format!("{leases} leases that end within a second, each with a key; puts, 500 per second");
    let play = move |stage: &mut Stage<'_>| {
        let (target, lead) = (stage.servers.target(), lead(stage.size));
        expire(&target, leases, lead, 500.0, stage.times)
    };
    Spec::new("mass-expiry", &what, play)
        .figure("gone", "end of the last lease until all keys are gone", "s")
        .written(&format!("{leases} leases with a key each"))
        .long()
}

/// How long before their end leases begin to be granted.
fn lead(size: Size) -> Duration {
    size.pick(
        Duration::from_secs(10),
        Duration::from_secs(10),
        Duration::from_secs(45),
    )
}

/// Puts, so many per second, first alone and then while leases end that were granted within `lead`.
pub(crate) fn expire(
    target: &Target,
    leases: u64,
    lead: Duration,
    rate: f64,
    times: Times,
) -> Result<Outcome> {
    let puts = steady_puts(KeySpace::short(1000, 256), rate);
    let quiet = accept(measure::run(&puts, target, times)?)?;
    let due = Instant::now() + lead;
    grant(target.first()?, leases, due)?;
    let mut audience =
        Audience::of_range(target, 1, 1, (b"/bench/k".to_vec(), b"/bench/l".to_vec()))?;
    let left = due.checked_duration_since(Instant::now());
    let times = Times {
        warm_up: left.context("granting took longer than the leases last")?,
        window: times.window.max(Duration::from_secs(1)),
    };
    let (run, gone) = measure::run_during(&puts, target, times, move |_| {
        let mut events = 0;
        while events < leases {
            events += audience.take()?;
            ensure!(
                Instant::now() < due + GONE_TIMEOUT,
                "{events} of {leases} keys are gone"
            );
        }
        // Times to live are whole seconds: the first lease ends up to one before the last, which is due now.
        Ok(Instant::now().saturating_duration_since(due))
    })?;
    Ok(Outcome::default()
        .phase("quiet", quiet)
        .phase("leases end", accept(run)?)
        .figure("gone", gone.as_secs_f64()))
}

/// Grants leases with their keys.
fn grant(endpoint: &Endpoint, leases: u64, due: Instant) -> Result<()> {
    for what in [What::Grant, What::Attach] {
        let workload = Prepare {
            due,
            what,
            next: 0,
            message: Vec::new(),
        };
        let lane: (&Endpoint, Box<dyn Workload>) = (endpoint, Box::new(workload));
        let driver = Driver::open(vec![lane], IN_FLIGHT, Pace::Closed)?;
        driver.run(Extent::Count(leases), &AtomicU64::new(0))?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Grant,
    Attach,
}

/// Grants leases that all end at the same time, or puts their keys. Not measured, so requests are encoded as they go.
struct Prepare {
    due: Instant,
    what: What,
    next: u64,
    message: Vec<u8>,
}

impl Workload for Prepare {
    fn paths(&self) -> &'static [&'static str] {
        match self.what {
            What::Grant => &[api::LEASE_GRANT],
            What::Attach => &[api::PUT],
        }
    }

    fn request_bytes_max(&self) -> usize {
        2 * KEY_BYTES
    }

    fn next(&mut self) -> Request<'_> {
        self.next += 1;
        let id = self.next as i64;
        let left = self.due.saturating_duration_since(Instant::now());
        self.message = match self.what {
            What::Grant => LeaseGrantRequest {
                id,
                ttl: left.as_secs() as i64,
            }
            .encode_to_vec(),
            What::Attach => {
                let keys = KeySpace {
                    key_bytes: KEY_BYTES,
                    ..KeySpace::short(1, 1)
                };
                PutRequest {
                    key: keys.key(self.next).into(),
                    lease: id,
                    ..PutRequest::default()
                }
                .encode_to_vec()
            }
        };
        Request {
            path: 0,
            number: self.next,
            message: &self.message,
        }
    }

    fn check(&mut self, _number: u64, _answer: &[u8]) -> Result<Step> {
        Ok(Step::Done)
    }
}
