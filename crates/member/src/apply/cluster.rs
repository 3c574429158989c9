//! Membership, the version of the cluster, downgrades.
//!
//! Source: etcd v3.7.1 server/etcdserver/apply/backend.go (ClusterVersionSet,
//! ClusterMemberAttrSet, DowngradeInfoSet), server/etcdserver/server.go (applyConfChange).

use kvorum_proto::ids::{LogIndex, MemberId};
use kvorum_proto::membershippb::{
    ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use kvorum_proto::raftpb::ConfChange;

use super::machine::Refused;
use super::state::State;
use super::{Effect, Response};
use crate::cluster::{Change, Downgrade, SERVER_VERSION, Version};

/// Carries a configuration change out, or refuses it; consensus hears of both. `this` is the
/// member that applies it.
pub(super) fn conf_change(
    state: &mut State,
    wire: ConfChange,
    this: MemberId,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    let index = LogIndex(state.applied.0 + 1);
    let change = Change::from_wire(&wire).map_err(|error| Refused::broken(&error))?;
    if let Err(error) = state.cluster().roster.check(&change) {
        let change = ConfChange {
            node_id: Some(0),
            ..wire
        };
        effects.push(Effect::ConfChanged { index, change });
        return Err(error.into());
    }
    let removes_this = change == Change::Remove(this);
    let added = match &change {
        Change::Add(member) => Some(member.to_wire()),
        _ => None,
    };
    state.cluster_mut().roster.apply(change);
    let change = wire;
    effects.push(Effect::ConfChanged { index, change });
    effects.push(Effect::RosterChanged);
    if removes_this {
        effects.push(Effect::Removed);
    }
    let members = state.cluster().roster.to_wire();
    Ok(match added {
        Some(member) => Response::MemberAdd { member, members },
        None => Response::Members(members),
    })
}

/// A member says how it is called and where clients reach it.
pub(super) fn publish(
    state: &mut State,
    request: ClusterMemberAttrSetRequest,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    let id = MemberId(request.member_id);
    let attributes = request.member_attributes.unwrap_or_default();
    let roster = &mut state.cluster_mut().roster;
    if !roster.publish(id, attributes.name, attributes.client_urls) {
        return Err(Refused::broken(&format_args!(
            "member {id} publishes itself and is unknown"
        )));
    }
    effects.push(Effect::RosterChanged);
    Ok(done(state))
}

/// The leader decided on the version of the cluster.
pub(super) fn set_version(
    state: &mut State,
    request: &ClusterVersionSetRequest,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    let text = &request.ver;
    let version: Version = text
        .parse()
        .map_err(|error| Refused::broken(&format_args!("cluster version {text:?} is {error}")))?;
    if version.of_cluster() > SERVER_VERSION.of_cluster() {
        return Err(Refused::broken(&format_args!(
            "the cluster has version {version}, and this member only {SERVER_VERSION}"
        )));
    }
    state.cluster_mut().version = Some(version);
    effects.push(Effect::ClusterVersionChanged(version));
    Ok(done(state))
}

/// A downgrade begins or ends.
pub(super) fn set_downgrade(state: &mut State, request: DowngradeInfoSetRequest) -> Response {
    state.cluster_mut().downgrade = Downgrade {
        target: request.enabled.then_some(request.ver),
    };
    done(state)
}

/// The answer to what members propose on their own.
pub(super) fn done(state: &State) -> Response {
    Response::Done {
        revision: state.store.current_revision(),
    }
}
