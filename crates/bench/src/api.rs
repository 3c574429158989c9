//! The methods by name, and single calls that prepare a run or ask how a server is. None of them is measured load.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kvorum_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, LeaseGrantRequest, LeaseGrantResponse, MemberAddRequest,
    MemberAddResponse, MemberRemoveRequest, RangeRequest, RangeResponse, SnapshotRequest,
    StatusRequest, StatusResponse,
};
use prost::Message;

use crate::fields::Fields;
use crate::h2c::Connection;
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
    address: SocketAddr,
    path: &str,
    request: &impl Message,
    at_most: Duration,
) -> Result<M> {
    let answer = Connection::ask(address, path, &request.encode_to_vec(), at_most)?;
    M::decode(&answer[..]).with_context(|| format!("{path}: the answer"))
}

/// Reads one key that need not be there: a server that answers serves. `serializable`: this member alone. Returns the
/// number of keys found.
pub(crate) fn read_any(address: SocketAddr, serializable: bool, at_most: Duration) -> Result<i64> {
    let request = RangeRequest {
        key: keys::PREFIX.as_bytes().to_vec().into(),
        serializable,
        ..RangeRequest::default()
    };
    let answer: RangeResponse = call(address, RANGE, &request, at_most)?;
    Ok(answer.count)
}

/// How many keys of the key space there are, and the store's revision.
pub(crate) fn count(address: SocketAddr) -> Result<(u64, i64)> {
    let request = RangeRequest {
        key: keys::PREFIX.as_bytes().to_vec().into(),
        range_end: keys::range_end().into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer: RangeResponse = call(address, RANGE, &request, CALL_TIMEOUT)?;
    let revision = answer.header.unwrap_or_default().revision;
    Ok((u64::try_from(answer.count)?, revision))
}

/// What a member says about itself.
pub(crate) fn status(address: SocketAddr, at_most: Duration) -> Result<StatusResponse> {
    let path = "/etcdserverpb.Maintenance/Status";
    call(address, path, &StatusRequest::default(), at_most)
}

/// Grants a lease and returns its id.
pub(crate) fn grant(address: SocketAddr, ttl_seconds: i64) -> Result<i64> {
    let request = LeaseGrantRequest {
        ttl: ttl_seconds,
        ..LeaseGrantRequest::default()
    };
    let answer: LeaseGrantResponse = call(address, LEASE_GRANT, &request, CALL_TIMEOUT)?;
    ensure!(answer.id != 0, "a lease without an id: {}", answer.error);
    Ok(answer.id)
}

/// Forgets all that was overwritten before a revision; returns when that is done on disk too.
pub(crate) fn compact(address: SocketAddr, revision: i64, physical: bool) -> Result<()> {
    let request = CompactionRequest { revision, physical }.encode_to_vec();
    Connection::ask(
        address,
        "/etcdserverpb.KV/Compact",
        &request,
        LONG_CALL_TIMEOUT,
    )?;
    Ok(())
}

/// Gives free space back to the file system.
pub(crate) fn defragment(address: SocketAddr) -> Result<()> {
    let request = DefragmentRequest::default().encode_to_vec();
    let path = "/etcdserverpb.Maintenance/Defragment";
    Connection::ask(address, path, &request, LONG_CALL_TIMEOUT)?;
    Ok(())
}

/// Reads a whole snapshot and returns its length in bytes.
pub(crate) fn snapshot(address: SocketAddr) -> Result<u64> {
    const BLOB: u64 = 3;
    let request = SnapshotRequest::default().encode_to_vec();
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let mut bytes = 0;
    Connection::ask_stream(address, path, &request, LONG_CALL_TIMEOUT, |message| {
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
pub(crate) fn metric(address: SocketAddr, name: &str) -> Result<Option<f64>> {
    let mut stream = TcpStream::connect_timeout(&address, CALL_TIMEOUT)?;
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
pub(crate) fn member_add(address: SocketAddr, peer_url: &str) -> Result<u64> {
    let request = MemberAddRequest {
        peer_ur_ls: vec![peer_url.to_owned()],
        ..MemberAddRequest::default()
    };
    let path = "/etcdserverpb.Cluster/MemberAdd";
    let answer: MemberAddResponse = call(address, path, &request, CALL_TIMEOUT)?;
    Ok(answer.member.context("no member was added")?.id)
}

/// Takes a member out of the cluster.
pub(crate) fn member_remove(address: SocketAddr, id: u64) -> Result<()> {
    let request = MemberRemoveRequest { id }.encode_to_vec();
    let path = "/etcdserverpb.Cluster/MemberRemove";
    Connection::ask(address, path, &request, CALL_TIMEOUT)?;
    Ok(())
}
