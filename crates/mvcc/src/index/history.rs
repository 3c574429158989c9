//! The changes of one key.
//!
//! etcd calls the stretch from the first put of a key to its delete a *generation*. Here the
//! changes of all generations lie in one ordered list: a tombstone ends a generation, the put after
//! it begins the next, and each change carries its create revision and version. What the key was at
//! revision R is the newest change at or below R; a tombstone there means that it did not exist.
//!
//! Example: `put@2 put@5 delete@7 put@9` are the generations `{2, 5, 7t}` and `{9}`. At 6 the key
//! is what 5 wrote, at 8 it is absent. A compaction at 7 leaves `{7t}` and `{9}`, at 8 only `{9}`.
//!
//! Most keys have one change: it lies in the leaf of the index itself, in 32 bytes. A few changes lie
//! together in one array, which a new change replaces by a longer one: one allocation, and nothing
//! that a view still shows is touched. Of many, the newest lie in such an array of fixed size; each
//! time it is full it becomes a *chunk* in a tree. So a key written a million times between two
//! compactions costs no more per write than any other, and little more than one allocation.
//!
//! The newest changes of such a key mostly follow from the one before: the same pair written again. They lie in the leaf,
//! behind the reference to the array, as what is new of them (a [`Tail`]). So an array is replaced by a longer one only
//! by every third change.
//!
//! Invariants, checked by [`History::check`]:
//! - changes ascend, from chunk to chunk and in each of them;
//! - no chunk and no array is empty;
//! - one change lies in an array without a tail only when it does not fit the short form.

use std::ops::Bound;
use std::sync::Arc;

use kvorum_proto::ids::LeaseId;

use crate::btree::{Tree, Weigh};
use crate::{Change, Revision};

/// More changes than this are divided into chunks of this length.
const CHUNK_CHANGES: usize = 16;

/// The changes that a tail may have.
const TAIL_CHANGES: usize = 2;

/// What a history takes in a leaf.
const HISTORY_BYTES: usize = 32;
const _: () = assert!(size_of::<History>() == HISTORY_BYTES);

/// All kept changes of one key; never empty.
#[derive(Clone, Debug)]
pub(crate) enum History {
    /// One change whose numbers are as small as they nearly always are.
    One {
        main: i64,
        lease: LeaseId,
        /// How far the create revision is below `main`; 0 for a tombstone.
        back: u32,
        /// 0 marks a tombstone.
        version: u32,
        stored_bytes: u32,
        sub: u16,
    },
    /// At most [`CHUNK_CHANGES`] and a tail, ascending.
    Few(Arc<[Change]>, Tail),
    /// More than once were few.
    Many(Arc<Many>, Tail),
}

/// Changes of which each writes the pair before it again: the same incarnation and lease, the next version, the only
/// one of its store revision or the first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    /// How far each revision is above the one before.
    steps: [u32; TAIL_CHANGES],
    /// 0 where there is no change; it is never 0 in one.
    stored_bytes: [u16; TAIL_CHANGES],
}

impl Tail {
    /// The changes behind `base`, ascending.
    fn behind(self, base: Change) -> impl Iterator<Item = Change> {
        let rows = self.steps.into_iter().zip(self.stored_bytes);
        let rows = rows.take_while(|(_, stored_bytes)| *stored_bytes != 0);
        rows.scan(base, |before, (step, stored_bytes)| {
            *before = written_again(before, step, stored_bytes);
            Some(*before)
        })
    }

    /// The newest of these changes and `base`.
    fn newest(self, base: Change) -> Change {
        self.behind(base).last().unwrap_or(base)
    }

    /// The newest of these changes and `base` at or below a place.
    fn floor(self, base: Change, at: Revision) -> Option<Change> {
        let all = std::iter::once(base).chain(self.behind(base));
        all.take_while(|change| change.mod_revision() <= at).last()
    }

    /// The changes behind `base` and one more, in an array of which so many count.
    fn and(self, base: Change, change: Change) -> ([Change; TAIL_CHANGES + 1], usize) {
        let mut all = [change; TAIL_CHANGES + 1];
        let mut count = 1;
        for (place, held) in self.behind(base).enumerate() {
            all[place] = held;
            count += 1;
        }
        (all, count)
    }

