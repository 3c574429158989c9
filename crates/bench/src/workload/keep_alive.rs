//! Renewing leases.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest};
use prost::Message;

use super::Workload;
use crate::fields::Fields;
use crate::h2c::Connection;

/// Time to live of the leases, in seconds: none expires during a run.
const TTL_SECONDS: i64 = 3600;

/// Renews some leases in turn, on one stream.
pub(crate) struct KeepAlive {
    requests: Vec<(i64, Vec<u8>)>,
    next: usize,
}

impl KeepAlive {
    /// Grants `leases` leases, at least one, and renews them.
    pub(crate) fn grant(address: SocketAddr, leases: u64) -> Result<Self> {
        let grant = LeaseGrantRequest {
            ttl: TTL_SECONDS,
            ..LeaseGrantRequest::default()
        };
        let grant = grant.encode_to_vec();
        let mut requests = Vec::new();
        for _ in 0..leases.max(1) {
            let answer = Connection::ask(address, "/etcdserverpb.Lease/LeaseGrant", &grant)?;
            let id = LeaseGrantResponse::decode(&answer[..])?.id;
            requests.push((id, LeaseKeepAliveRequest { id }.encode_to_vec()));
        }
        Ok(Self { requests, next: 0 })
    }
}

impl Workload for KeepAlive {
    fn path(&self) -> &'static str {
        "/etcdserverpb.Lease/LeaseKeepAlive"
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn request_bytes_max(&self) -> usize {
        let lengths = self.requests.iter().map(|(_, request)| request.len());
        lengths.max().unwrap_or(0)
    }

    fn next(&mut self) -> (u64, &[u8]) {
        let (id, request) = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        (*id as u64, request)
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<()> {
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
        ensure!(
            id == number && ttl == TTL_SECONDS as u64,
            "renewed lease {number:x}, answered {id:x} for {ttl} s"
        );
        Ok(())
    }
}
