//! What the deadlines hear and what they want done.

use kvorum_proto::ids::LeaseId;

/// Names an asker; each answer carries the token of its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names a question whether this member still leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// A lease as a snapshot holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The lease.
    pub id: LeaseId,
    /// Its lifetime in seconds.
    pub ttl_seconds: i64,
    /// The rest that was written down, in seconds; 0 for a whole lifetime.
    pub remaining_seconds: i64,
}

/// What this machine hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A lease was made.
    Granted {
        /// The lease.
        id: LeaseId,
        /// Its lifetime in seconds.
        ttl_seconds: i64,
    },
    /// A lease was ended, by whomever.
    Revoked(LeaseId),
    /// The rest of a lifetime was written down.
    Checkpointed {
        /// The lease.
        id: LeaseId,
        /// The rest in seconds; 0 for a whole lifetime.
        remaining_seconds: i64,
    },
    /// All leases, after a start from a checkpoint or a snapshot from the leader: there are no
    /// others. Comes only while this member does not lead.
    Restored(Vec<Restored>),
    /// This member leads, and the first entry of its term is applied.
    Promoted,
    /// This member no longer leads.
    Demoted,
    /// Somebody keeps a lease alive. The next keep-alive of the same stream is handed in after
    /// the answer to this one, which keeps the answers of a stream in order.
    KeepAlive {
        /// For the answer.
        token: Token,
        /// The lease.
        id: LeaseId,
    },
    /// Somebody asks how long a lease has to live.
    TimeToLive {
        /// For the answer.
        token: Token,
        /// The lease.
        id: LeaseId,
    },
    /// This member led when it asked with [`Output::Confirm`], or later.
    Confirmed(Round),
    /// That could not be found out.
    Unconfirmed(Round),
    /// Nobody waits for the answer any more.
    Forget(Token),
    /// Time has passed.
    Tick,
}

/// What this machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask a quorum whether this member leads, after this: [`Input::Confirmed`] or
    /// [`Input::Unconfirmed`].
    Confirm(Round),
    /// The lease has ended: propose its revoke, here and now and nowhere else. May be dropped; it
    /// is asked for again.
    Revoke(LeaseId),
    /// Propose a checkpoint of 0 for the lease. May be dropped; it is asked for again.
    ClearCheckpoint(LeaseId),
    /// Propose checkpoints of these rests, in seconds, for these leases. May be dropped.
    WriteRests(Vec<(LeaseId, i64)>),
    /// Answer to a keep-alive.
    KeptAlive {
        /// Of the question.
        token: Token,
        /// The lease.
        id: LeaseId,
        /// The lifetime from now on, in seconds; 0 when the lease does not exist.
        ttl_seconds: i64,
    },
    /// Answer to a question for the time to live.
    TimeToLive {
        /// Of the question.
        token: Token,
        /// The lease.
        id: LeaseId,
        /// Whole seconds left, 0 when it has ended; -1 when the lease does not exist.
        ttl_seconds: i64,
        /// The lifetime granted, in seconds; 0 when the lease does not exist.
        granted_seconds: i64,
    },
    /// The question is for the leader, and this member is it no longer.
    NotPrimary(Token),
}