    fn check(self) {
        let is_filled = self.stored_bytes.is_sorted_by(|a, b| *a != 0 || *b == 0);
        assert!(is_filled, "a tail has no gap");
    }

    /// These and one more; `None` when there is no room or the change does not follow from `newest`.
    fn with(mut self, newest: &Change, change: &Change) -> Option<Self> {
        let place = self.stored_bytes.iter().position(|bytes| *bytes == 0)?;
        let step = change.mod_revision().main - newest.mod_revision().main;
        let (step, stored_bytes) = (u32::try_from(step), u16::try_from(change.stored_bytes()));
        (self.steps[place], self.stored_bytes[place]) = (step.ok()?, stored_bytes.ok()?);
        let written = written_again(newest, self.steps[place], self.stored_bytes[place]);
        let follows = written == *change && !newest.is_tombstone();
        (follows && self.stored_bytes[place] != 0).then_some(self)
    }
}

/// The next write of a pair, so many revisions later.
fn written_again(before: &Change, step: u32, stored_bytes: u16) -> Change {
    Change::new(
        Revision::start_of(before.mod_revision().main + i64::from(step)),
        before.create_revision(),
        before.version() + 1,
        before.lease(),
        u32::from(stored_bytes),
    )
}

/// The changes of a key that was written often.
#[derive(Clone, Debug)]
pub(crate) struct Many {
    /// All but the newest, each chunk at the place of the first change that it had. A chunk loses
    /// its oldest changes without moving.
    chunks: Tree<Vec<Revision>, Chunk>,
    /// The newest ones are the first `recent_count` of these, which is never 0; what lies behind
    /// them has no meaning.
    recent: [Change; CHUNK_CHANGES],
    recent_count: usize,
}

type Chunk = Arc<[Change]>;

impl Weigh for Chunk {
    fn weight(&self) -> i64 {
        0
    }
}

impl Many {
    /// A list of changes that is long enough, and those behind it, which are not none.
    fn new(chunk: Chunk, newer: &[Change]) -> Self {
        let mut chunks = Tree::default();
        chunks.insert(&chunk[0].mod_revision(), chunk);
        let mut many = Many {
            chunks,
            recent: [newer[0]; CHUNK_CHANGES],
            recent_count: 0,
        };
        newer.iter().for_each(|change| many.push(*change));
        many
    }

    fn recent(&self) -> &[Change] {
        &self.recent[..self.recent_count]
    }

    fn push(&mut self, change: Change) {
        if self.recent_count == CHUNK_CHANGES {
            let first = self.recent[0].mod_revision();
            self.chunks.insert(&first, Arc::from(self.recent));
            self.recent_count = 0;
        }
        self.recent[self.recent_count] = change;
        self.recent_count += 1;
    }

    fn floor(&self, at: Revision) -> Option<Change> {
        // Only when all of the newest are younger, an older one is asked for.
        floor(self.recent(), at).or_else(|| floor(self.chunks.floor(&at)?.1, at))
    }

    /// Takes the dead at the front out of the chunks.
    fn forget(&mut self, dies: impl Fn(&Change) -> bool, forgotten: &mut impl FnMut(&Change)) {
        while let Some((place, chunk)) = self.first_chunk() {
            let dead = chunk.partition_point(&dies);
            chunk[..dead].iter().for_each(&mut *forgotten);
            if dead == chunk.len() {
                self.chunks.remove(&place);
                continue;
            }
            if dead > 0 {
                self.chunks.insert(&place, Arc::from(&chunk[dead..]));
            }
            return;
        }
    }

    fn first_chunk(&self) -> Option<(Revision, Chunk)> {
        let mut chunks = self.chunks.ascend(Bound::Unbounded);
        let (place, chunk) = chunks.next()?;
        Some((*place, Arc::clone(chunk)))
    }
}

/// The last of some changes.
fn last(changes: &[Change]) -> Change {
    *changes.last().expect("a list of changes is not empty")
}

