//! Compactions: the request, and the removal that follows it.
//!
//! A compaction takes effect for every reader when its entry is applied; taking the records out
//! of memory goes on in bounded steps afterwards. Who asked for a physical compaction is answered
//! when that is done.

use kvorum_proto::etcdserverpb::CompactionRequest;
use kvorum_proto::ids::RequestId;

use super::machine::Refused;
use super::state::State;
use super::{Effect, RequestError, Response};
use kvorum_mvcc::{CompactError, CompactFinished};
use kvorum_storage::segment::Damage;

/// Puts history up to a revision out of reach.
pub(super) fn execute(
    state: &mut State,
    request: &CompactionRequest,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    state
        .store
        .compact(request.revision)
        .map_err(|refusal| match refusal {
            CompactError::Compacted { asked, compacted } => {
                RequestError::Compacted { asked, compacted }
            }
            CompactError::Future { asked, current } => {
                RequestError::FutureRevision { asked, current }
            }
            CompactError::Damaged(damage) => RequestError::Damaged(damage),
        })?;
    effects.push(Effect::CompactionScheduled {
        revision: request.revision,
    });
    Ok(Response::Compaction {
        revision: state.store.current_revision(),
    })
}

/// Removals that are not done, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// Whether there is anything to remove.
    pub(super) pending: bool,
    /// Physical compactions of requests proposed here, revisions ascending.
    waiting: Vec<(i64, RequestId, Response)>,
}

impl Removal {
    /// Keeps the answer back until everything up to `revision` is removed.
    pub(super) fn wait(&mut self, revision: i64, id: RequestId, response: Response) {
        self.waiting.push((revision, id, response));
    }

    /// Does at most one step of `records_max` records.
    ///
    /// # Errors
    /// The damage that the compaction cannot pass.
    pub(super) fn step(
        &mut self,
        state: &mut State,
        records_max: usize,
    ) -> Result<Vec<Effect>, Damage> {
        let step = state.store.compact_step(records_max)?;
        self.pending = step.pending;
        let Some(finished) = step.finished else {
            return Ok(Vec::new());
        };
        let CompactFinished {
            revision,
            removed,
            hash,
        } = finished;
        // Readers of the old view would keep what was removed in memory.
        let mut effects = vec![
            Effect::Published(state.read_view()),
            Effect::CompactionFinished {
                revision,
                records: removed,
                hash,
            },
        ];
        let done = self
            .waiting
            .partition_point(|(waits_for, ..)| *waits_for <= revision);
        effects.extend(self.waiting.drain(..done).map(reply));
        Ok(effects)
    }

    /// The answers for all who wait: the state was replaced by one that never held what was to be
    /// removed.
    pub(super) fn into_replies(self) -> impl Iterator<Item = Effect> {
        self.waiting.into_iter().map(reply)
    }
}

fn reply((_, id, response): (i64, RequestId, Response)) -> Effect {
    Effect::Reply {
        id,
        result: Ok(response),
    }
}
