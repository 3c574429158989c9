//! Granting and renewing leases.

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};
use prost::Message;

use super::{Request, Step, Workload};
use crate::api;
use crate::endpoint::Endpoint;
use crate::fields::Fields;

/// Time to live of the leases, in seconds: none expires during a run.
const TTL_SECONDS: i64 = 3600;

/// Renews some leases in turn, on one stream.
pub(crate) struct KeepAlive {
    requests: Vec<(i64, Vec<u8>)>,
    next: usize,
}

impl KeepAlive {
    /// Grants `leases` leases, at least one, and renews them.
    pub(crate) fn grant(endpoint: &Endpoint, leases: u64) -> Result<Self> {
        let mut requests = Vec::new();
        for _ in 0..leases.max(1) {
            let id = api::grant(endpoint, TTL_SECONDS)?;
            requests.push((id, LeaseKeepAliveRequest { id }.encode_to_vec()));
        }
        Ok(Self { requests, next: 0 })
    }
}

impl Workload for KeepAlive {
    fn paths(&self) -> &'static [&'static str] {
        &["/etcdserverpb.Lease/LeaseKeepAlive"]
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn request_bytes_max(&self) -> usize {
        let lengths = self.requests.iter().map(|(_, request)| request.len());
        lengths.max().unwrap_or(0)
    }

    fn next(&mut self) -> Request<'_> {
        let (id, message) = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        Request {
            path: 0,
            number: *id as u64,
            message,
        }
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<Step> {
        let (id, ttl) = id_and_ttl(answer)?;
        ensure!(
            id == number && ttl == TTL_SECONDS as u64,
            "renewed lease {number:x}, answered {id:x} for {ttl} s"
        );
        Ok(Step::Done)
    }
}

/// Grants leases that outlive the run.
pub(crate) struct Grant(Vec<u8>);

impl Grant {
    pub(crate) fn new() -> Self {
        let request = LeaseGrantRequest {
            ttl: TTL_SECONDS,
            ..LeaseGrantRequest::default()
        };
        Self(request.encode_to_vec())
    }
}

impl Workload for Grant {
    fn paths(&self) -> &'static [&'static str] {
        &[api::LEASE_GRANT]
    }

    fn request_bytes_max(&self) -> usize {
        self.0.len()
    }

    fn next(&mut self) -> Request<'_> {
        Request {
            path: 0,
            number: 0,
            message: &self.0,
        }
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<Step> {
        let (id, ttl) = id_and_ttl(answer)?;
        ensure!(
            id != 0 && ttl == TTL_SECONDS as u64,
            "granted lease {id:x} for {ttl} s"
        );
        Ok(Step::Done)
    }
}

/// Answers of grants and of renewals have these at the same places.
fn id_and_ttl(answer: &[u8]) -> Result<(u64, u64)> {
    const ID: u64 = 2;
    const TTL: u64 = 3;
    let (mut id, mut ttl) = (0, 0);
    let mut fields = Fields(answer);
    while let Some((field, value)) = fields.next()? {
        match field {
            ID => id = value.number(),
            TTL => ttl = value.number(),
            _ => {}
        }
    }
    Ok((id, ttl))
}