/// The newest of some changes at or below a place.
fn floor(changes: &[Change], at: Revision) -> Option<Change> {
    let after = changes.partition_point(|change| change.mod_revision() <= at);
    after.checked_sub(1).map(|place| changes[place])
}

impl History {
    /// A key with one change.
    pub(crate) fn new(change: Change) -> Self {
        History::short(&change).unwrap_or_else(|| History::few(Arc::from([change])))
    }

    /// The short form of one change; `None` when a number is too large for it.
    fn short(change: &Change) -> Option<Self> {
        let at = change.mod_revision();
        let back = match change.version() {
            0 => change.create_revision(),
            _ => at.main.checked_sub(change.create_revision())?,
        };
        if change.is_tombstone() && back != 0 {
            return None;
        }
        Some(History::One {
            main: at.main,
            lease: change.lease(),
            back: u32::try_from(back).ok()?,
            version: u32::try_from(change.version()).ok()?,
            stored_bytes: u32::try_from(change.stored_bytes()).ok()?,
            sub: u16::try_from(at.sub).ok()?,
        })
    }

    /// Some changes, ascending and not more than are few; `None` of none.
    fn of(changes: &[Change]) -> Option<Self> {
        match changes {
            [] => None,
            [change] => Some(History::new(*change)),
            _ => Some(History::few(Arc::from(changes))),
        }
    }

    fn few(changes: Arc<[Change]>) -> Self {
        History::Few(changes, Tail::default())
    }

    /// The newest change, maybe a tombstone.
    pub(crate) fn newest(&self) -> Change {
        match self {
            History::One {
                main,
                lease,
                back,
                version,
                stored_bytes,
                sub,
            } => {
                let create = match version {
                    0 => 0,
                    _ => main - i64::from(*back),
                };
                let at = Revision {
                    main: *main,
                    sub: i64::from(*sub),
                };
                Change::new(at, create, i64::from(*version), *lease, *stored_bytes)
            }
            History::Few(changes, tail) => tail.newest(last(changes)),
            History::Many(many, tail) => tail.newest(last(many.recent())),
        }
    }

    /// Whether the newest change is a delete.
    pub(crate) fn ends_with_tombstone(&self) -> bool {
        match self {
            History::One { version, .. } => *version == 0,
            _ => self.newest().is_tombstone(),
        }
    }

    /// The newest change at or below a place in history, maybe a tombstone.
    pub(crate) fn floor(&self, at: Revision) -> Option<Change> {
        match self {
            History::One { .. } => Some(self.newest()).filter(|one| one.mod_revision() <= at),
            History::Few(changes, tail) => {
                let newer = tail.floor(last(changes), at);
                newer.or_else(|| floor(changes, at))
            }
            History::Many(many, tail) => {
                let newer = tail.floor(last(many.recent()), at);
                newer.or_else(|| many.floor(at))
            }
        }
    }

    /// Whether the change at a place is held.
    pub(crate) fn contains(&self, at: Revision) -> bool {
        self.floor(at)
            .is_some_and(|change| change.mod_revision() == at)
    }

    /// The pair a read sees at a store revision.
    pub(crate) fn live_at(&self, revision: i64) -> Option<Change> {
        if let History::One { main, version, .. } = self {
            return (*main <= revision && *version != 0).then(|| self.newest());
        }
        self.floor(Revision::end_of(revision))
            .filter(|change| !change.is_tombstone())
    }

    /// Whether a change of this key still exists in a store compacted at `compacted`.
    ///
    /// Source: etcd v3.7.1, `server/storage/mvcc/key_index.go` (`compact`).
    pub(crate) fn keeps(&self, at: Revision, is_tombstone: bool, compacted: i64) -> bool {
        if at.main > compacted {
            return true;
        }
        let newest = self.floor(Revision::end_of(compacted));
        newest.is_some_and(|newest| newest.mod_revision() == at)
            && (!is_tombstone || at.main == compacted)
    }

