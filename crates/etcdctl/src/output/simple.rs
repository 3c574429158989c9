//! The format `simple`: lines for people and pipes.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/printer_simple.go`.

use std::io::Write as _;

use kvorum_client::PermissionType;
use kvorum_proto::authpb::Permission;
use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::{
    AlarmType, AuthRoleGetResponse, DeleteRangeResponse, LeaseTimeToLiveResponse, PutResponse,
    RangeResponse, ResponseHeader, TxnResponse,
};
use kvorum_proto::mvccpb::KeyValue;

use super::{Printer, Reply, table};

/// Writes a line; a vector takes everything.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {{
        let _ = writeln!($out, $($format)*);
    }};
}

pub(super) fn render(printer: &Printer, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    match reply {
        Reply::Put(response) => put(printer, &mut out, response),
        Reply::Range(response) => range(printer, &mut out, response),
        Reply::Delete(response) => delete(printer, &mut out, response),
        Reply::Txn(response) => txn(printer, &mut out, response),
        Reply::Watch(response) => {
            for event in &response.events {
                line!(out, "{}", event.r#type().as_str_name());
                if let Some(previous) = &event.prev_kv {
                    pair(printer, &mut out, previous);
                }
                pair(printer, &mut out, &event.kv.clone().unwrap_or_default());
            }
        }
        Reply::LeaseGrant(response) => line!(
            out,
            "lease {:016x} granted with TTL({}s)",
            response.id,
            response.ttl
        ),
        Reply::LeaseRevoke(lease, _) => line!(out, "lease {lease:016x} revoked"),
        Reply::LeaseKeepAlive(response) => {
            line!(
                out,
                "lease {:016x} keepalived with TTL({})",
                response.id,
                response.ttl
            );
        }
        Reply::LeaseTimeToLive(response, keys) => time_to_live(&mut out, response, *keys),
        Reply::Leases(response) => {
            line!(out, "found {} leases", response.leases.len());
            for lease in &response.leases {
                line!(out, "{:016x}", lease.id);
            }
        }
        Reply::Alarms(response) => {
            for alarm in &response.alarms {
                let mut fields = Vec::new();
                if alarm.member_id != 0 {
                    fields.push(format!("memberID:{}", alarm.member_id));
                }
                if alarm.alarm != 0 {
                    let name = AlarmType::try_from(alarm.alarm)
                        .map(|alarm| alarm.as_str_name().to_owned());
                    fields.push(format!(
                        "alarm:{}",
                        name.unwrap_or_else(|_| alarm.alarm.to_string())
                    ));
                }
                line!(out, "{}", fields.join(" "));
            }
        }
        Reply::MemberAdded(response) => {
            let member = response.member.clone().unwrap_or_default();
            let role = if member.is_learner { " as learner" } else { "" };
            line!(
                out,
                "Member {:16x} added{role} to cluster {:16x}",
                member.id,
                cluster(response.header.as_ref())
            );
        }
        Reply::MemberRemoved(member, response) => {
            line!(
                out,
                "Member {:16x} removed from cluster {:16x}",
                member.0,
                cluster(response.header.as_ref())
            );
        }
        Reply::MemberUpdated(member, response) => {
            line!(
                out,
                "Member {:16x} updated in cluster {:16x}",
                member.0,
                cluster(response.header.as_ref())
            );
        }
        Reply::MemberPromoted(member, response) => {
            line!(
                out,
                "Member {:16x} promoted in cluster {:16x}",
                member.0,
                cluster(response.header.as_ref())
            );
        }
        Reply::Health(endpoints) => {
            for health in endpoints {
                let endpoint = &health.endpoint;
                if health.error.is_empty() {
                    line!(
                        out,
                        "{endpoint} is healthy: successfully committed proposal: took = {}",
                        health.took
                    );
                } else {
                    eprintln!(
                        "{endpoint} is unhealthy: failed to commit proposal: {}",
                        health.error
                    );
                }
            }
        }
        Reply::Members(response) => rows(&mut out, table::members(response)),
        Reply::Status(endpoints) => rows(&mut out, table::status(endpoints)),
        Reply::Hashes(endpoints) => rows(&mut out, table::hashes(endpoints)),
        Reply::Done(what, _) => line!(out, "{what}"),
        Reply::Role(name, response) => role(&mut out, name, response),
        Reply::Roles(response) => names(&mut out, &response.roles),
        Reply::User(name, response) => {
            let roles: String = response
                .roles
                .iter()
                .map(|role| format!(" {role}"))
                .collect();
            line!(out, "User: {name}\nRoles:{roles}");
        }
        Reply::Users(response) => names(&mut out, &response.users),
        Reply::AuthStatus(response) => {
            line!(out, "Authentication Status: {}", response.enabled);
            line!(out, "AuthRevision: {}", response.auth_revision);
        }
        Reply::Downgrade(what, response) => {
            let version = &response.version;
            line!(out, "Downgrade {what} success, cluster version {version}");
        }
        Reply::LeaderMoved(from, to, _) => {
            line!(
                out,
                "Leadership transferred from {:x} to {:x}",
                from.0,
                to.0
            );
        }
    }
    out
}

fn names(out: &mut Vec<u8>, names: &[String]) {
    for name in names {
        line!(out, "{name}");
    }
}

/// Who has this role, and nothing granted to it, may do everything.
const ROOT: &str = "root";

fn role(out: &mut Vec<u8>, name: &str, response: &AuthRoleGetResponse) {
    line!(out, "Role {name}");
    let lists = [
        ("Read", PermissionType::Read),
        ("Write", PermissionType::Write),
    ];
    for (title, kind) in lists {
        line!(out, "KV {title}:");
        if name == ROOT && response.perm.is_empty() {
            line!(out, "\t[, <open ended>");
        }
        let allows = |permission: &&Permission| {
            [kind, PermissionType::Readwrite].contains(&permission.perm_type())
        };
        for permission in response.perm.iter().filter(allows) {
            out.push(b'\t');
            range_of(out, permission);
            out.push(b'\n');
        }
    }
}

fn range_of(out: &mut Vec<u8>, permission: &Permission) {
    let Permission { key, range_end, .. } = permission;
    if range_end.is_empty() {
        return out.extend_from_slice(key);
    }
    let open = range_end.as_ref() == [0];
    let end = if open {
        &b"<open ended>"[..]
    } else {
        range_end
    };
    out.push(b'[');
    out.extend_from_slice(key);
    out.extend_from_slice(b", ");
    out.extend_from_slice(end);
    if !open {
        out.push(b')');
    }
    if !key.is_empty() && kvorum_client::prefix_end(key) == range_end {
        out.extend_from_slice(b" (prefix ");
        out.extend_from_slice(key);
        out.push(b')');
    }
}

fn cluster(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

fn rows(out: &mut Vec<u8>, rows: Vec<Vec<String>>) {
    for row in rows {
        line!(out, "{}", row.join(", "));
    }
}

fn put(printer: &Printer, out: &mut Vec<u8>, response: &PutResponse) {
    line!(out, "OK");
    if let Some(previous) = &response.prev_kv {
        pair(printer, out, previous);
    }
}

fn range(printer: &Printer, out: &mut Vec<u8>, response: &RangeResponse) {
    for kv in &response.kvs {
        pair(printer, out, kv);
    }
}

fn delete(printer: &Printer, out: &mut Vec<u8>, response: &DeleteRangeResponse) {
    line!(out, "{}", response.deleted);
    for kv in &response.prev_kvs {
        pair(printer, out, kv);
    }
}

fn txn(printer: &Printer, out: &mut Vec<u8>, response: &TxnResponse) {
    line!(
        out,
        "{}",
        if response.succeeded {
            "SUCCESS"
        } else {
            "FAILURE"
        }
    );
    for operation in &response.responses {
        line!(out, "");
        match &operation.response {
            Some(Response::ResponsePut(response)) => put(printer, out, response),
            Some(Response::ResponseRange(response)) => range(printer, out, response),
            Some(Response::ResponseDeleteRange(response)) => delete(printer, out, response),
            // The tool itself never nests transactions.
            Some(Response::ResponseTxn(_)) | None => line!(out, "unexpected response"),
        }
    }
}

fn time_to_live(out: &mut Vec<u8>, response: &LeaseTimeToLiveResponse, keys: bool) {
    let LeaseTimeToLiveResponse {
        id,
        ttl,
        granted_ttl,
        ..
    } = response;
    if *granted_ttl == 0 && *ttl == -1 {
        return line!(out, "lease {id:016x} already expired");
    }
    let _ = write!(
        out,
        "lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)"
    );
    if keys {
        let _ = write!(out, ", attached keys([");
        for (number, key) in response.keys.iter().enumerate() {
            out.extend((number > 0).then_some(b' '));
            out.extend_from_slice(key);
        }
        let _ = write!(out, "])");
    }
    line!(out, "");
}

fn pair(printer: &Printer, out: &mut Vec<u8>, kv: &KeyValue) {
    let mut text = |bytes: &[u8]| {
        if printer.hex {
            for byte in bytes {
                let _ = write!(out, "\\x{byte:02x}");
            }
        } else {
            out.extend_from_slice(bytes);
        }
        out.push(b'\n');
    };
    if !printer.values_only {
        text(&kv.key);
    }
    text(&kv.value);
}
