//! Requests of the version 2 API, through which members up to 3.5 tell about themselves: the name
//! and client URLs of a member, the version of the cluster. They stand in logs of official members
//! that are taken over. Keys of users were never ours, and a log with them is refused.
//!
//! Source: etcd v3.5.1, `server/etcdserver/apply_v2.go` (`applyV2Request`), `server.go`
//! (`applyEntryNormal`); v3.7.1, `server/etcdserver/apply/apply.go` (`v2ToV3Request`).

use kvorum_proto::etcdserverpb::Request;
use kvorum_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
};
use serde::Deserialize;

use super::machine::Refused;
use super::state::State;
use super::{Effect, Response, cluster};

/// Where a member's own words stand: `/0/members/<id>/attributes`.
const MEMBERS: &str = "/0/members/";
const ATTRIBUTES: &str = "/attributes";
const CLUSTER_VERSION: &str = "/0/version";

/// What a member publishes, as JSON.
#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

/// Carries a request out.
pub(super) fn execute(
    state: &mut State,
    request: Request,
    effects: &mut Vec<Effect>,
) -> Result<Response, Refused> {
    if request.method == "SYNC" {
        // The clock of keys that are not there.
        return Ok(cluster::done(state));
    }
    let member = request
        .path
        .strip_prefix(MEMBERS)
        .and_then(|rest| rest.strip_suffix(ATTRIBUTES));
    match (request.method.as_str(), member) {
        ("PUT", Some(id)) => {
            let member_id = u64::from_str_radix(id, 16)
                .map_err(|error| Refused::broken(&format_args!("member {id:?}: {error}")))?;
            let published: Published =
                serde_json::from_str(&request.val).map_err(|error| Refused::broken(&error))?;
            let attributes = Attributes {
                name: published.name,
                client_urls: published.client_urls.unwrap_or_default(),
            };
            let request = ClusterMemberAttrSetRequest {
                member_id,
                member_attributes: Some(attributes),
            };
            cluster::publish(state, request, effects)
        }
        ("PUT", None) if request.path == CLUSTER_VERSION => {
            let request = ClusterVersionSetRequest { ver: request.val };
            cluster::set_version(state, &request, effects)
        }
        (method, _) => Err(Refused::broken(&format_args!(
            "{method} of {:?} is a request of the version 2 API, which this release does not have",
            request.path
        ))),
    }
}
