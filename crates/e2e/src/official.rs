//! Data of official servers, with something of everything that a directory can hold.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, AuthRoleAddRequest, AuthRoleAddResponse,
    AuthUserAddRequest, AuthUserAddResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest,
    HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse, RequestOp,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};

use crate::grpc::{Connection, Failure};

/// The lease that some keys hang on.
pub const LEASE: i64 = 0x1234_5678_9abc;
/// A lease without keys. (Official servers forget negative ones when they start again.)
pub const BARE_LEASE: i64 = 7;
/// A user who exists, while nobody is asked for one.
pub const USER: &str = "reader";

/// Puts, transactions, deletes, a compaction, leases, a user with a role.
///
/// # Errors
/// What the server refuses.
pub async fn fill(port: u16) -> Result<(), Failure> {
    let server = Connection::open(port).await?;
    for id in [LEASE, BARE_LEASE] {
        let grant = LeaseGrantRequest { ttl: 100_000, id };
        let _: LeaseGrantResponse = server.call("etcdserverpb.Lease/LeaseGrant", &grant).await?;
    }
    add_user(&server).await?;
    for round in 0..12_usize {
        let put = |number: usize| PutRequest {
            key: format!("key/{:03}", round * 7 + number).into(),
            value: vec![b'v'; number * 31].into(),
            lease: if number.is_multiple_of(9) { LEASE } else { 0 },
            ..PutRequest::default()
        };
        let operation = |number| RequestOp {
            request: Some(Request::RequestPut(put(number))),
        };
        let txn = TxnRequest {
            success: (0..20).map(operation).collect(),
            ..TxnRequest::default()
        };
        let _: TxnResponse = server.call("etcdserverpb.KV/Txn", &txn).await?;
        let delete = DeleteRangeRequest {
            key: format!("key/{:03}", round * 7 + 4).into(),
            range_end: format!("key/{:03}", round * 7 + 6).into(),
            ..DeleteRangeRequest::default()
        };
        let method = "etcdserverpb.KV/DeleteRange";
        let _: DeleteRangeResponse = server.call(method, &delete).await?;
        let revision = put_one(&server, "long", vec![round as u8; 20_000]).await?;
        if round == 5 {
            // At a put: tombstones exactly at a compaction are hashed differently by releases.
            let compact = CompactionRequest {
                revision,
                physical: true,
            };
            let _: CompactionResponse = server.call("etcdserverpb.KV/Compact", &compact).await?;
        }
    }
    Ok(())
}

async fn add_user(server: &Connection) -> Result<(), Failure> {
    let role = AuthRoleAddRequest {
        name: "role".to_owned(),
    };
    let _: AuthRoleAddResponse = server.call("etcdserverpb.Auth/RoleAdd", &role).await?;
    add_user_named(server, USER).await?;
    let grant = AuthUserGrantRoleRequest {
        user: USER.to_owned(),
        role: "role".to_owned(),
    };
    let method = "etcdserverpb.Auth/UserGrantRole";
    let _: AuthUserGrantRoleResponse = server.call(method, &grant).await?;
    Ok(())
}

/// Adds a user who may nothing.
///
/// # Errors
/// What the server refuses.
pub async fn add_user_named(server: &Connection, name: &str) -> Result<(), Failure> {
    let user = AuthUserAddRequest {
        name: name.to_owned(),
        password: "secret".to_owned(),
        ..AuthUserAddRequest::default()
    };
    let _: AuthUserAddResponse = server.call("etcdserverpb.Auth/UserAdd", &user).await?;
    Ok(())
}

/// Puts one key; its revision.
///
/// # Errors
/// What the server refuses.
pub async fn put_one(
    server: &Connection,
    key: &'static str,
    value: Vec<u8>,
) -> Result<i64, Failure> {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let put: PutResponse = server.call("etcdserverpb.KV/Put", &put).await?;
    Ok(put.header.unwrap_or_default().revision)
}

/// Raises an alarm in the name of the member. From then on puts are refused.
///
/// # Errors
/// What the server refuses.
pub async fn raise_alarm(port: u16) -> Result<(), Failure> {
    let server = Connection::open(port).await?;
    let status: StatusResponse = server
        .call("etcdserverpb.Maintenance/Status", &StatusRequest {})
        .await?;
    let alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: status.header.unwrap_or_default().member_id,
        alarm: AlarmType::Nospace as i32,
    };
    let _: AlarmResponse = server
        .call("etcdserverpb.Maintenance/Alarm", &alarm)
        .await?;
    Ok(())
}

/// HashKV at the newest revision: hash, revision, compacted revision.
///
/// # Errors
/// What the server refuses.
pub async fn hash_kv(port: u16) -> Result<(u32, i64, i64), Failure> {
    let server = Connection::open(port).await?;
    let asked = HashKvRequest { revision: 0 };
    let hash: HashKvResponse = server
        .call("etcdserverpb.Maintenance/HashKV", &asked)
        .await?;
    let revision = hash.header.unwrap_or_default().revision;
    Ok((hash.hash, revision, hash.compact_revision))
}

/// Adds the beginning of a record to a log, as a crash in the middle of a write leaves it.
///
/// # Panics
/// When the file cannot be changed.
pub fn tear(log: &Path) {
    const RECORD_BYTES: u64 = 3_000;
    const WRITTEN_BYTES: usize = 100;
    /// An entry, a checksum, and data of 2,989 bytes.
    const HEAD: [u8; 11] = [
        0x08, 0x02, 0x10, 0xf8, 0xac, 0xd1, 0x91, 0x01, 0x1a, 0xad, 0x17,
    ];
    let bytes = fs::read(log).expect("a log file");
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let end = used.next_multiple_of(8) as u64;
    let mut file = OpenOptions::new()
        .write(true)
        .open(log)
        .expect("a log file");
    file.seek(SeekFrom::Start(end)).expect("inside of the file");
    let mut torn = RECORD_BYTES.to_le_bytes().to_vec();
    torn.extend_from_slice(&HEAD);
    torn.resize(8 + WRITTEN_BYTES, 0xa5);
    file.write_all(&torn).expect("the disk takes it");
}

/// A snapshot of the server, with the checksum behind it, as `snapshot save` writes it.
///
/// # Errors
/// What the server refuses.
pub async fn snapshot(port: u16) -> Result<Vec<u8>, Failure> {
    let server = Connection::open(port).await?;
    let method = "etcdserverpb.Maintenance/Snapshot";
    let asked = SnapshotRequest::default();
    let mut stream = server.open_stream(method, &asked).await?;
    stream.finish()?;
    let mut file = Vec::new();
    while let Some(part) = stream.next::<SnapshotResponse>().await? {
        file.extend_from_slice(&part.blob);
    }
    Ok(file)
}
