//! Who waits for what on the core thread, and until when.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use kvorum_member::apply::{RequestError, Response};
use kvorum_member::lease;
use kvorum_proto::ids::Moment;

use crate::transport::{Credit, ReplySink};

/// Whoever waits for the result of a proposal.
pub(super) enum Waiter {
    /// A client; the response is encoded for it.
    Client(ReplySink),
    /// Something inside the server.
    Inside(Box<dyn FnOnce(Result<Response, RequestError>) + Send>),
}

/// A proposal whose result somebody waits for.
pub(super) struct Proposed {
    pub(super) waiter: Waiter,
    /// What it asks for, as the metrics name it.
    pub(super) kind: &'static str,
    pub(super) since: Instant,
}

/// Whoever waits for a read index.
pub(super) type ReadWaiter = Box<dyn FnOnce(Result<(), RequestError>) + Send>;

/// What the lease deadlines say.
pub(crate) type LeaseAnswer = Result<lease::Output, RequestError>;

/// Gets the answer of the lease deadlines.
pub(crate) enum LeaseWaiter {
    /// The stream of a client, which numbers its questions.
    Stream {
        /// The stream.
        stream: Arc<dyn LeaseStream>,
        /// The question.
        number: u64,
        /// Given back with the answer.
        credit: Credit,
    },
    /// Anybody else.
    Other(Box<dyn FnOnce(LeaseAnswer) + Send>),
}

/// A stream that asks about leases all the time: who waits costs it no memory of its own.
pub(crate) trait LeaseStream: Send + Sync {
    /// Takes the answer to a question.
    fn answer(self: Arc<Self>, number: u64, answer: LeaseAnswer);
}

impl LeaseWaiter {
    pub(super) fn take(self, answer: LeaseAnswer) {
        match self {
            Self::Stream {
                stream,
                number,
                credit,
            } => {
                drop(credit);
                stream.answer(number, answer);
            }
            Self::Other(then) => then(answer),
        }
    }
}

/// Spreads numbers that the server gives out itself, one after another: nobody can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio spreads neighbours over all bits; the table takes them from both ends.
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}

/// A table by such numbers.
pub(super) type NumberMap<K, W> = HashMap<K, W, BuildHasherDefault<NumberHasher>>;

/// Those who wait, by the name of what they wait for. All wait equally long, so they expire in the order they came;
/// but for those who are kept until their answer comes.
pub(super) struct Waiters<K, W> {
    waiting: NumberMap<K, W>,
    kept: NumberMap<K, W>,
    ends: VecDeque<(Moment, K)>,
}

impl<K: Copy + Eq + Hash, W> Default for Waiters<K, W> {
    fn default() -> Self {
        Self {
            waiting: NumberMap::default(),
            kept: NumberMap::default(),
            ends: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, W> Waiters<K, W> {
    pub(super) fn add(&mut self, key: K, waiter: W, end: Moment) {
        self.waiting.insert(key, waiter);
        self.ends.push_back((end, key));
    }

    pub(super) fn take(&mut self, key: K) -> Option<W> {
        let waiter = self.waiting.remove(&key);
        if waiter.is_some() || self.kept.is_empty() {
            return waiter;
        }
        self.kept.remove(&key)
    }

    /// Lets somebody wait as long as it takes: the answer is on its way.
    pub(super) fn keep(&mut self, key: K) {
        if let Some(waiter) = self.waiting.remove(&key) {
            self.kept.insert(key, waiter);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.kept.len()
    }

    /// When the next one may have waited long enough.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// Takes those who have waited long enough.
    pub(super) fn expired(&mut self, now: Moment) -> Vec<W> {
        let mut expired = Vec::new();
        while let Some((end, key)) = self.ends.front().copied()
            && (end <= now || !self.waiting.contains_key(&key))
        {
            self.ends.pop_front();
            expired.extend(self.waiting.remove(&key));
        }
        expired
    }

    /// Takes everybody.
    pub(super) fn drain(&mut self) -> Vec<W> {
        self.ends.clear();
        let all = self.waiting.drain().chain(self.kept.drain());
        all.map(|(_, waiter)| waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvorum_proto::ids::Moment;

    use super::Waiters;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn who_was_answered_does_not_expire() {
        let mut waiters = Waiters::default();
        waiters.add(1, "first", at(1));
        waiters.add(2, "second", at(2));
        waiters.add(3, "third", at(3));
        assert_eq!(waiters.take(1), Some("first"));
        assert_eq!(waiters.expired(at(2)), ["second"]);
        assert_eq!(waiters.take(2), None);
        assert_eq!(waiters.next_end(), Some(at(3)));
        assert_eq!(waiters.drain(), ["third"]);
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn who_is_kept_waits_until_the_answer_comes() {
        let mut waiters = Waiters::default();
        waiters.add(1, "kept", at(1));
        waiters.add(2, "kept, too", at(1));
        waiters.keep(1);
        waiters.keep(2);
        waiters.keep(3);
        assert_eq!(waiters.expired(at(9)), Vec::<&str>::new());
        assert_eq!(waiters.next_end(), None);
        assert_eq!(waiters.len(), 2);
        assert_eq!(waiters.take(1), Some("kept"));
        assert_eq!(waiters.drain(), ["kept, too"]);
    }
}