    /// Adds a change after all others.
    pub(crate) fn push(&mut self, change: Change) {
        let newest = self.newest();
        assert!(
            change.mod_revision() > newest.mod_revision(),
            "history grows at its end"
        );
        match self {
            History::One { .. } => {
                *self = match Tail::default().with(&newest, &change) {
                    Some(tail) => History::Few(Arc::from([newest]), tail),
                    None => History::few(Arc::from([newest, change])),
                };
            }
            History::Few(changes, tail) => {
                if let Some(longer) = tail.with(&newest, &change) {
                    *tail = longer;
                    return;
                }
                let (newer, count) = tail.and(last(changes), change);
                let newer = &newer[..count];
                *self = if changes.len() < CHUNK_CHANGES {
                    History::few(changes.iter().chain(newer).copied().collect())
                } else {
                    let many = Many::new(Arc::clone(changes), newer);
                    History::Many(Arc::new(many), Tail::default())
                };
            }
            History::Many(many, tail) => {
                if let Some(longer) = tail.with(&newest, &change) {
                    *tail = longer;
                    return;
                }
                let (newer, count) = std::mem::take(tail).and(last(many.recent()), change);
                let many = Arc::make_mut(many);
                newer[..count].iter().for_each(|change| many.push(*change));
            }
        }
    }

    /// Forgets every change before a place, and with `itself` the one there too; calls `forgotten`
    /// with each. Returns whether another is left; if not, the key must go.
    pub(crate) fn forget(
        &mut self,
        at: Revision,
        itself: bool,
        mut forgotten: impl FnMut(&Change),
    ) -> bool {
        let dies = |change: &Change| {
            let place = change.mod_revision();
            place < at || (itself && place == at)
        };
        let held: Vec<Change> = match self {
            History::Many(many, tail) => {
                let many = Arc::make_mut(many);
                many.forget(dies, &mut forgotten);
                if !many.chunks.is_empty() {
                    return true;
                }
                let newer = tail.behind(last(many.recent()));
                many.recent().iter().copied().chain(newer).collect()
            }
            _ => self.changes(),
        };
        let dead = held.partition_point(dies);
        held[..dead].iter().for_each(&mut forgotten);
        let left = History::of(&held[dead..]);
        let is_left = left.is_some();
        left.into_iter().for_each(|left| *self = left);
        is_left
    }

    /// All kept changes, ascending.
    pub(crate) fn changes(&self) -> Vec<Change> {
        match self {
            History::One { .. } => vec![self.newest()],
            History::Few(changes, tail) => {
                let newer = tail.behind(last(changes));
                changes.iter().copied().chain(newer).collect()
            }
            History::Many(many, tail) => {
                let chunks = many.chunks.ascend(Bound::Unbounded);
                let older = chunks.flat_map(|(_, chunk)| chunk.iter());
                let newer = tail.behind(last(many.recent()));
                let held = older.chain(many.recent()).copied();
                held.chain(newer).collect()
            }
        }
    }

    /// Panics when an invariant does not hold.
    pub(crate) fn check(&self) {
        let changes = self.changes();
        let place = |change: &Change| change.mod_revision();
        assert!(
            changes.is_sorted_by(|a, b| place(a) < place(b)),
            "changes ascend"
        );
        match self {
            History::One { .. } => {}
            History::Few(few, tail) => {
                assert!(
                    changes.len() > 1 || History::short(&few[0]).is_none(),
                    "one change is short if it can be"
                );
                assert!(
                    few.len() <= CHUNK_CHANGES + TAIL_CHANGES,
                    "few changes are few"
                );
                tail.check();
            }
            History::Many(many, tail) => {
                tail.check();
                many.chunks.check_invariants();
                let chunks = many.chunks.ascend(Bound::Unbounded);
                for (first, chunk) in chunks {
                    assert!(!chunk.is_empty(), "no chunk is empty");
                    assert!(*first <= place(&chunk[0]), "a chunk is where it began");
                }
                assert!(!many.recent().is_empty(), "there is a newest change");
                assert!(!many.chunks.is_empty(), "without a chunk they are few");
            }
        }
    }
}

#[cfg(test)]
mod tests;
