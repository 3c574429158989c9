//! Numbers with a meaning: two bare integers side by side are a bug in waiting.

use std::fmt;

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
