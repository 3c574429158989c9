//! What a request is answered with.
//!
//! Responses hold records, not messages: [`Response::encode`] copies each record's bytes, which
//! were made when it was applied, straight into the reply.
//!
//! Headers. The answering member fills in cluster, member and term; the revision is the one the
//! request was applied at. Responses about members have no revision. Inside a transaction a
//! header has a revision and nothing else, and that of a nested transaction is empty.
//!
//! Source: etcd v3.7.1 server/etcdserver/txn/txn.go (newTxnResp), api/v3rpc/header.go.

use bytes::BufMut;
use kvorum_mvcc::{Few, RangeReply, Record};
use kvorum_proto::etcdserverpb::{AlarmMember, Member, ResponseHeader};
use kvorum_proto::ids::LeaseId;
use prost::Message as _;

use super::wire::{self, Length, Out};
use crate::auth;

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To a range that stood in the log.
    Range(Range),
    /// To a put.
    Put(Put),
    /// To a delete.
    DeleteRange(DeleteRange),
    /// To a transaction.
    Txn(Txn),
    /// To a compaction.
    Compaction {
        /// The store's revision.
        revision: i64,
    },
    /// To the grant of a lease.
    LeaseGrant {
        /// The store's revision.
        revision: i64,
        /// The lease.
        id: LeaseId,
        /// Its lifetime in seconds.
        ttl_seconds: i64,
    },
    /// To the revoke of a lease.
    LeaseRevoke {
        /// The store's revision, the deletes included.
        revision: i64,
    },
    /// To an alarm request.
    Alarm {
        /// The store's revision.
        revision: i64,
        /// The alarms listed or changed.
        alarms: Vec<AlarmMember>,
    },
    /// To the question whether users are asked for.
    AuthStatus {
        /// The store's revision.
        revision: i64,
        /// The answer.
        status: auth::Status,
    },
    /// To the addition of a member.
    MemberAdd {
        /// The new member.
        member: Member,
        /// All members after the change.
        members: Vec<Member>,
    },
    /// To the other membership changes.
    Members(Vec<Member>),
    /// To what members propose on their own: checkpoints of leases, the cluster's version, a
    /// member's name, a downgrade.
    Done {
        /// The store's revision.
        revision: i64,
    },
}

/// The answer to a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The store's revision, inside a transaction with the changes made so far.
    pub revision: i64,
    /// The pairs.
    pub reply: RangeReply,
}

/// The answer to a put.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The revision of the put.
    pub revision: i64,
    /// The pair before, if asked for and there.
    pub previous: Option<Record>,
}

/// The answer to a delete.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteRange {
    /// The revision of the delete; that before it if nothing was deleted.
    pub revision: i64,
    /// How many pairs were deleted.
    pub deleted: i64,
    /// The pairs, if asked for.
    pub previous: Vec<Record>,
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Txn {
    /// The revision of its changes; that before it if it changed nothing. 0 for a nested one,
    /// whose header is empty.
    pub revision: i64,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// An answer for each operation of the branch that was taken.
    pub responses: Few<Operation>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// To a range; none where nobody waits for the answer and the range was not executed.
    Range(Option<Range>),
    /// To a put.
    Put(Put),
    /// To a delete.
    DeleteRange(DeleteRange),
    /// To a nested transaction.
    Txn(Box<Txn>),
    /// To an operation without content, which only a log written by others can hold.
    Empty,
}

