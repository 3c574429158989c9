//! The format `json`: one line, numbers as numbers, bytes in base64, nothing for zero.
//!
//! Names and order are those of Go's structures, which are the messages of the wire for keys and
//! members, and structures of the client library for leases and watches.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/printer_json.go`; `client/v3/lease.go`, `watch.go`.

use kvorum_proto::authpb::Permission;
use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, PutResponse, RangeResponse, ResponseHeader,
    StatusResponse, TxnResponse, WatchResponse,
};
use kvorum_proto::mvccpb::{Event, KeyValue};

use super::{Health, Printer, Reply};
use kvorum_cli::go::json_string;
use kvorum_cli::json::{Object, array, base64, listed};

pub(super) fn render(printer: &Printer, reply: &Reply) -> String {
    let hex = printer.hex;
    let json = match reply {
        Reply::Put(response) => put(response),
        Reply::Range(response) => range(response),
        Reply::Delete(response) => delete(response),
        Reply::Txn(response) => txn(response),
        Reply::Watch(response) => watch(response),
        Reply::LeaseGrant(response) => {
            let object = header_fields(Object::new(), response.header.as_ref());
            let object = object.always("ID", response.id).always("TTL", response.ttl);
            object.always("Error", json_string(&response.error)).end()
        }
        Reply::LeaseKeepAlive(response) => {
            let object = header_fields(Object::new(), response.header.as_ref());
            object
                .always("ID", response.id)
                .always("TTL", response.ttl)
                .end()
        }
        Reply::LeaseTimeToLive(response, _) => {
            let keys = response.keys.iter().map(|key| base64(key));
            let object = header_fields(Object::new(), response.header.as_ref());
            let object = object.always("id", response.id).always("ttl", response.ttl);
            let keys = if response.keys.is_empty() {
                "null".to_owned()
            } else {
                array(keys)
            };
            object
                .always("granted-ttl", response.granted_ttl)
                .always("keys", keys)
                .end()
        }
        Reply::Leases(response) => {
            let leases = response
                .leases
                .iter()
                .map(|lease| Object::new().always("id", lease.id).end());
            let object = header_fields(Object::new(), response.header.as_ref());
            object.always("leases", array(leases)).end()
        }
        Reply::LeaseRevoke(_, response) => Object::new().header(response.header.as_ref()).end(),
        Reply::LeaderMoved(_, _, response) => Object::new().header(response.header.as_ref()).end(),
        Reply::Done(_, header) => Object::new().header(header.as_ref()).end(),
        Reply::Role(_, response) => {
            let permission = |permission: &Permission| {
                let object = Object::new().number("permType", permission.perm_type);
                let object = object.bytes("key", &permission.key);
                object.bytes("range_end", &permission.range_end).end()
            };
            let permissions = response.perm.iter().map(permission).collect();
            let object = Object::new().header(response.header.as_ref());
            object.list("perm", permissions).end()
        }
        Reply::Roles(response) => {
            let object = Object::new().header(response.header.as_ref());
            object.strings("roles", &response.roles).end()
        }
        Reply::User(_, response) => {
            let object = Object::new().header(response.header.as_ref());
            object.strings("roles", &response.roles).end()
        }
        Reply::Users(response) => {
            let object = Object::new().header(response.header.as_ref());
            object.strings("users", &response.users).end()
        }
        Reply::AuthStatus(response) => {
            let object = Object::new().header(response.header.as_ref());
            let object = object.flag("enabled", response.enabled);
            object.number("authRevision", response.auth_revision).end()
        }
        Reply::Downgrade(_, response) => {
            let object = Object::new().header(response.header.as_ref());
            object.string("version", &response.version).end()
        }
        Reply::Alarms(response) => {
            let alarm = |alarm: &kvorum_proto::etcdserverpb::AlarmMember| {
                Object::new()
                    .number("memberID", alarm.member_id)
                    .number("alarm", alarm.alarm)
                    .end()
            };
            let alarms = response.alarms.iter().map(alarm).collect();
            Object::new()
                .header(response.header.as_ref())
                .list("alarms", alarms)
                .end()
        }
        Reply::Members(response) => {
            membership(hex, response.header.as_ref(), None, &response.members)
        }
        Reply::MemberAdded(response) => membership(
            hex,
            response.header.as_ref(),
            response.member.as_ref(),
            &response.members,
        ),
        Reply::MemberRemoved(_, response) => {
            membership(hex, response.header.as_ref(), None, &response.members)
        }
        Reply::MemberUpdated(_, response) => {
            membership(hex, response.header.as_ref(), None, &response.members)
        }
        Reply::MemberPromoted(_, response) => {
            membership(hex, response.header.as_ref(), None, &response.members)
        }
        Reply::Health(endpoints) => listed(endpoints.iter().map(health)),
        Reply::Status(endpoints) => listed(endpoints.iter().map(|(endpoint, response)| {
            let object = Object::new().always("Endpoint", json_string(endpoint));
            object.always("Status", status(response)).end()
        })),
        Reply::Hashes(endpoints) => listed(endpoints.iter().map(|(endpoint, response)| {
            let object = Object::new().always("Endpoint", json_string(endpoint));
            object.always("HashKV", hash(response)).end()
        })),
    };
    json + "\n"
}

/// Fields that are messages; left out if there is none.
trait Messages {
    fn header(self, header: Option<&ResponseHeader>) -> Self;
    fn pair(self, name: &str, kv: Option<&KeyValue>) -> Self;
}

impl Messages for Object {
    fn header(self, header: Option<&ResponseHeader>) -> Self {
        match header {
            None => self,
            Some(_) => self.always("header", header_fields(Object::new(), header).end()),
        }
    }

