//! The drill of a leader that comes back with entries which the others have gone on without.
//!
//! 1. A leader is cut off and goes on taking requests: entries of its term that nobody else has.
//! 2. Somebody else wins a later term, and is cut off before anybody has heard of its first entry.
//! 3. The first one leads again, in a later term still. Its old entries reach the others, the first entry of the new term
//!    does not. Now a majority has an entry that is committed nevertheless by nobody: a leader counts copies of its own
//!    term only.
//! 4. The first one is cut off, the second one is back. Its log ends in a later term than the old entries, so it wins, and
//!    they must go, however many members have them.
//!
//! So that it is known who wins, either of the two is with a bare majority only: each of the others needs the vote of the
//! one whose log is the newest. Everything is done by cuts that are renewed for as long as they are wanted.
//!
//! Source: D. Ongaro and J. Ousterhout, In Search of an Understandable Consensus Algorithm, figure 8.

use std::time::Duration;

use kvorum_member::consensus::Leadership;
use kvorum_proto::ids::{LogIndex, Moment};
use kvorum_proto::raftpb::{Message, MessageType};

use super::World;
use super::drill::Drill;
use super::node::Place;

/// The world is looked at this often,
pub(super) const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// and a cut lasts a little longer.
const CUT: Duration = Duration::from_millis(150);
/// So long after an old entry has left, it has been written down by who gets it, and acknowledged.
const HEARD: Duration = Duration::from_millis(600);
/// What takes longer is given up.
const LONGEST: Duration = Duration::from_secs(20);

/// A leader that is to come back.
pub(super) struct Comeback {
    first: Place,
    stage: Stage,
    until: Moment,
}

enum Stage {
    /// The first leader is alone.
    Alone,
    /// Another one has won, and the first one is with a bare majority.
    Back(Others),
    /// Since then its old entries are on their way, and nothing else.
    Heard(Others, Moment),
    /// The second leader is with that majority.
    Overwritten(Others),
}

/// Who takes part besides the first leader.
#[derive(Clone)]
struct Others {
    second: Place,
    /// Whoever of the two is with them has a bare majority.
    witnesses: Vec<Place>,
}

impl Others {
    fn with(&self, leader: Place) -> Vec<Place> {
        [&[leader], &*self.witnesses].concat()
    }
}

impl World {
    /// Looks how far it has come, and renews the cuts.
    pub(super) fn drill_comeback(&mut self) {
        let Some(mut comeback) = self.drilling.comeback.take() else {
            return self.begin_comeback();
        };
        let first = comeback.first;
        let side = match comeback.stage {
            Stage::Alone => vec![first],
            Stage::Heard(others, since) if since + HEARD <= self.now => {
                let side = others.with(others.second);
                comeback.stage = Stage::Overwritten(others);
                side
            }
            Stage::Back(ref others) | Stage::Heard(ref others, _) => others.with(first),
            Stage::Overwritten(ref others) if self.leader() == Some(others.second) => return,
            Stage::Overwritten(ref others) => others.with(others.second),
        };
        if comeback.until > self.now {
            self.part(&side, self.now + CUT);
            self.drilling.comeback = Some(comeback);
        }
    }

    fn begin_comeback(&mut self) {
        let Some(first) = self.leader() else {
            return;
        };
        if self.voters().len() < 3 || !self.drilling.random.chance(1, 20) {
            return;
        }
        self.tell_of_fault(first, "is cut off, whoever leads", "leaders isolated");
        self.part(&[first], self.now + CUT);
        self.drilling.comeback = Some(Comeback {
            first,
            stage: Stage::Alone,
            until: self.now + LONGEST,
        });
    }

    /// A member leads, and nobody has heard so yet.
    pub(super) fn note_comeback(&mut self, place: Place, leadership: &Leadership) {
        if !self.drills(Drill::Comebacks) || leadership.settled {
            return;
        }
        let Some(comeback) = &mut self.drilling.comeback else {
            return;
        };
        let first = comeback.first;
        match &comeback.stage {
            Stage::Alone if place != first => {
                let others = self.others(first, place);
                let comeback = self.drilling.comeback.take();
                // Without entries of its own the first one cannot lead again, nor is there anything to look at.
                if let (Some(mut comeback), Some(others)) = (comeback, others)
                    && self.last(first) >= self.last(place)
                {
                    self.part(&others.with(first), self.now + CUT);
                    comeback.stage = Stage::Back(others);
                    self.drilling.comeback = Some(comeback);
                }
            }
            Stage::Back(_) | Stage::Heard(..) if place != first => self.drilling.comeback = None,
            Stage::Overwritten(others) if place != others.second => self.drilling.comeback = None,
            _ => {}
        }
    }

    /// Who else takes part, if there are enough.
    fn others(&mut self, first: Place, second: Place) -> Option<Others> {
        let mut voters = self.voters();
        let witnesses_wanted = voters.len() / 2;
        voters.retain(|place| {
            *place != first && *place != second && self.nodes[*place].process.is_some()
        });
        while voters.len() > witnesses_wanted {
            let one = self.drilling.random.below(voters.len() as u64) as usize;
            voters.remove(one);
        }
        let witnesses = voters;
        (witnesses.len() == witnesses_wanted).then_some(Others { second, witnesses })
    }

    fn voters(&self) -> Vec<Place> {
        let roster = self.newest_roster();
        let voters = roster.iter().flat_map(|roster| roster.voters());
        voters
            .filter_map(|voter| self.place_of(voter.id()))
            .collect()
    }

    /// The last index in the log of a member.
    fn last(&self, place: Place) -> Option<LogIndex> {
        let process = self.nodes[place].process.as_ref()?;
        Some(process.core.status().last)
    }

    /// A message is on its way. Once old entries of the leader that is back have left, its receiver hears no more of it.
    pub(super) fn watch_comeback(&mut self, from: Place, to: Place, message: &Message) {
        let Some(comeback) = &mut self.drilling.comeback else {
            return;
        };
        let entries = &message.entries;
        let are_old = entries.iter().all(|entry| entry.term() < message.term());
        if message.r#type() != MessageType::MsgApp || entries.is_empty() || !are_old {
            return;
        }
        match &comeback.stage {
            Stage::Back(others) if from == comeback.first => {
                comeback.stage = Stage::Heard(others.clone(), self.now);
                let what = "is back, and heard only with what it had before";
                self.tell_of_fault(from, what, "leaders that come back");
            }
            Stage::Heard(..) if from == comeback.first => {}
            _ => return,
        }
        self.cut(from, to, self.now + HEARD + CUT);
    }
}
