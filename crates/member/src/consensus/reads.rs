//! Reads that wait for a read index.
//!
//! One round is under way at a time and serves everybody who waited when it began; who comes later
//! waits for the next. A round that is not answered (a lost message, a leader that fell) is begun
//! again under a new context, so a late answer to the old one finds nobody.
//!
//! # A question that is half of its answer
//!
//! A leader has to know from a quorum that nobody has elected another one. A follower that asks tells
//! the term in which it asks: at this moment, which is after its reads came, it has not voted in a
//! later one. Where leader and asker are a quorum by themselves, as two of three are, a round of
//! heartbeats could tell no more, and the leader answers at once: whoever was elected before the
//! reads came had the vote of one of the two. Official members put something shorter into a context,
//! which tells no term, and get their round.

use std::collections::VecDeque;

use kvorum_proto::ids::{MemberId, Term};

use super::{READS_WAITING_MAX, ReadToken, Refusal};

/// After so many ticks an unanswered round is begun again (500 ms with ticks of 100 ms).
/// Source: etcd 3.7.1 `server/etcdserver/v3_server.go`, `readIndexRetryTime`.
const ROUND_TICKS_MAX: u64 = 5;

/// What names a round: member, boot nonce, counter and term, each big-endian. A leader tells rounds of
/// all members apart by it.
pub(super) type Context = [u8; 32];

/// Who asks under this context and in which term; none if it is not one of ours.
pub(super) fn asker(context: &[u8]) -> Option<(MemberId, Term)> {
    let context: &Context = context.try_into().ok()?;
    let (member, _) = context.split_first_chunk()?;
    let (_, term) = context.split_last_chunk()?;
    Some((
        MemberId(u64::from_be_bytes(*member)),
        Term(u64::from_be_bytes(*term)),
    ))
}

/// The reads that wait.
#[derive(Debug)]
pub(super) struct Reads {
    member: MemberId,
    nonce: u64,
    counter: u64,
    /// Each with the tick at which it came; ascending.
    waiting: VecDeque<(u64, ReadToken)>,
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    context: Context,
    begun: u64,
    /// How many of `waiting`, from the front, it serves.
    serves: usize,
}

impl Reads {
    pub(super) fn new(member: MemberId, nonce: u64) -> Self {
        Reads {
            member,
            nonce,
            counter: 0,
            waiting: VecDeque::new(),
            round: None,
        }
    }

    /// Takes a read in.
    ///
    /// # Errors
    /// When as many as may already wait.
    pub(super) fn push(&mut self, now: u64, token: ReadToken) -> Result<(), Refusal> {
        if self.waiting.len() >= READS_WAITING_MAX {
            return Err(Refusal::TooManyRequests);
        }
        self.waiting.push_back((now, token));
        Ok(())
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins a round for all that wait, unless one is under way or nobody waits. This member has not
    /// voted in a later term than `term`.
    pub(super) fn begin(&mut self, now: u64, term: Term) -> Option<Context> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.counter += 1;
        let mut context = Context::default();
        let words = [self.member.0, self.nonce, self.counter, term.0];
        for (place, word) in context.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        self.round = Some(Round {
            context,
            begun: now,
            serves: self.waiting.len(),
        });
        Some(context)
    }

    /// The reads that the answered round serves; none if it is not the one under way.
    pub(super) fn finish(&mut self, context: &[u8]) -> Vec<ReadToken> {
        match &self.round {
            Some(round) if round.context == context => {
                let serves = round.serves;
                self.round = None;
                self.waiting
                    .drain(..serves)
                    .map(|(_, token)| token)
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Gives the round up; its reads join the next one.
    pub(super) fn restart(&mut self) {
        self.round = None;
    }

    /// A tick passed: gives up a round that is too old, and returns the reads that came before
    /// `oldest`.
    pub(super) fn tick(&mut self, now: u64, oldest: u64) -> Vec<ReadToken> {
        if self
            .round
            .as_ref()
            .is_some_and(|round| now - round.begun >= ROUND_TICKS_MAX)
        {
            self.round = None;
        }
        let stale = self.waiting.partition_point(|&(came, _)| came < oldest);
        if let Some(round) = &mut self.round {
            round.serves = round.serves.saturating_sub(stale);
        }
        self.waiting
            .drain(..stale)
            .map(|(_, token)| token)
            .collect()
    }

    /// Whether no round serves more reads than wait.
    pub(super) fn is_consistent(&self) -> bool {
        self.round
            .as_ref()
            .is_none_or(|round| round.serves <= self.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(reads: &mut Reads, now: u64, token: u64) {
        reads.push(now, ReadToken(token)).expect("room");
    }

    #[test]
    fn a_round_serves_those_who_waited_when_it_began() {
        let mut reads = Reads::new(MemberId(1), 7);
        push(&mut reads, 0, 1);
        push(&mut reads, 0, 2);
        let first = reads.begin(0, Term(3)).expect("reads wait");
        push(&mut reads, 0, 3);
        assert_eq!(reads.begin(0, Term(3)), None, "one round at a time");
        assert_eq!(reads.finish(&first), [ReadToken(1), ReadToken(2)]);
        assert_eq!(reads.finish(&first), [], "answered once");
        let second = reads.begin(0, Term(3)).expect("one came late");
        assert_ne!(first, second);
        assert_eq!(reads.finish(&second), [ReadToken(3)]);
    }

    #[test]
    fn a_context_tells_who_asks_in_which_term() {
        let mut reads = Reads::new(MemberId(1), 7);
        push(&mut reads, 0, 1);
        let context = reads.begin(0, Term(3)).expect("a read waits");
        assert_eq!(asker(&context), Some((MemberId(1), Term(3))));
        assert_eq!(asker(&context[..8]), None, "that of an official member");
    }

    #[test]
    fn a_late_answer_to_an_old_round_serves_nobody() {
        let mut reads = Reads::new(MemberId(1), 7);
        push(&mut reads, 0, 1);
        let old = reads.begin(0, Term(3)).expect("reads wait");
        assert_eq!(reads.tick(ROUND_TICKS_MAX, 0), []);
        let new = reads.begin(ROUND_TICKS_MAX, Term(3)).expect("begun again");
        assert_eq!(reads.finish(&old), []);
        assert_eq!(reads.finish(&new), [ReadToken(1)]);
    }

    #[test]
    fn more_reads_than_may_wait_are_refused() {
        let mut reads = Reads::new(MemberId(1), 7);
        for token in 0..READS_WAITING_MAX as u64 {
            push(&mut reads, 0, token);
        }
        let refused = reads.push(0, ReadToken(0));
        assert_eq!(refused, Err(Refusal::TooManyRequests));
    }

    #[test]
    fn old_reads_are_given_back() {
        let mut reads = Reads::new(MemberId(1), 7);
        push(&mut reads, 0, 1);
        push(&mut reads, 4, 2);
        let round = reads.begin(4, Term(3)).expect("reads wait");
        assert_eq!(reads.tick(5, 3), [ReadToken(1)]);
        assert!(reads.is_consistent());
        assert_eq!(reads.finish(&round), [ReadToken(2)]);
    }
}
