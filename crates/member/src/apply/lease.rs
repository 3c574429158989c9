//! The replicated half of leases.
//!
//! The shortest lifetime depends on each member's election timeout and is therefore made sure of
//! by the proposer ([`crate::check::lease_grant`]); the lifetime in the log is taken as it is.
//!
//! Source: etcd v3.7.1 server/lease/lessor.go (Grant, Revoke, Checkpoint).

use kvorum_mvcc::Interval;
use kvorum_proto::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest};
use kvorum_proto::ids::LeaseId;

use super::machine::Refused;
use super::state::State;
use super::{Effect, RequestError, Response};
use crate::lease::{Input, TTL_SECONDS_MAX};

/// Makes a lease.
pub(super) fn grant(
    state: &mut State,
    request: &LeaseGrantRequest,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    let (id, ttl_seconds) = (LeaseId(request.id), request.ttl);
    if id == LeaseId(0) {
        return Err(RequestError::LeaseNotFound.into());
    }
    if ttl_seconds > TTL_SECONDS_MAX {
        return Err(RequestError::LeaseTtlTooLarge.into());
    }
    if !state.grants.grant(id, ttl_seconds) {
        return Err(RequestError::LeaseExist.into());
    }
    effects.push(Effect::Lease(Input::Granted { id, ttl_seconds }));
    Ok(Response::LeaseGrant {
        revision: state.store.current_revision(),
        id,
        ttl_seconds,
    })
}

/// Ends a lease: its keys are deleted in ascending order, in one revision.
pub(super) fn revoke(
    state: &mut State,
    id: LeaseId,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    let keys = state.grants.revoke(id).ok_or(RequestError::LeaseNotFound)?;
    let ((), events) = state.write(|writer| {
        for key in keys {
            writer.delete_range(&Interval::single(key));
        }
    });
    effects.extend(events.map(Effect::Events));
    effects.push(Effect::Lease(Input::Revoked(id)));
    Ok(Response::LeaseRevoke {
        revision: state.store.current_revision(),
    })
}

/// Writes down the rest of lifetimes, up to the first lease that does not exist.
pub(super) fn checkpoint(
    state: &mut State,
    request: &LeaseCheckpointRequest,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    for checkpoint in &request.checkpoints {
        let (id, remaining_seconds) = (LeaseId(checkpoint.id), checkpoint.remaining_ttl);
        if !state.grants.checkpoint(id, remaining_seconds) {
            return Err(RequestError::LeaseNotFound.into());
        }
        effects.push(Effect::Lease(Input::Checkpointed {
            id,
            remaining_seconds,
        }));
    }
    Ok(Response::Done {
        revision: state.store.current_revision(),
    })
}
