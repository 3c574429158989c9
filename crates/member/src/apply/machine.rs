//! The machine: committed entries in, effects out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;
use kvorum_mvcc::{Counts, ReadError, SegmentCounts, Sizes};
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{InternalRaftRequest, Request};
use kvorum_proto::ids::{LeaseId, LogIndex, MemberId, RequestId, Term};
use kvorum_proto::raftpb::{self, EntryType};
use kvorum_storage::checkpoint::Listed;
use prost::Message as _;

use super::compaction::{self, Removal};
use super::response::Range;
use super::state::State;
use super::{
    ClusterState, Digest, Effect, ReadView, RequestError, Response, alarm, cluster, delete_range,
    lease, put, txn, v2,
};
use crate::auth;
use crate::consensus::ReadToken;
use crate::lease::Grants;
use crate::spare::{Spare, SpareTxn};

/// What applying is told.
#[derive(Debug)]
pub enum Input {
    /// These entries are committed. They follow each other and the last one applied.
    Committed(Vec<raftpb::Entry>),
    /// These reads may run once `index` is applied.
    ReadAt {
        /// The reads.
        tokens: Vec<ReadToken>,
        /// What they must see.
        index: LogIndex,
    },
    /// Go on from this state, which a leader has sent and which is newer than all that was applied.
    /// Reads that wait here wait on; requests whose entries are in it are never answered.
    Install(Box<Apply>),
    /// Do a bounded part of the removal of compacted history.
    CompactStep {
        /// Most records to visit; 0 counts as 1.
        records_max: usize,
    },
    /// Let the reported size follow what is in use. Changes nothing that is replicated.
    Defragment,
}

/// What this member is, for the effects that are for it alone. The state never depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// This member.
    pub member: MemberId,
    /// The first request id of this run. Requests are numbered upwards from it, and the upper
    /// [`MEMBER_BITS`] bits of all of them say which member numbered them.
    pub first_request: RequestId,
}

/// How many upper bits of a request id name the member.
pub const MEMBER_BITS: u32 = 16;

/// Why an entry stops the process that holds none of the requests below.
const UNKNOWN: &str = "the request is unknown to this release";
const USERS: &str = "the request changes users or roles, which this release does not have";

/// What the entry of a transaction begins with: the key of field 6 of `InternalRaftRequest`, which has a length.
const TXN_KEY: u8 = 6 << 3 | 2;

impl Local {
    /// Whether a request was proposed here in this run, so that somebody may wait for it.
    pub fn waits_for(&self, id: RequestId) -> bool {
        let member = |id: RequestId| id.0 >> (u64::BITS - MEMBER_BITS);
        member(id) == member(self.first_request) && id >= self.first_request
    }
}

/// Why an entry has no response.
#[derive(Debug)]
pub(super) enum Refused {
    /// The same on every member.
    Request(RequestError),
    /// No correct member proposes this.
    Broken(String),
    /// It was carried out, and the response is kept back.
    Later,
}

impl Refused {
    pub(super) fn broken(reason: &dyn fmt::Display) -> Self {
        Self::Broken(reason.to_string())
    }
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        match error {
            // What one disk did is no result of the request: another member would give another.
            RequestError::Damaged(damage) => Self::Broken(damage.to_string()),
            error => Self::Request(error),
        }
    }
}

impl From<ReadError> for RequestError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { asked, compacted } => Self::Compacted { asked, compacted },
            ReadError::Future { asked, current } => Self::FutureRevision { asked, current },
            ReadError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

/// Applies committed entries to the replicated state.
#[derive(Debug)]
pub struct Apply {
    pub(super) local: Local,
    pub(super) state: State,
    /// The files that the state was restored from.
    pub(super) files: Vec<Listed>,
    /// Reads whose index is not applied yet.
    reads: BTreeMap<LogIndex, Vec<ReadToken>>,
    pub(super) removal: Removal,
    /// After a broken invariant nothing is taken any more.
    stopped: bool,
    pub(super) effects: VecDeque<Effect>,
    /// Of the effects of a batch.
    spare_effects: Spare<Effect>,
    /// Of the transactions among its entries.
    spare_txn: SpareTxn,
}

impl Apply {
    /// With the state before the first entry.
    pub fn new(local: Local) -> Self {
        Self {
            local,
            state: State::default(),
            files: Vec::new(),
            reads: BTreeMap::new(),
            removal: Removal::default(),
            stopped: false,
            effects: VecDeque::new(),
            spare_effects: Spare::default(),
            spare_txn: SpareTxn::default(),
        }
    }

    /// Takes one input.
    pub fn input(&mut self, input: Input) {
        if self.stopped {
            return;
        }
        match input {
            Input::Committed(entries) => self.committed(entries),
            Input::ReadAt { tokens, index } => {
                if index <= self.state.applied {
                    self.effects.push_back(Effect::ReadReady(tokens));
                } else {
                    self.reads.entry(index).or_default().extend(tokens);
                }
            }
            Input::Install(state) => self.install(*state),
            Input::CompactStep { records_max } => {
                match self.removal.step(&mut self.state, records_max) {
                    Ok(effects) => self.effects.extend(effects),
                    Err(damage) => self.stop(damage.to_string()),
                }
            }
            Input::Defragment => {
                self.state.store.defragment();
                self.effects
                    .push_back(Effect::Published(self.state.read_view()));
            }
        }
    }

