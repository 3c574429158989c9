//! The bytes of responses are those of the messages.

use kvorum_proto::etcdserverpb::{
    self as pb, AlarmMember, ResponseHeader, TxnResponse, response_op,
};
use kvorum_proto::ids::LeaseId;

use super::*;
use crate::auth;

const HEADER: ResponseHeader = ResponseHeader {
    cluster_id: 1,
    member_id: 2,
    revision: 99,
    raft_term: 4,
};

fn at(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..HEADER })
}

fn inner(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

#[track_caller]
fn check<M: prost::Message + Default + PartialEq + std::fmt::Debug>(
    response: &Response,
    message: M,
) {
    let mut out = bytes::BytesMut::new();
    response.encode(&HEADER, &mut out);
    assert_eq!(M::decode(&out[..]).unwrap(), message);
    assert_eq!(out, message.encode_to_vec());
    assert_eq!(response.encoded_len(&HEADER), out.len());
}

#[test]
fn small_responses_are_messages() {
    let member = pb::Member {
        id: 3,
        name: "m".to_owned(),
        ..pb::Member::default()
    };
    let members = vec![member.clone(), pb::Member::default()];
    check(
        &Response::Compaction { revision: 7 },
        pb::CompactionResponse { header: at(7) },
    );
    check(
        &Response::LeaseRevoke { revision: 7 },
        pb::LeaseRevokeResponse { header: at(7) },
    );
    check(
        &Response::LeaseGrant {
            revision: 7,
            id: LeaseId(-1),
            ttl_seconds: 5,
        },
        pb::LeaseGrantResponse {
            header: at(7),
            id: -1,
            ttl: 5,
            error: String::new(),
        },
    );
    let alarms = vec![
        AlarmMember {
            member_id: 5,
            alarm: 1,
        },
        AlarmMember::default(),
    ];
    check(
        &Response::Alarm {
            revision: 7,
            alarms: alarms.clone(),
        },
        pb::AlarmResponse {
            header: at(7),
            alarms,
        },
    );
    check(
        &Response::AuthStatus {
            revision: 7,
            status: auth::Status {
                enabled: true,
                revision: 9,
            },
        },
        pb::AuthStatusResponse {
            header: at(7),
            enabled: true,
            auth_revision: 9,
        },
    );
    let (header, members) = (at(0), members);
    check(
        &Response::MemberAdd {
            member: member.clone(),
            members: members.clone(),
        },
        pb::MemberAddResponse {
            header,
            member: Some(member),
            members: members.clone(),
        },
    );
    check(
        &Response::Members(members.clone()),
        pb::MemberListResponse { header, members },
    );
}

#[test]
fn pairs_are_spliced_into_responses() {
    let mut world = World::new();
    world.grant(7);
    for value in ["1", "2"] {
        let put = PutRequest {
            value: bytes(value),
            prev_kv: true,
            ..put_with("a", 7)
        };
        let response = world.done(Payload::Put(put));
        let prev_kv = match &response {
            Response::Put(put) => put.previous.as_ref().map(|pair| pair.to_key_value()),
            _ => None,
        };
        assert_eq!(prev_kv.is_some(), value == "2");
        check(
            &response,
            pb::PutResponse {
                header: at(world.revision()),
                prev_kv,
            },
        );
    }
    let all = RangeRequest {
        range_end: bytes("\0"),
        limit: 1,
        ..range("a", 0)
    };
    let found = world
        .apply
        .read_view()
        .keys
        .range(&all)
        .unwrap()
        .to_message(at(3));
    check(&world.done(Payload::Range(all)), found.clone());
    let delete = DeleteRangeRequest {
        prev_kv: true,
        ..delete("a", "z")
    };
    let response = world.done(Payload::DeleteRange(delete));
    check(
        &response,
        pb::DeleteRangeResponse {
            header: at(4),
            deleted: 1,
            prev_kvs: found.kvs,
        },
    );
}

#[test]
fn the_parts_of_a_transaction_carry_a_revision_only() {
    use response_op::Response::{ResponseDeleteRange, ResponsePut, ResponseRange, ResponseTxn};
    let mut world = World::new();
    world.done(Payload::Put(put("old", "1")));
    let nested = then(vec![Request::RequestDeleteRange(delete("old", ""))]);
    let txn = then(vec![
        Request::RequestRange(range("a", 0)),
        Request::RequestPut(put("a", "1")),
        Request::RequestTxn(nested),
    ]);
    let response = world.done(Payload::Txn(txn));
    let op = |response| pb::ResponseOp {
        response: Some(response),
    };
    let deleted = pb::DeleteRangeResponse {
        header: inner(3),
        deleted: 1,
        ..pb::DeleteRangeResponse::default()
    };
    let nested = TxnResponse {
        header: inner(0),
        succeeded: true,
        responses: vec![op(ResponseDeleteRange(deleted))],
    };
    let message = TxnResponse {
        header: at(3),
        succeeded: true,
        responses: vec![
            op(ResponseRange(pb::RangeResponse {
                header: inner(2),
                ..pb::RangeResponse::default()
            })),
            op(ResponsePut(pb::PutResponse {
                header: inner(3),
                prev_kv: None,
            })),
            op(ResponseTxn(nested)),
        ],
    };
    check(&response, message);
}

#[test]
fn a_transaction_of_ranges_is_answered_from_a_view() {
    let mut world = World::new();
    world.done(Payload::Put(put("a", "1")));
    let txn = then(vec![Request::RequestRange(range("a", 0))]);
    let read = |txn| super::super::read_txn(&world.apply.read_view().keys, txn);
    let expected = read(&txn).map(Response::Txn);
    let future = then(vec![Request::RequestRange(range("a", 3))]);
    let error = RequestError::FutureRevision {
        asked: 3,
        current: 2,
    };
    assert_eq!(read(&future), Err(error));
    assert_eq!(Ok(world.done(Payload::Txn(txn))), expected);
}
