//! Which output of which machine is input to which other.
//!
//! The server and the simulator both go through here (by way of [`Core`](crate::core::Core)), so
//! there is no second glue that could differ. A route is a function of one output; what the router
//! remembers is only what a route depends on.
//!
//! ```text
//!            Append                 Persisted
//! consensus ────────► log      log ───────────► consensus
//! consensus ─Commit, ReadReady► apply ─Applied, ConfChanged, intents► consensus
//! consensus ─settled► lease    lease ─revokes─► consensus     apply ─grants─► lease
//! log ─Job► outside   apply ─replies, events, views► outside   lease ─answers► outside
//! ```

use kvorum_mvcc::{EventBatch, View, watch};
use kvorum_proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
    RequestHeader, internal_raft_request::Payload,
};
use kvorum_proto::ids::{LeaseId, LogIndex, MemberId, RequestId, Term};
use kvorum_proto::{raftpb, walpb};
use kvorum_storage::wal;
use prost::Message as _;

use crate::apply::{self, Effect, RequestError};
use crate::consensus::{self, Leadership, ReadToken, Refusal, SnapshotNumber};
use crate::core::Output;
use crate::lease;

/// Why a member that was removed stops.
/// Source: etcd 3.7.1 `server/etcdserver/server.go`, `applyAll`.
pub const REMOVED: &str = "the member has been permanently removed from the cluster";

/// An output on its way to where it belongs.
#[derive(Debug)]
pub(crate) enum Delivery {
    Consensus(consensus::Input),
    Append(LogInput),
    /// The state of this snapshot has its turn.
    Install(LogIndex),
    /// The state of this snapshot is not needed.
    Drop(LogIndex),
    /// A peer is to get the whole state.
    SendSnapshot(SnapshotNumber, Box<raftpb::Message>),
    Apply(apply::Input),
    Lease(lease::Input),
    Outside(Output),
}

/// Read tokens from here on are confirmations for the lease deadlines, those below come from outside.
pub(crate) const CONFIRM_TOKENS: u64 = 1 << 63;

/// Read tokens from here on ask what was committed when a received state had taken the place of the own one.
pub(crate) const INSTALLED_TOKENS: u64 = CONFIRM_TOKENS | 1 << 62;

/// What the log is told.
#[derive(Debug)]
pub(crate) enum LogInput {
    Append(wal::Append),
    Snapshot {
        ticket: wal::Ticket,
        snapshot: walpb::Snapshot,
        hard_state: raftpb::HardState,
        received: bool,
    },
}

/// The routes; see the module.
#[derive(Debug)]
pub(crate) struct Router {
    /// Whether lease deadlines were told to count down.
    primary: bool,
    /// Whether the watch hub was told of a leader, and of which term.
    watch_leadership: (Term, bool),
    /// The store as last published: watchers read history from it.
    keys: View,
}

impl Router {
    pub(crate) fn new(keys: View) -> Self {
        Router {
            primary: false,
            watch_leadership: (Term(0), false),
            keys,
        }
    }

    pub(crate) fn route_consensus(&mut self, output: consensus::Output, to: &mut Vec<Delivery>) {
        use consensus::Output as From;
        to.push(match output {
            From::Append(append) => Delivery::Append(LogInput::Append(append)),
            From::AppendSnapshot {
                ticket,
                snapshot,
                hard_state,
                received,
            } => Delivery::Append(LogInput::Snapshot {
                ticket,
                snapshot,
                hard_state,
                received,
            }),
            From::Install(index) => Delivery::Install(index),
            From::SnapshotRefused(index) => Delivery::Drop(index),
            From::SendSnapshot(number, message) => Delivery::SendSnapshot(number, message),
            From::Commit(entries) => Delivery::Apply(apply::Input::Committed(entries)),
            From::ReadReady { tokens, index } => {
                Delivery::Apply(apply::Input::ReadAt { tokens, index })
            }
            From::Refused {
                id: RequestId(0), ..
            } => return,
            From::Refused { id, reason } => Delivery::Outside(Output::Reply {
                id,
                result: Err(refusal(reason)),
            }),
            // Without a leader nobody knows more, and those who wait have waited long.
            From::ReadRefused { token, .. } if token.0 >= INSTALLED_TOKENS => {
                Delivery::Outside(Output::AnswersLost)
            }
            From::ReadRefused { token, .. } if token.0 >= CONFIRM_TOKENS => {
                Delivery::Lease(lease::Input::Unconfirmed(round_of(token)))
            }
            From::ReadRefused { token, reason } => Delivery::Outside(Output::ReadRefused {
                token,
                error: refusal(reason),
            }),
            From::Send(message) => Delivery::Outside(Output::Send(message)),
            From::Leadership(leadership) => return self.leadership(leadership, to),
            From::Stop(reason) => Delivery::Outside(Output::Stop { reason }),
        });
    }

