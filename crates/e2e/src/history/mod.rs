//! Random histories of requests, run on two servers that must answer alike.
//!
//! A history is a list of [`Step`]s made from a seed. Each step runs on both servers, one after
//! the other; what must be equal is every byte of every response but the ids of cluster and member
//! and the raft term in its header, every code and text of every error, the hash of the store, and
//! at the end every event from the compacted revision on. A difference is reported with the
//! shortest history that still shows it, cut down by leaving out ever smaller parts.

mod generate;
mod seen;

use std::fmt;

use anyhow::{Context as _, Result};
use kvorum_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest,
};
use prost::Message as _;

use crate::grpc::{Connection, block_on};
use crate::peers::Subject;
use crate::server::Server;

pub use generate::history;
use seen::events;

/// Runs of a history that shortening it may take.
const SHRINK_RUNS_MAX: usize = 60;

/// One request.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the variants are the requests that they carry")]
pub enum Step {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases(LeaseLeasesRequest),
    HashKv(HashKvRequest),
}

impl Step {
    fn method(&self) -> &'static str {
        match self {
            Step::Range(_) => "etcdserverpb.KV/Range",
            Step::RangeStream(_) => "etcdserverpb.KV/RangeStream",
            Step::Put(_) => "etcdserverpb.KV/Put",
            Step::Delete(_) => "etcdserverpb.KV/DeleteRange",
            Step::Txn(_) => "etcdserverpb.KV/Txn",
            Step::Compact(_) => "etcdserverpb.KV/Compact",
            Step::Grant(_) => "etcdserverpb.Lease/LeaseGrant",
            Step::Revoke(_) => "etcdserverpb.Lease/LeaseRevoke",
            Step::TimeToLive(_) => "etcdserverpb.Lease/LeaseTimeToLive",
            Step::Leases(_) => "etcdserverpb.Lease/LeaseLeases",
            Step::HashKv(_) => "etcdserverpb.Maintenance/HashKV",
        }
    }

    fn request(&self) -> Vec<u8> {
        match self {
            Step::Range(request) | Step::RangeStream(request) => request.encode_to_vec(),
            Step::Put(request) => request.encode_to_vec(),
            Step::Delete(request) => request.encode_to_vec(),
            Step::Txn(request) => request.encode_to_vec(),
            Step::Compact(request) => request.encode_to_vec(),
            Step::Grant(request) => request.encode_to_vec(),
            Step::Revoke(request) => request.encode_to_vec(),
            Step::TimeToLive(request) => request.encode_to_vec(),
            Step::Leases(request) => request.encode_to_vec(),
            Step::HashKv(request) => request.encode_to_vec(),
        }
    }
}

/// Two servers did not answer alike.
pub struct Difference {
    /// The history up to the step in question.
    pub steps: Vec<Step>,
    /// What the first server showed.
    pub first: String,
    /// What the second server showed.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "  {step:?}")?;
        }
        write!(f, "first:  {}\nsecond: {}", self.first, self.second)
    }
}

/// A way to start one of the two servers, always on empty data.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Which server.
    pub subject: Subject,
    /// Its flags beside those for folders and addresses.
    pub flags: &'a [&'a str],
}

impl Side<'_> {
    fn start(&self) -> Option<Server> {
        Server::start(self.subject, &[&["--unsafe-no-fsync"], self.flags].concat())
    }
}

/// Runs a history on both sides: the first difference, made short, or none. The outer none says
/// that a side is not to be had.
///
/// # Errors
/// When a server cannot be spoken to at all.
pub fn compare(sides: [Side<'_>; 2], steps: &[Step]) -> Result<Option<Option<Difference>>> {
    let Some(first) = run(sides, steps)? else {
        return Ok(None);
    };
    let Some(difference) = first else {
        return Ok(Some(None));
    };
    shrink(sides, difference).map(|shortest| Some(Some(shortest)))
}

/// Leaves out parts, ever smaller ones, as long as a difference remains.
fn shrink(sides: [Side<'_>; 2], mut found: Difference) -> Result<Difference> {
    let mut runs = 0;
    let mut part = found.steps.len() / 2;
    while part > 0 {
        let mut start = 0;
        while start + part < found.steps.len() && runs < SHRINK_RUNS_MAX {
            let mut fewer = found.steps.clone();
            fewer.drain(start..start + part);
            runs += 1;
            match run(sides, &fewer)? {
                Some(Some(shorter)) => found = shorter,
                _ => start += part,
            }
        }
        part /= 2;
    }
    Ok(found)
}

fn run(sides: [Side<'_>; 2], steps: &[Step]) -> Result<Option<Option<Difference>>> {
    let [Some(first), Some(second)] = sides.map(|side| side.start()) else {
        return Ok(None);
    };
    block_on(run_on(first.port(), second.port(), steps)).map(Some)
}

async fn run_on(first: u16, second: u16, steps: &[Step]) -> Result<Option<Difference>> {
    let first = Connection::open(first).await?;
    let second = Connection::open(second).await?;
    for (number, step) in steps.iter().enumerate() {
        let left = seen::answer(&first, step).await;
        let right = seen::answer(&second, step).await;
        if left != right {
            let [left, right] = [left, right].map(|seen| seen.to_string());
            let steps = steps[..=number].to_vec();
            return Ok(Some(Difference {
                steps,
                first: left,
                second: right,
            }));
        }
    }
    let left = events(&first).await.context("events of the first server")?;
    let right = events(&second)
        .await
        .context("events of the second server")?;
    let differs = left
        .iter()
        .zip(&right)
        .position(|(left, right)| left != right);
    let at = differs.or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())));
    Ok(at.map(|at| Difference {
        steps: steps.to_vec(),
        first: format!("event {at} of {}: {:?}", left.len(), left.get(at)),
        second: format!("event {at} of {}: {:?}", right.len(), right.get(at)),
    }))
}
