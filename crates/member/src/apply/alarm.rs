//! Alarm requests, and what alarms refuse.
//!
//! Source: etcd v3.7.1 server/etcdserver/apply (Alarm, applierV3Capped,
//! applierV3Corrupt).

use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use kvorum_proto::ids::MemberId;

use super::state::State;
use super::{Effect, RequestError, Response};
use crate::alarm::Alarms;
use crate::quota;

/// Says whether an alarm refuses a request.
///
/// # Errors
/// `Corrupt` for keys and leases while any member's data are in doubt; `NoSpace` for what would
/// add data while any member's quota is used up.
pub(super) fn check(alarms: &Alarms, request: &Payload) -> Result<(), RequestError> {
    let touches_data = matches!(
        request,
        Payload::Range(_)
            | Payload::Put(_)
            | Payload::DeleteRange(_)
            | Payload::Txn(_)
            | Payload::Compaction(_)
            | Payload::LeaseGrant(_)
            | Payload::LeaseRevoke(_)
    );
    if touches_data && alarms.is_raised(AlarmType::Corrupt) {
        return Err(RequestError::Corrupt);
    }
    if alarms.is_raised(AlarmType::Nospace) && quota::cost(request) > 0 {
        return Err(RequestError::NoSpace);
    }
    Ok(())
}

/// Lists, raises or clears. Raising an alarm that is on answers with it; clearing one that is off
/// answers with nothing.
pub(super) fn execute(
    state: &mut State,
    request: &AlarmRequest,
    effects: &mut Vec<Effect>,
) -> Response {
    let (member, kind) = (MemberId(request.member_id), request.alarm);
    let one = || {
        vec![AlarmMember {
            member_id: member.0,
            alarm: kind,
        }]
    };
    let mut changed = false;
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => state.cluster().alarms.list(kind),
        Ok(AlarmAction::Activate) if kind != AlarmType::None as i32 => {
            changed = state.cluster_mut().alarms.activate(member, kind);
            one()
        }
        Ok(AlarmAction::Deactivate) => {
            changed = state.cluster_mut().alarms.deactivate(member, kind);
            if changed { one() } else { Vec::new() }
        }
        Ok(AlarmAction::Activate) | Err(_) => Vec::new(),
    };
    if changed {
        effects.push(Effect::AlarmsChanged);
    }
    Response::Alarm {
        revision: state.store.current_revision(),
        alarms,
    }
}
