//! The other members of the cluster, spoken to in etcd's peer protocol.
//!
//! # Theory
//!
//! Members talk HTTP/1.1 on their peer ports. Each of two members asks the other for two long answers, the *streams*:
//! one for appends in a short form, one for all other messages ([`wire`]). Who asks reads; so a message travels on a
//! connection that its receiver has opened. A message for which there is no stream yet goes by a request of its own
//! (`pipeline`). Snapshots have a request of their own too. Beside raft, members ask each other who belongs to the
//! cluster, which version they are, and for leases, which the leader alone counts down ([`ask`]).
//!
//! ```text
//!  core thread ── send ──► Link ── Outbox ──► body of a stream (peer port) ──► peer
//!       ▲                   │ └── pipeline ──► POST /raft ──────────────────► peer
//!       └── arrived ── reader (dials the peer, reads its streams) ◄────────── peer
//! ```
//!
//! # Invariants
//!
//! - The core thread never waits for a peer: each queue to one is bounded, and what does not fit is lost and
//!   reported as unreachable. So a slow or dead peer slows nobody.
//! - What a peer sends is bounded too: its streams are not read on while too many bytes wait for the core thread.
//! - No message is taken from a sender of another cluster, of an incompatible version or that was removed.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/rafthttp`.

pub(crate) mod ask;
mod contact;
mod handler;
mod intake;
mod link;
mod outbox;
mod pipeline;
mod probe;
mod reader;
mod snapshot;
mod status;
mod throttle;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use kvorum_member::backend::Backend;
use kvorum_member::cluster::Roster;
use kvorum_member::consensus::SnapshotNumber;
use kvorum_member::core;
use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb;

use crate::runtime::{Identity, Latency, Member};
use intake::Intake;
use link::Link;

pub(crate) use contact::{Dialer, MIN_CLUSTER_VERSION};
pub(crate) use handler::PeerPort;
pub(crate) use snapshot::{NotTaken, Piece, TakeSnapshot};

/// What this side of all links is.
pub(crate) struct Local {
    /// The member behind it.
    pub(crate) member: Member,
    /// Who it is.
    pub(crate) identity: Identity,
    /// Where it says that peers reach it.
    pub(crate) peer_urls: Vec<String>,
    /// How the others are called.
    pub(crate) dialer: Dialer,
    /// A stream on which nothing came for so long is given up (`--raft-read-timeout`).
    pub(crate) read_timeout: Duration,
    /// Takes snapshots of the leader in.
    pub(crate) snapshots: Option<Arc<dyn TakeSnapshot>>,
    /// How long clients wait for the log: states are sent as fast as that does not notice.
    pub(crate) latency: Latency,
    /// Where the tasks run.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// The peers of a member; clones are the same peers.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

struct Shared {
    local: Arc<Local>,
    links: RwLock<BTreeMap<MemberId, Arc<Link>>>,
    /// Who is known from the members asked at a join, before the log tells.
    introduced: BTreeMap<MemberId, Vec<String>>,
    intake: Intake,
}

impl Peers {
    /// Nobody yet but those who were `introduced`.
    pub(crate) fn start(local: Local, introduced: BTreeMap<MemberId, Vec<String>>) -> Self {
        let peers = Self(Arc::new(Shared {
            local: Arc::new(local),
            links: RwLock::default(),
            introduced,
            intake: Intake::new(),
        }));
        peers.follow(&Roster::new());
        peers
    }

    /// What this side is.
    pub(crate) fn local(&self) -> &Local {
        &self.0.local
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<MemberId, Arc<Link>>> {
        // What panics under this lock leaves a whole map behind.
        self.0.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<MemberId, Arc<Link>>> {
        self.0.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a link to each member of the roster, and to no other.
    pub(crate) fn follow(&self, roster: &Roster) {
        let local = &self.0.local;
        let introduced = self.0.introduced.iter();
        let introduced = introduced.filter(|(id, _)| !roster.is_removed(**id));
        let mut wanted: BTreeMap<MemberId, Vec<String>> =
            introduced.map(|(id, urls)| (*id, urls.clone())).collect();
        let members = roster.members();
        wanted.extend(members.map(|member| (member.id(), member.peer_urls.clone())));
        wanted.remove(&local.identity.member);
        let mut links = self.write();
        links.retain(|id, link| {
            let keep = wanted.contains_key(id);
            if !keep {
                link.stop();
            }
            keep
        });
        for (id, urls) in wanted {
            match links.get(&id) {
                Some(link) => link.contact.update(urls),
                None => drop(links.insert(id, Link::start(local, id, urls))),
            }
        }
        self.count_known(&links);
    }

    fn count_known(&self, links: &BTreeMap<MemberId, Arc<Link>>) {
        let local = &self.0.local;
        let known = &local.member.metrics().known_peers;
        for id in links.keys() {
            let labels = [local.identity.member.to_string(), id.to_string()];
            known.with(&labels.each_ref().map(String::as_str)).set(1.0);
        }
    }

    /// Queues a message to the peer that it names; false when it is lost.
    pub(crate) fn send(&self, message: Box<raftpb::Message>) -> bool {
        let links = self.read();
        match links.get(&MemberId(message.to())) {
            Some(link) => link.send(message),
            // Removed in the meantime, or not known yet: consensus will ask again.
            None => true,
        }
    }

    /// Sends a snapshot to the peer that the message names. How it ends is told to the machines.
    pub(crate) fn send_snapshot(
        &self,
        number: SnapshotNumber,
        message: Box<raftpb::Message>,
        state: Backend,
    ) {
        let to = MemberId(message.to());
        match self.link(to) {
            Some(link) => snapshot::send(&link, number, message, state),
            None => {
                let received = false;
                let news = core::Input::SnapshotSent { number, received };
                self.0.local.member.peer_news(news);
            }
        }
    }

    /// The machines are done with the snapshot received last.
    pub(crate) fn snapshot_done(&self) {
        self.0.intake.done();
    }

    fn link(&self, id: MemberId) -> Option<Arc<Link>> {
        self.read().get(&id).cloned()
    }

    /// Since when a member is reached without a break; `None` when it is not, or is this one.
    pub(crate) fn active_since(&self, id: MemberId) -> Option<Instant> {
        self.link(id)?.status.active_since()
    }

    /// Whether a stream joins this member and the peer.
    pub(crate) fn is_connected(&self, id: MemberId) -> bool {
        self.link(id).is_some_and(|link| link.is_connected())
    }

    /// Ends all links.
    pub(crate) fn stop(&self) {
        for link in std::mem::take(&mut *self.write()).into_values() {
            link.stop();
        }
    }
}