    fn pair(self, name: &str, kv: Option<&KeyValue>) -> Self {
        match kv {
            None => self,
            Some(kv) => self.always(name, pair(kv)),
        }
    }
}

fn header_fields(object: Object, header: Option<&ResponseHeader>) -> Object {
    let Some(header) = header else { return object };
    let object = object
        .number("cluster_id", header.cluster_id)
        .number("member_id", header.member_id);
    object
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
}

fn pair(kv: &KeyValue) -> String {
    let object = Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision);
    let object = object
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version);
    object
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .end()
}

fn put(response: &PutResponse) -> String {
    let object = Object::new().header(response.header.as_ref());
    object.pair("prev_kv", response.prev_kv.as_ref()).end()
}

fn range(response: &RangeResponse) -> String {
    let object = Object::new().header(response.header.as_ref());
    let object = object.list("kvs", response.kvs.iter().map(pair).collect());
    object
        .flag("more", response.more)
        .number("count", response.count)
        .end()
}

fn delete(response: &DeleteRangeResponse) -> String {
    let object = Object::new()
        .header(response.header.as_ref())
        .number("deleted", response.deleted);
    object
        .list("prev_kvs", response.prev_kvs.iter().map(pair).collect())
        .end()
}

fn txn(response: &TxnResponse) -> String {
    let operation = |operation: &kvorum_proto::etcdserverpb::ResponseOp| {
        let (name, json) = match &operation.response {
            Some(Response::ResponseRange(response)) => ("response_range", range(response)),
            Some(Response::ResponsePut(response)) => ("response_put", put(response)),
            Some(Response::ResponseDeleteRange(response)) => {
                ("response_delete_range", delete(response))
            }
            Some(Response::ResponseTxn(response)) => ("response_txn", txn(response)),
            None => return Object::new().always("Response", "{}").end(),
        };
        let response = Object::new().always(name, json).end();
        Object::new().always("Response", response).end()
    };
    let object = Object::new()
        .header(response.header.as_ref())
        .flag("succeeded", response.succeeded);
    object
        .list(
            "responses",
            response.responses.iter().map(operation).collect(),
        )
        .end()
}

fn watch(response: &WatchResponse) -> String {
    let event = |event: &Event| {
        let object = Object::new()
            .number("type", event.r#type)
            .pair("kv", event.kv.as_ref());
        object.pair("prev_kv", event.prev_kv.as_ref()).end()
    };
    let header = header_fields(Object::new(), response.header.as_ref()).end();
    let events = listed(response.events.iter().map(event));
    let object = Object::new()
        .always("Header", header)
        .always("Events", events);
    let object = object
        .always("CompactRevision", response.compact_revision)
        .always("Canceled", response.canceled);
    let object = object.always("Created", response.created);
    object
        .always("CancelReason", json_string(&response.cancel_reason))
        .end()
}

fn membership(
    hex: bool,
    header: Option<&ResponseHeader>,
    added: Option<&Member>,
    members: &[Member],
) -> String {
    let object = if hex {
        let header = header.copied().unwrap_or_default();
        let object =
            Object::new().always("cluster_id", format_args!("\"{:x}\"", header.cluster_id));
        let object = object.always("member_id", format_args!("\"{:x}\"", header.member_id));
        let object = object
            .number("revision", header.revision)
            .number("raft_term", header.raft_term);
        Object::new().always("header", object.end())
    } else {
        Object::new().header(header)
    };
    let object = match added {
        Some(added) => object.always("member", member(hex, added)),
        None => object,
    };
    let members = members
        .iter()
        .map(|listed| member(hex, listed))
        .collect::<Vec<_>>();
    if hex {
        object.always("members", array(members.into_iter())).end()
    } else {
        object.list("members", members).end()
    }
}

fn member(hex: bool, member: &Member) -> String {
    let object = if hex {
        Object::new().always("ID", format_args!("\"{:x}\"", member.id))
    } else {
        Object::new().number("ID", member.id)
    };
    let object = object
        .string("name", &member.name)
        .strings("peerURLs", &member.peer_ur_ls);
    object
        .strings("clientURLs", &member.client_ur_ls)
        .flag("isLearner", member.is_learner)
        .end()
}

fn health(health: &Health) -> String {
    let object = Object::new()
        .always("endpoint", json_string(&health.endpoint))
        .always("health", health.healthy);
    object
        .always("took", json_string(&health.took))
        .string("error", &health.error)
        .end()
}

fn status(response: &StatusResponse) -> String {
    let object = Object::new()
        .header(response.header.as_ref())
        .string("version", &response.version);
    let object = object
        .number("dbSize", response.db_size)
        .number("leader", response.leader);
    let object = object
        .number("raftIndex", response.raft_index)
        .number("raftTerm", response.raft_term);
    let object = object
        .number("raftAppliedIndex", response.raft_applied_index)
        .strings("errors", &response.errors);
    let object = object
        .number("dbSizeInUse", response.db_size_in_use)
        .flag("isLearner", response.is_learner);
    let object = object.string("storageVersion", &response.storage_version);
    let object = object.number("dbSizeQuota", response.db_size_quota);
    match &response.downgrade_info {
        None => object.end(),
        Some(downgrade) => {
            let info = Object::new().flag("enabled", downgrade.enabled);
            let info = info.string("targetVersion", &downgrade.target_version);
            object.always("downgradeInfo", info.end()).end()
        }
    }
}

fn hash(response: &HashKvResponse) -> String {
    let object = Object::new()
        .header(response.header.as_ref())
        .number("hash", response.hash);
    let object = object.number("compact_revision", response.compact_revision);
    object.number("hash_revision", response.hash_revision).end()
}
