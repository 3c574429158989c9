//! What the members must agree on, judged while they run: one log, one state, one leader in each term.

use kvorum_member::apply::Digest;
use kvorum_member::consensus::{Leadership, Role};
use kvorum_proto::ids::{LogIndex, MemberId, Term};
use kvorum_proto::raftpb::Entry;
use std::collections::BTreeMap;

use super::World;
use super::node::Place;
use super::process::Process;

/// The states of one in so many indexes are compared.
const COMPARED_ONE_IN: u64 = 64;

/// What was seen first; everybody else must have the same.
#[derive(Default)]
pub(super) struct Agreed {
    /// Applied entries from index 1 on.
    entries: Vec<Entry>,
    digests: BTreeMap<LogIndex, Digest>,
    leaders: BTreeMap<Term, MemberId>,
    /// The newest published revision when the leader of a term was elected.
    published: BTreeMap<Term, i64>,
}

impl World {
    /// A member has applied entries up to `to`: they are those of everybody else.
    pub(super) fn agree(&mut self, place: Place, from: LogIndex, to: LogIndex) {
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        for index in from.0 + 1..=to.0 {
            // A snapshot has taken the place of what is missing here.
            let Some(entry) = process.core.entry(LogIndex(index)) else {
                continue;
            };
            let place_in_log = index as usize - 1;
            let story = match self.agreed.entries.get(place_in_log) {
                Some(known) if *known == entry => continue,
                Some(known) => format!("member {place} applied {entry:?}, others {known:?}"),
                None if place_in_log == self.agreed.entries.len() => {
                    self.agreed.entries.push(entry);
                    continue;
                }
                None => format!("member {place} applied {entry:?} before the one before it"),
            };
            return self.violated("one log", story);
        }
        if to.0.is_multiple_of(COMPARED_ONE_IN) {
            self.compare_states(place);
        }
    }

    /// Members that applied the same entries are in the same state.
    pub(super) fn compare_states(&mut self, place: Place) {
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        let apply = process.core.apply();
        let (index, digest) = (apply.applied(), apply.digest());
        let known = *self.agreed.digests.entry(index).or_insert(digest);
        if known != digest {
            let story = format!("at index {} member {place} has another one", index.0);
            return self.violated("the same state at each index", story);
        }
        self.count("states compared");
    }

    pub(super) fn note_leadership(&mut self, place: Place, leadership: &Leadership) {
        if leadership.role != Role::Leader {
            return;
        }
        self.silence_winner(place, leadership.term);
        self.note_comeback(place, leadership);
        let id = self.nodes[place].id;
        let known = self.agreed.leaders.insert(leadership.term, id);
        match known {
            Some(known) if known != id => {
                let story = format!("{:?}: {known} and {id}", leadership.term);
                self.violated("one leader in each term", story);
            }
            Some(_) => {}
            None => {
                let newest = self.history.published.last_key_value();
                let newest = newest.map_or(1, |(revision, _)| *revision);
                self.agreed.published.insert(leadership.term, newest);
                self.count("leaders elected");
            }
        }
    }

    /// A member leads and has applied whatever came before its term: nothing that was published by then may be missing.
    pub(super) fn settled(&mut self, place: Place, term: Term) {
        let published = self.agreed.published.get(&term).copied().unwrap_or(1);
        let process = self.nodes[place].process.as_ref();
        let there = process.map_or(0, |process| process.view.keys.current_revision());
        if there < published {
            let story = format!(
                "revision {published} was published, the leader (member {place}) has only {there}"
            );
            self.violated("nothing published is lost", story);
        }
    }

    /// Members that have nothing left to do, and get no snapshot, know one set of voters and learners.
    pub(super) fn judge_membership(&mut self) {
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            let Some(process) = &node.process else {
                continue;
            };
            let now = node.clock.shows(self.now);
            if process.installs_a_snapshot() || process.core.ready(now).next().is_some() {
                continue;
            }
            if let Err(story) = one_membership(process) {
                self.violated("one membership", format!("member {place}: {story}"));
            }
        }
    }
}

/// Who votes and who learns is the same by the roster and by raft.
pub(super) fn one_membership(process: &Process) -> Result<(), String> {
    let roster = &process.view.cluster.roster;
    let state = process.core.conf_state();
    let voters: Vec<u64> = roster.voters().map(|member| member.id().0).collect();
    let learners = roster.members().filter(|member| member.is_learner);
    let learners: Vec<u64> = learners.map(|member| member.id().0).collect();
    if state.voters == voters && state.learners == learners {
        return Ok(());
    }
    Err(format!(
        "{voters:?} vote by the roster and {learners:?} learn, by raft {state:?}"
    ))
}
