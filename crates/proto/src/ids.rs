//! Numbers with a meaning: two bare integers side by side are a bug in waiting.

use std::fmt;
use std::time::Duration;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number!(
    /// A member of a cluster; 0 means none. Shown as lower-case hex without leading zeros.
    MemberId(u64), "{:x}"
);
number!(
    /// A cluster. Shown as lower-case hex without leading zeros.
    ClusterId(u64), "{:x}"
);
number!(
    /// A lease; 0 means none. Clients may choose negative numbers. Shown as lower-case hex.
    LeaseId(i64), "{:x}"
);
number!(
    /// A position in the raft log; the first entry has 1, and 0 stands before it.
    LogIndex(u64), "{}"
);
number!(
    /// A raft term; 0 before the first election.
    Term(u64), "{}"
);
number!(
    /// A request proposed by a member; 0 means that nobody waits for it.
    RequestId(u64), "{:x}"
);

/// A point in monotonic time, as the time since some fixed origin (the start of the process, or
/// of the simulated world). Machines are given it with each call; they never ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// Saturates: a deadline too far to be written down is never reached.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}
