//! What the HTTP handlers ask of the member.

use tokio::sync::oneshot;

/// An alarm as `/health` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveAlarm {
    /// The backend quota is used up.
    NoSpace,
    /// Data of this member differs from that of the others.
    Corrupt,
    /// An alarm this version does not know.
    Unknown,
}

impl ActiveAlarm {
    /// The name in health answers and in `exclude=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// How a probe reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRead {
    /// Confirmed by a quorum.
    Linearizable,
    /// From the state of this member.
    Serializable,
}

/// Takes the outcome of a probe read, from any thread. Dropped unanswered it counts as a stopped server.
#[derive(Debug)]
pub struct ProbeSink {
    answer: oneshot::Sender<Result<(), String>>,
}

impl ProbeSink {
    /// A sink and the future end of it.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (answer, outcome) = oneshot::channel();
        (Self { answer }, outcome)
    }

    /// Answers the probe; the error is the text of the failed range.
    pub fn send(self, outcome: Result<(), String>) {
        // A prober that went away does not need the answer.
        let _ = self.answer.send(outcome);
    }
}

/// Reads through the member. The error is the text that health answers show.
pub(super) async fn probe(facts: &dyn HealthFacts, read: ProbeRead) -> Result<(), String> {
    let (sink, outcome) = ProbeSink::new();
    facts.probe(read, sink);
    outcome
        .await
        .unwrap_or_else(|_| Err("etcdserver: server stopped".to_owned()))
}

/// What the HTTP handlers ask of the member. Every method returns at once.
pub trait HealthFacts: Send + Sync + 'static {
    /// Active alarms of the whole cluster.
    fn alarms(&self) -> Vec<ActiveAlarm>;

    /// Whether a leader is known.
    fn has_leader(&self) -> bool;

    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;

    /// Reads one key with limit 1 and answers whether that worked. The member bounds the time itself: an own
    /// request time-out of 5 s plus two election timeouts.
    fn probe(&self, read: ProbeRead, done: ProbeSink);

    /// Cluster version such as `3.7.0`; `None` before it is decided.
    fn cluster_version(&self) -> Option<String>;

    /// Storage version such as `3.7.0`; `None` when not set.
    fn storage_version(&self) -> Option<String>;

    /// The state of consensus as a JSON object, for `/debug/vars`.
    fn raft_status_json(&self) -> String {
        "{}".to_owned()
    }
}