    fn leadership(&mut self, leadership: Leadership, to: &mut Vec<Delivery>) {
        if self.primary != leadership.settled {
            self.primary = leadership.settled;
            let told = if self.primary {
                lease::Input::Promoted
            } else {
                lease::Input::Demoted
            };
            to.push(Delivery::Lease(told));
        }
        let (term, has_leader) = (leadership.term, leadership.leader != MemberId(0));
        if self.watch_leadership != (term, has_leader) {
            self.watch_leadership = (term, has_leader);
            to.push(watch(watch::Input::Leadership { term, has_leader }));
        }
        to.push(Delivery::Outside(Output::Leadership(leadership)));
    }

    /// `replayed`: the entry was committed before this start. Then nobody waits for replies and
    /// there is no watcher; everything else happens as it did the first time.
    pub(crate) fn route_apply(&mut self, effect: Effect, replayed: bool) -> Option<Delivery> {
        Some(match effect {
            Effect::Published(view) => {
                self.keys = view.keys.clone();
                Delivery::Outside(Output::Publish(view))
            }
            Effect::Reply { .. } | Effect::Accepted { .. } | Effect::Events(_) if replayed => {
                return None;
            }
            Effect::Accepted { id } => Delivery::Outside(Output::Accepted { id }),
            Effect::Reply { id, result } => Delivery::Outside(Output::Reply { id, result }),
            Effect::Events(batch) => self.route_events(vec![batch]),
            // Core sorts them before.
            Effect::ReadReady(tokens) => Delivery::Outside(Output::ReadReady(tokens)),
            Effect::Lease(input) => Delivery::Lease(input),
            Effect::ConfChanged { index, change } => {
                Delivery::Consensus(consensus::Input::ConfChanged { index, change })
            }
            Effect::Applied(index) => Delivery::Consensus(consensus::Input::Applied(index)),
            Effect::CompactionScheduled { .. } => watch(watch::Input::Compacted {
                view: self.keys.clone(),
            }),
            Effect::Removed => Delivery::Outside(Output::Stop {
                reason: REMOVED.to_owned(),
            }),
            Effect::Stop(reason) => Delivery::Outside(Output::Stop { reason }),
            notice @ (Effect::RosterChanged
            | Effect::AlarmsChanged
            | Effect::ClusterVersionChanged(_)
            | Effect::Checkpointed(_)
            | Effect::CompactionFinished { .. }) => Delivery::Outside(Output::Notice(notice)),
        })
    }

    /// The changes of a batch of entries, told to the watchers as one.
    pub(crate) fn route_events(&self, batches: Vec<EventBatch>) -> Delivery {
        watch(watch::Input::Events {
            batches,
            view: self.keys.clone(),
        })
    }

    pub(crate) fn route_log(&self, output: wal::Output) -> Delivery {
        match output {
            wal::Output::Job(job) => Delivery::Outside(Output::Job(job)),
            wal::Output::Persisted(ticket) => {
                Delivery::Consensus(consensus::Input::Persisted(ticket))
            }
        }
    }

    pub(crate) fn route_lease(&self, output: lease::Output) -> Delivery {
        match output {
            lease::Output::Confirm(round) => {
                let token = ReadToken(CONFIRM_TOKENS | round.0);
                Delivery::Consensus(consensus::Input::Read(token))
            }
            lease::Output::Revoke(id) => intent(revoke(id)),
            lease::Output::ClearCheckpoint(id) => intent(checkpoints(&[(id, 0)])),
            lease::Output::WriteRests(rests) => intent(checkpoints(&rests)),
            answer => Delivery::Outside(Output::Lease(answer)),
        }
    }
}

fn watch(input: watch::Input) -> Delivery {
    Delivery::Outside(Output::Watch(input))
}

/// The confirmation that the deadlines asked for with this read.
pub(crate) fn round_of(token: ReadToken) -> lease::Round {
    lease::Round(token.0 - CONFIRM_TOKENS)
}

/// Proposes what no caller waits for. It may be dropped on the way, and is when this member leads no
/// longer: whoever wants it asks again.
fn intent(payload: Payload) -> Delivery {
    let request = InternalRaftRequest {
        header: Some(RequestHeader::default()),
        payload: Some(payload),
        ..Default::default()
    };
    Delivery::Consensus(consensus::Input::Intend(request.encode_to_vec().into()))
}

fn revoke(id: LeaseId) -> Payload {
    Payload::LeaseRevoke(LeaseRevokeRequest { id: id.0 })
}

fn checkpoints(rests: &[(LeaseId, i64)]) -> Payload {
    let checkpoint = |(id, remaining_ttl): &(LeaseId, i64)| LeaseCheckpoint {
        id: id.0,
        remaining_ttl: *remaining_ttl,
    };
    Payload::LeaseCheckpoint(LeaseCheckpointRequest {
        checkpoints: rests.iter().map(checkpoint).collect(),
    })
}

fn refusal(reason: Refusal) -> RequestError {
    match reason {
        Refusal::TooManyRequests => RequestError::TooManyRequests,
        // etcd lets a request without a leader wait until its time is over.
        Refusal::NoLeader => RequestError::Timeout,
        Refusal::Removed => RequestError::Stopped,
        Refusal::Malformed => RequestError::UnknownMethod,
    }
}
