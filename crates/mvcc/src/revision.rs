//! Positions in the history of the store.

use std::fmt;

use kvorum_storage::segment::Place;

/// The store revision before the first write.
pub const REVISION_FIRST: i64 = 1;

/// The compacted revision while nothing has been compacted. It is -1 so that a compaction at 0 is
/// accepted once.
pub const NEVER_COMPACTED: i64 = -1;

/// One change: the store revision of its request and its place inside the request.
///
/// Ordered by `main`, then `sub`: the order of the history, of the events of a watch and of the
/// records under a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Store revision; the first change has 2, 0 stands for none.
    pub main: i64,
    /// Place among the changes of one request, from 0.
    pub sub: i64,
}

impl Revision {
    /// The first place of a store revision.
    pub const fn start_of(main: i64) -> Self {
        Revision { main, sub: 0 }
    }

    /// A place after every change of a store revision.
    pub const fn end_of(main: i64) -> Self {
        Revision {
            main,
            sub: i64::MAX,
        }
    }
}

impl From<Place> for Revision {
    fn from(place: Place) -> Self {
        Revision {
            main: place.main,
            sub: place.sub,
        }
    }
}

impl From<Revision> for Place {
    fn from(revision: Revision) -> Self {
        Place {
            main: revision.main,
            sub: revision.sub,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}