    /// The next effect, if there is one.
    pub fn take_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The state for readers, as of the last entry applied.
    pub fn read_view(&self) -> ReadView {
        self.state.read_view()
    }

    /// What is not keys and not leases.
    pub fn cluster(&self) -> &ClusterState {
        self.state.cluster()
    }

    /// The leases and the keys that hang on them.
    pub fn grants(&self) -> &Grants {
        &self.state.grants
    }

    /// The last entry applied; 0 before the first.
    pub fn applied(&self) -> LogIndex {
        self.state.applied
    }

    /// How much is stored.
    pub fn sizes(&self) -> Sizes {
        self.state.store.view().sizes()
    }

    /// What the store has done.
    pub fn counts(&self) -> Counts {
        self.state.store.counts()
    }

    /// The files of the store in numbers.
    pub fn segment_counts(&self) -> SegmentCounts {
        self.state.store.segment_counts()
    }

    /// Whether compacted history waits to be removed by [`Input::CompactStep`].
    pub fn compaction_pending(&self) -> bool {
        self.removal.pending
    }

    /// Hashes the replicated state. Looks at everything: for tests and the simulator.
    pub fn digest(&self) -> Digest {
        self.state.digest()
    }

    /// Panics when an invariant is broken. Looks at everything: for tests and the simulator.
    pub fn check_invariants(&self) {
        self.state.check_invariants();
        let next = self.reads.keys().next();
        assert!(
            next.is_none_or(|index| *index > self.state.applied),
            "reads wait for the future"
        );
    }

    fn install(&mut self, new: Self) {
        if new.state.applied <= self.state.applied {
            let (new, old) = (new.state.applied.0, self.state.applied.0);
            self.stop(format!("a snapshot at {new} must not follow entry {old}"));
            return;
        }
        let counts = self.state.store.counts();
        self.state = new.state;
        self.state.store.count_on(counts);
        let removal = std::mem::replace(&mut self.removal, new.removal);
        self.files = new.files;
        let leases = self.state.grants.to_deadlines();
        let revision = self.state.store.view().compact_revision();
        self.effects.extend([
            Effect::Published(self.state.read_view()),
            Effect::Lease(leases),
            Effect::RosterChanged,
            Effect::AlarmsChanged,
            Effect::CompactionScheduled { revision },
        ]);
        self.effects.extend(removal.into_replies());
        self.release_reads();
        self.effects.push_back(Effect::Applied(self.state.applied));
    }

    fn stop(&mut self, reason: String) {
        self.stopped = true;
        self.effects.push_back(Effect::Stop(reason));
    }

    fn committed(&mut self, entries: Vec<raftpb::Entry>) {
        let mut effects = self.spare_effects.take();
        let mut broken = None;
        for entry in entries {
            let index = entry.index();
            if let Err(reason) = self.entry(entry, &mut effects) {
                broken = Some(format!("log entry {index}: {reason}"));
                break;
            }
        }
        self.effects
            .push_back(Effect::Published(self.state.read_view()));
        self.effects.extend(effects.drain(..));
        self.spare_effects.put_back(effects);
        self.release_reads();
        self.effects.push_back(Effect::Applied(self.state.applied));
        if let Some(reason) = broken {
            self.stop(reason);
        }
    }

    /// Hands out the reads whose index is applied. The view they run on is published before.
    fn release_reads(&mut self) {
        while let Some(first) = self.reads.first_entry() {
            if *first.key() > self.state.applied {
                break;
            }
            self.effects.push_back(Effect::ReadReady(first.remove()));
        }
    }

    fn entry(&mut self, entry: raftpb::Entry, effects: &mut Vec<Effect>) -> Result<(), String> {
        let (index, expected) = (entry.index(), self.state.applied.0 + 1);
        if index != expected {
            return Err(format!("entry {expected} should come next"));
        }
        let kind = entry.r#type.unwrap_or_default();
        let (term, data) = (Term(entry.term()), entry.data.unwrap_or_default());
        let (id, result) = match EntryType::try_from(kind) {
            // What a leader begins its term with.
            Ok(EntryType::EntryNormal) if data.is_empty() => (RequestId(0), None),
            Ok(EntryType::EntryNormal) => {
                let request = decode(data, &mut self.spare_txn)?;
                let in_header = || request.header.as_ref().map_or(0, |header| header.id);
                let id = RequestId(if request.id == 0 {
                    in_header()
                } else {
                    request.id
                });
                (id, Some(self.request(id, request.payload, effects)))
            }
            Ok(EntryType::EntryConfChange) => {
                let change = raftpb::ConfChange::decode(data)
                    .map_err(|error| format!("configuration change does not decode: {error}"))?;
                let id = RequestId(change.id());
                let this = self.local.member;
                (
                    id,
                    Some(cluster::conf_change(&mut self.state, change, this, effects)),
                )
            }
            Ok(EntryType::EntryConfChangeV2) | Err(_) => {
                return Err(format!("kind {kind} of entry is unknown"));
            }
        };
        if let Some(result) = result {
            self.reply(id, result, effects)?;
        }
        self.state.applied = LogIndex(index);
        self.state.term = term;
        Ok(())
    }

