//! The format `table`: a frame around rows, for the replies that are lists.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/printer_table.go` and `printer.go`.

use kvorum_proto::etcdserverpb::{HashKvResponse, MemberListResponse, StatusResponse};

use kvorum_cli::frame::frame;

use super::Reply;
use kvorum_cli::go;

const OF_MEMBERS: &[&str] = &[
    "ID",
    "STATUS",
    "NAME",
    "PEER ADDRS",
    "CLIENT ADDRS",
    "IS LEARNER",
];
const OF_HEALTH: &[&str] = &["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
const OF_HASHES: &[&str] = &["ENDPOINT", "HASH", "HASH REVISION"];
const OF_STATUS: &[&str] = &[
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

/// None if the reply is no list.
pub(super) fn render(reply: &Reply) -> Option<String> {
    let (header, rows) = match reply {
        Reply::Members(response) => (OF_MEMBERS, members(response)),
        Reply::Status(endpoints) => (OF_STATUS, status(endpoints)),
        Reply::Hashes(endpoints) => (OF_HASHES, hashes(endpoints)),
        Reply::Health(endpoints) => {
            let row = |health: &super::Health| {
                let healthy = health.healthy.to_string();
                vec![
                    health.endpoint.clone(),
                    healthy,
                    health.took.clone(),
                    health.error.clone(),
                ]
            };
            (OF_HEALTH, endpoints.iter().map(row).collect())
        }
        _ => return None,
    };
    Some(frame(header, &rows))
}

pub(super) fn members(response: &MemberListResponse) -> Vec<Vec<String>> {
    let row = |member: &kvorum_proto::etcdserverpb::Member| {
        let status = if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        };
        vec![
            format!("{:x}", member.id),
            status.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    response.members.iter().map(row).collect()
}

pub(super) fn status(endpoints: &[(String, StatusResponse)]) -> Vec<Vec<String>> {
    let row = |(endpoint, response): &(String, StatusResponse)| {
        let member = response
            .header
            .as_ref()
            .map_or(0, |header| header.member_id);
        let downgrade = response.downgrade_info.clone().unwrap_or_default();
        let size = |bytes: i64| go::bytes_short(bytes.max(0).unsigned_abs());
        // A server without a size has nothing that is not in use.
        let in_use = response
            .db_size_in_use
            .wrapping_mul(100)
            .checked_div(response.db_size);
        vec![
            endpoint.clone(),
            format!("{member:x}"),
            response.version.clone(),
            response.storage_version.clone(),
            size(response.db_size),
            size(response.db_size_in_use),
            format!("{}%", 100 - in_use.unwrap_or(100)),
            size(response.db_size_quota),
            (response.leader == member).to_string(),
            response.is_learner.to_string(),
            response.raft_term.to_string(),
            response.raft_index.to_string(),
            response.raft_applied_index.to_string(),
            response.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    };
    endpoints.iter().map(row).collect()
}

pub(super) fn hashes(endpoints: &[(String, HashKvResponse)]) -> Vec<Vec<String>> {
    let row = |(endpoint, response): &(String, HashKvResponse)| {
        vec![
            endpoint.clone(),
            response.hash.to_string(),
            response.hash_revision.to_string(),
        ]
    };
    endpoints.iter().map(row).collect()
}