impl Response {
    /// The revision its header carries; 0 for none.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Range(range) => range.revision,
            Self::Put(put) => put.revision,
            Self::DeleteRange(delete) => delete.revision,
            Self::Txn(txn) => txn.revision,
            Self::Compaction { revision }
            | Self::LeaseGrant { revision, .. }
            | Self::LeaseRevoke { revision }
            | Self::Alarm { revision, .. }
            | Self::AuthStatus { revision, .. }
            | Self::Done { revision } => *revision,
            Self::MemberAdd { .. } | Self::Members(_) => 0,
        }
    }

    /// How many bytes [`Response::encode`] appends.
    pub fn encoded_len(&self, header: &ResponseHeader) -> usize {
        let mut length = Length::default();
        self.write(&self.header(header), &mut length);
        length.0
    }

    /// Appends the response message. `header` says who answers; its revision is replaced.
    pub fn encode(&self, header: &ResponseHeader, out: &mut impl BufMut) {
        self.write(&self.header(header), &mut wire::Bytes(out));
    }

    fn header(&self, header: &ResponseHeader) -> Header {
        Header::new(&ResponseHeader {
            revision: self.revision(),
            ..*header
        })
    }

    fn write(&self, header: &[u8], out: &mut dyn Out) {
        match self {
            Self::Range(range) => return range.write(header, out),
            Self::Put(put) => return put.write(header, out),
            Self::DeleteRange(delete) => return delete.write(header, out),
            Self::Txn(txn) => return txn.write(header, out),
            _ => out.bytes(1, header),
        }
        match self {
            Self::LeaseGrant {
                id, ttl_seconds, ..
            } => {
                out.number(2, id.0);
                out.number(3, *ttl_seconds);
            }
            Self::Alarm { alarms, .. } => {
                for alarm in alarms {
                    out.bytes(2, &alarm.encode_to_vec());
                }
            }
            Self::AuthStatus { status, .. } => {
                out.number(2, i64::from(status.enabled));
                out.number(3, status.revision as i64);
            }
            Self::MemberAdd { member, members } => {
                out.bytes(2, &member.encode_to_vec());
                write_members(3, members, out);
            }
            Self::Members(members) => write_members(2, members, out),
            _ => {}
        }
    }
}

impl Range {
    fn write(&self, header: &[u8], out: &mut dyn Out) {
        let mut bytes = Vec::with_capacity(self.reply.encoded_len(Some(header)));
        self.reply.encode_into(Some(header), &mut bytes);
        out.raw(&bytes);
    }
}

impl Put {
    fn write(&self, header: &[u8], out: &mut dyn Out) {
        out.bytes(1, header);
        if let Some(previous) = &self.previous {
            out.bytes(2, previous.encoded());
        }
    }
}

impl DeleteRange {
    fn write(&self, header: &[u8], out: &mut dyn Out) {
        out.bytes(1, header);
        out.number(2, self.deleted);
        for previous in &self.previous {
            out.bytes(3, previous.encoded());
        }
    }
}

impl Txn {
    fn write(&self, header: &[u8], out: &mut dyn Out) {
        out.bytes(1, header);
        out.number(2, i64::from(self.succeeded));
        for response in &self.responses {
            out.message(3, &|out| response.write(out));
        }
    }
}

impl Operation {
    fn write(&self, out: &mut dyn Out) {
        match self {
            Self::Range(Some(range)) => {
                out.message(1, &|out| range.write(&revision_header(range.revision), out));
            }
            Self::Put(put) => {
                out.message(2, &|out| put.write(&revision_header(put.revision), out));
            }
            Self::DeleteRange(delete) => {
                out.message(3, &|out| {
                    delete.write(&revision_header(delete.revision), out);
                });
            }
            Self::Txn(txn) => out.message(4, &|out| txn.write(&revision_header(txn.revision), out)),
            Self::Range(None) | Self::Empty => {}
        }
    }
}

fn revision_header(revision: i64) -> Header {
    Header::new(&ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// Four numbers of at most ten bytes, each with a tag of one.
const HEADER_BYTES_MAX: usize = 4 * 11;

/// An encoded header. It is made for each response, so it costs no allocation.
struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    length: usize,
}

impl Header {
    fn new(header: &ResponseHeader) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let mut room = &mut bytes[..];
        header
            .encode(&mut room)
            .expect("four numbers fit their most bytes");
        let length = HEADER_BYTES_MAX - room.len();
        Self { bytes, length }
    }
}

impl std::ops::Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn write_members(field: u32, members: &[Member], out: &mut dyn Out) {
    for member in members {
        out.bytes(field, &member.encode_to_vec());
    }
}