    fn reply(
        &mut self,
        id: RequestId,
        result: Result<Response, Refused>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let result = match result {
            Ok(response) => Ok(response),
            Err(Refused::Request(error)) => Err(error),
            Err(Refused::Broken(reason)) => return Err(reason),
            Err(Refused::Later) => return Ok(()),
        };
        if self.local.waits_for(id) {
            effects.push(Effect::Reply { id, result });
        }
        Ok(())
    }

    fn request(
        &mut self,
        id: RequestId,
        payload: Option<Payload>,
        effects: &mut Vec<Effect>,
    ) -> Result<Response, Refused> {
        let payload = payload.ok_or_else(|| Refused::broken(&UNKNOWN))?;
        alarm::check(&self.state.cluster().alarms, &payload)?;
        let waits = self.local.waits_for(id);
        let state = &mut self.state;
        match payload {
            Payload::Range(_) | Payload::Put(_) | Payload::DeleteRange(_) | Payload::Txn(_) => {
                self.keys(payload, waits, effects)
            }
            Payload::Compaction(request) => {
                let response = compaction::execute(state, &request, effects)?;
                self.removal.pending = true;
                if request.physical && waits {
                    self.removal.wait(request.revision, id, response);
                    effects.push(Effect::Accepted { id });
                    return Err(Refused::Later);
                }
                Ok(response)
            }
            Payload::LeaseGrant(request) => lease::grant(state, &request, effects),
            Payload::LeaseRevoke(request) => lease::revoke(state, LeaseId(request.id), effects),
            Payload::LeaseCheckpoint(request) => lease::checkpoint(state, &request, effects),
            Payload::Alarm(request) => Ok(alarm::execute(state, &request, effects)),
            Payload::AuthStatus(_) => Ok(Response::AuthStatus {
                revision: state.store.current_revision(),
                status: state.cluster().auth,
            }),
            Payload::ClusterMemberAttrSet(request) => cluster::publish(state, request, effects),
            Payload::ClusterVersionSet(request) => cluster::set_version(state, &request, effects),
            Payload::DowngradeInfoSet(request) => Ok(cluster::set_downgrade(state, request)),
            Payload::DowngradeVersionTest(_) => Ok(cluster::done(state)),
            // Official members log questions about users, too. They change nothing.
            Payload::AuthUserGet(_)
            | Payload::AuthUserList(_)
            | Payload::AuthRoleGet(_)
            | Payload::AuthRoleList(_)
            | Payload::Authenticate(_) => Ok(cluster::done(state)),
            Payload::V2(request) => v2::execute(state, request, effects),
            payload if auth::is_change(&payload) => Err(Refused::broken(&USERS)),
            _ => Err(Refused::broken(&UNKNOWN)),
        }
    }

    /// Requests that read or write keys and nothing else.
    fn keys(
        &mut self,
        payload: Payload,
        waits: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Response, Refused> {
        let state = &mut self.state;
        match payload {
            Payload::Range(request) => {
                let reply = state
                    .store
                    .view()
                    .range(&request)
                    .map_err(RequestError::from)?;
                Ok(Response::Range(Range {
                    revision: state.store.current_revision(),
                    reply,
                }))
            }
            Payload::Put(request) => {
                let (put, events) = state.write(|writer| put::execute_checked(writer, &request));
                effects.extend(events.map(Effect::Events));
                Ok(put?.into())
            }
            Payload::DeleteRange(request) => {
                let (delete, events) =
                    state.write(|writer| delete_range::execute(writer, &request));
                effects.extend(events.map(Effect::Events));
                Ok(delete?.into())
            }
            Payload::Txn(request) => {
                let (txn, events) = state.write(|writer| txn::execute(writer, &request, waits));
                self.spare_txn.put_back(request);
                effects.extend(events.map(Effect::Events));
                Ok(txn?.into())
            }
            _ => Err(Refused::broken(&"not a request about keys")),
        }
    }
}

/// Reads a request. Members up to 3.5 log those of the version 2 API without the envelope; as an
/// envelope they never decode, because the name of the method is no message.
fn decode(data: Bytes, spare: &mut SpareTxn) -> Result<InternalRaftRequest, String> {
    let mut request = InternalRaftRequest::default();
    if data.first() == Some(&TXN_KEY) {
        // What is there already is added to, and it is empty.
        request.payload = Some(Payload::Txn(spare.take()));
    }
    let Err(error) = request.merge(data.clone()) else {
        return Ok(request);
    };
    let request = Request::decode(data)
        .ok()
        .filter(|request| !request.method.is_empty());
    match request {
        Some(request) => Ok(InternalRaftRequest {
            header: None,
            id: request.id,
            payload: Some(Payload::V2(request)),
        }),
        None => Err(format!("request does not decode: {error}")),
    }
}
