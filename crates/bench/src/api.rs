//! The methods by name, and single calls that prepare a run or ask how a server is. None of them is measured load.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kvorum_proto::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse, CompactionRequest, DefragmentRequest,
    LeaseGrantRequest, LeaseGrantResponse, MemberAddRequest, MemberAddResponse,
    MemberRemoveRequest, RangeRequest, RangeResponse, SnapshotRequest, StatusRequest,
    StatusResponse,
};
use prost::Message;

use crate::endpoint::Endpoint;
use crate::fields::Fields;
use crate::http2::Connection;
use crate::keys;

pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(crate) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";

/// How long an ordinary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call may take that goes through all data.
const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(600);

fn call<M: Message + Default>(
    endpoint: &Endpoint,
    path: &str,
    request: &impl Message,
    at_most: Duration,
) -> Result<M> {
    let answer = Connection::ask(endpoint, path, &request.encode_to_vec(), at_most)?;
    M::decode(&answer[..]).with_context(|| format!("{path}: the answer"))
}

/// Reads one key that need not be there: a server that answers serves. `serializable`: this member alone. Returns the
/// number of keys found.
pub(crate) fn read_any(endpoint: &Endpoint, serializable: bool, at_most: Duration) -> Result<i64> {
    let request = RangeRequest {
        key: keys::PREFIX.as_bytes().to_vec().into(),
        serializable,
        ..RangeRequest::default()
    };
    let answer: RangeResponse = call(endpoint, RANGE, &request, at_most)?;
    Ok(answer.count)
}

/// How many keys of the key space there are, and the store's revision.
pub(crate) fn count(endpoint: &Endpoint) -> Result<(u64, i64)> {
    let request = RangeRequest {
        key: keys::PREFIX.as_bytes().to_vec().into(),
        range_end: keys::range_end().into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer: RangeResponse = call(endpoint, RANGE, &request, CALL_TIMEOUT)?;
    let revision = answer.header.unwrap_or_default().revision;
    Ok((u64::try_from(answer.count)?, revision))
}

/// What a member says about itself.
pub(crate) fn status(endpoint: &Endpoint, at_most: Duration) -> Result<StatusResponse> {
    let path = "/etcdserverpb.Maintenance/Status";
    call(endpoint, path, &StatusRequest::default(), at_most)
}

/// Gives name and password, and returns the token for calls of this user.
pub(crate) fn log_in(endpoint: &Endpoint, name: &str, password: &str) -> Result<String> {
    let request = AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    };
    let path = "/etcdserverpb.Auth/Authenticate";
    let answer: AuthenticateResponse = call(endpoint, path, &request, CALL_TIMEOUT)?;
    Ok(answer.token)
}

/// Grants a lease and returns its id.
pub(crate) fn grant(endpoint: &Endpoint, ttl_seconds: i64) -> Result<i64> {
    let request = LeaseGrantRequest {
        ttl: ttl_seconds,
        ..LeaseGrantRequest::default()
    };
    let answer: LeaseGrantResponse = call(endpoint, LEASE_GRANT, &request, CALL_TIMEOUT)?;
    ensure!(answer.id != 0, "a lease without an id: {}", answer.error);
    Ok(answer.id)
}

/// Forgets all that was overwritten before a revision; returns when that is done on disk too.
pub(crate) fn compact(endpoint: &Endpoint, revision: i64, physical: bool) -> Result<()> {
    let request = CompactionRequest { revision, physical }.encode_to_vec();
    Connection::ask(
        endpoint,
        "/etcdserverpb.KV/Compact",
        &request,
        LONG_CALL_TIMEOUT,
    )?;
    Ok(())
}

/// Gives free space back to the file system.
pub(crate) fn defragment(endpoint: &Endpoint) -> Result<()> {
    let request = DefragmentRequest::default().encode_to_vec();
    let path = "/etcdserverpb.Maintenance/Defragment";
    Connection::ask(endpoint, path, &request, LONG_CALL_TIMEOUT)?;
    Ok(())
}

/// Reads a whole snapshot and returns its length in bytes.
pub(crate) fn snapshot(endpoint: &Endpoint) -> Result<u64> {
    const BLOB: u64 = 3;
    let request = SnapshotRequest::default().encode_to_vec();
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let mut bytes = 0;
    Connection::ask_stream(endpoint, path, &request, LONG_CALL_TIMEOUT, |message| {
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next()? {
            if field == BLOB {
                bytes += value.bytes().len() as u64;
            }
        }
        Ok(())
    })?;
    ensure!(bytes > 0, "an empty snapshot");
    Ok(bytes)
}

/// A number of a server's metrics page, by the name of the metric; none when the server does not have it.
pub(crate) fn metric(endpoint: &Endpoint, name: &str) -> Result<Option<f64>> {
    let mut stream = TcpStream::connect_timeout(&endpoint.address, CALL_TIMEOUT)?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let number = page
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(at, _)| *at == name);
    number
        .map(|(_, number)| {
            number
                .trim()
                .parse()
                .with_context(|| format!("metric {name}"))
        })
        .transpose()
}

/// Announces a member to the cluster; returns its id.
pub(crate) fn member_add(endpoint: &Endpoint, peer_url: &str) -> Result<u64> {
    let request = MemberAddRequest {
        peer_ur_ls: vec![peer_url.to_owned()],
        ..MemberAddRequest::default()
    };
    let path = "/etcdserverpb.Cluster/MemberAdd";
    let answer: MemberAddResponse = call(endpoint, path, &request, CALL_TIMEOUT)?;
    Ok(answer.member.context("no member was added")?.id)
}

/// Takes a member out of the cluster.
pub(crate) fn member_remove(endpoint: &Endpoint, id: u64) -> Result<()> {
    let request = MemberRemoveRequest { id }.encode_to_vec();
    let path = "/etcdserverpb.Cluster/MemberRemove";
    Connection::ask(endpoint, path, &request, CALL_TIMEOUT)?;
    Ok(())
}
