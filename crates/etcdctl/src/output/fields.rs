//! The format `fields`: a name and a value per line.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/printer_fields.go`.

use std::fmt::Display;

use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::{
    AlarmType, DeleteRangeResponse, HashKvResponse, Member, PutResponse, RangeResponse,
    ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use kvorum_proto::mvccpb::KeyValue;

use super::{Health, Printer, Reply};
use kvorum_cli::go;

/// None if the format has no form for the reply.
pub(super) fn render(printer: &Printer, reply: &Reply) -> Option<String> {
    let mut fields = Fields {
        hex: printer.hex,
        text: String::new(),
    };
    match reply {
        Reply::Put(response) => fields.put(response),
        Reply::Range(response) => fields.range(response),
        Reply::Delete(response) => fields.delete(response),
        Reply::Txn(response) => fields.txn(response),
        Reply::Watch(response) => fields.watch(response),
        Reply::LeaseGrant(response) => {
            fields.header(response.header.as_ref());
            fields.lease("ID", response.id);
            fields.line("TTL", response.ttl);
        }
        Reply::LeaseRevoke(_, response) => fields.header(response.header.as_ref()),
        Reply::LeaseKeepAlive(response) => {
            fields.header(response.header.as_ref());
            fields.lease("ID", response.id);
            fields.line("TTL", response.ttl);
        }
        Reply::LeaseTimeToLive(response, _) => {
            fields.header(response.header.as_ref());
            fields.lease("ID", response.id);
            fields.line("TTL", response.ttl);
            fields.line("GrantedTTL", response.granted_ttl);
            for key in &response.keys {
                fields.line("Key", go::quote(key));
            }
        }
        Reply::Leases(response) => {
            fields.header(response.header.as_ref());
            for lease in &response.leases {
                fields.lease("ID", lease.id);
            }
        }
        Reply::Alarms(response) => {
            fields.header(response.header.as_ref());
            for alarm in &response.alarms {
                fields.id("MemberID", alarm.member_id);
                let name =
                    AlarmType::try_from(alarm.alarm).map(|alarm| alarm.as_str_name().to_owned());
                fields.line(
                    "AlarmType",
                    name.unwrap_or_else(|_| alarm.alarm.to_string()),
                );
                fields.end();
            }
        }
        Reply::Members(response) => {
            fields.header(response.header.as_ref());
            for member in &response.members {
                fields.member(member);
            }
        }
        Reply::Health(endpoints) => {
            for health in endpoints {
                fields.health(health);
            }
        }
        Reply::Status(endpoints) => {
            for (endpoint, response) in endpoints {
                fields.status(endpoint, response);
            }
        }
        Reply::Hashes(endpoints) => {
            for (endpoint, response) in endpoints {
                fields.hash(endpoint, response);
            }
        }
        Reply::Done(_, header) => fields.header(header.as_ref()),
        Reply::Role(_, response) => {
            fields.header(response.header.as_ref());
            for permission in &response.perm {
                // Two blanks stand before the type.
                let kind = permission.perm_type().as_str_name();
                fields.line("PermType", format_args!(" {kind}"));
                fields.line("Key", go::quote(&permission.key));
                fields.line("RangeEnd", go::quote(&permission.range_end));
            }
        }
        Reply::Roles(response) => {
            fields.header(response.header.as_ref());
            let roles: Vec<String> = response
                .roles
                .iter()
                .map(|role| format!(" {}", go::quote(role.as_bytes())))
                .collect();
            fields.text += &format!("\"Roles\" :{}\n", roles.concat());
        }
        Reply::User(..) | Reply::Users(_) | Reply::AuthStatus(_) | Reply::Downgrade(..) => {
            return None;
        }
        Reply::MemberAdded(_)
        | Reply::MemberRemoved(..)
        | Reply::MemberUpdated(..)
        | Reply::MemberPromoted(..)
        | Reply::LeaderMoved(..) => return None,
    }
    Some(fields.text)
}

struct Fields {
    hex: bool,
    text: String,
}

impl Fields {
    fn line(&mut self, name: &str, value: impl Display) {
        self.text += &format!("\"{name}\" : {value}\n");
    }

    fn quoted(&mut self, name: &str, value: &str) {
        self.line(name, go::quote(value.as_bytes()));
    }

    /// An empty line.
    fn end(&mut self) {
        self.text.push('\n');
    }

    /// The ID of a cluster or member.
    fn id(&mut self, name: &str, id: u64) {
        if self.hex {
            self.line(name, format_args!("{id:x}"));
        } else {
            self.line(name, id);
        }
    }

    fn lease(&mut self, name: &str, id: i64) {
        if self.hex {
            self.line(name, format_args!("{id:016x}"));
        } else {
            self.line(name, id);
        }
    }

    fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        // Answers that are not about keys have none.
        if header.revision > 0 {
            self.line("Revision", header.revision);
        }
        self.line("RaftTerm", header.raft_term);
    }

    fn pair(&mut self, prefix: &str, kv: &KeyValue) {
        let name = |name: &str| format!("{prefix}{name}");
        self.line(&name("Key"), go::quote(&kv.key));
        self.line(&name("CreateRevision"), kv.create_revision);
        self.line(&name("ModRevision"), kv.mod_revision);
        self.line(&name("Version"), kv.version);
        self.line(&name("Value"), go::quote(&kv.value));
        self.lease(&name("Lease"), kv.lease);
    }

    fn put(&mut self, response: &PutResponse) {
        self.header(response.header.as_ref());
        if let Some(previous) = &response.prev_kv {
            self.pair("Prev", previous);
        }
    }

    fn range(&mut self, response: &RangeResponse) {
        self.header(response.header.as_ref());
        for kv in &response.kvs {
            self.pair("", kv);
        }
        self.line("More", response.more);
        self.line("Count", response.count);
    }

    fn delete(&mut self, response: &DeleteRangeResponse) {
        self.header(response.header.as_ref());
        self.line("Deleted", response.deleted);
        for kv in &response.prev_kvs {
            self.pair("Prev", kv);
        }
    }

    fn txn(&mut self, response: &TxnResponse) {
        self.header(response.header.as_ref());
        self.line("Succeeded", response.succeeded);
        for operation in &response.responses {
            match &operation.response {
                Some(Response::ResponsePut(response)) => self.put(response),
                Some(Response::ResponseRange(response)) => self.range(response),
                Some(Response::ResponseDeleteRange(response)) => self.delete(response),
                // The tool itself never nests transactions.
                Some(Response::ResponseTxn(_)) | None => self.quoted("Unknown", ""),
            }
        }
    }

    fn watch(&mut self, response: &WatchResponse) {
        self.header(response.header.as_ref());
        for event in &response.events {
            self.line("Type", event.r#type().as_str_name());
            if let Some(previous) = &event.prev_kv {
                self.pair("Prev", previous);
            }
            self.pair("", &event.kv.clone().unwrap_or_default());
        }
    }

    fn member(&mut self, member: &Member) {
        self.id("ID", member.id);
        self.quoted("Name", &member.name);
        for url in &member.peer_ur_ls {
            self.quoted("PeerURL", url);
        }
        for url in &member.client_ur_ls {
            self.quoted("ClientURL", url);
        }
        self.line("IsLearner", member.is_learner);
        self.end();
    }

    fn health(&mut self, health: &Health) {
        self.quoted("Endpoint", &health.endpoint);
        self.line("Health", health.healthy);
        self.line("Took", &health.took);
        self.line("Error", &health.error);
        self.end();
    }

    fn status(&mut self, endpoint: &str, response: &StatusResponse) {
        self.header(response.header.as_ref());
        let downgrade = response.downgrade_info.clone().unwrap_or_default();
        self.quoted("Version", &response.version);
        self.quoted("StorageVersion", &response.storage_version);
        self.line("DBSize", response.db_size);
        self.line("DBSizeInUse", response.db_size_in_use);
        self.line("DBSizeQuota", response.db_size_quota);
        self.line("Leader", response.leader);
        self.line("IsLearner", response.is_learner);
        self.line("RaftIndex", response.raft_index);
        self.line("RaftTerm", response.raft_term);
        self.line("RaftAppliedIndex", response.raft_applied_index);
        self.line("Errors", format_args!("[{}]", response.errors.join(" ")));
        self.quoted("Endpoint", endpoint);
        self.quoted("DowngradeTargetVersion", &downgrade.target_version);
        self.line("DowngradeEnabled", downgrade.enabled);
        self.end();
    }

    fn hash(&mut self, endpoint: &str, response: &HashKvResponse) {
        self.header(response.header.as_ref());
        self.quoted("Endpoint", endpoint);
        self.line("Hash", response.hash);
        self.line("HashRevision", response.hash_revision);
        self.end();
    }
}
