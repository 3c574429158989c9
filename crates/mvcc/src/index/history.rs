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
//! that a view still shows is touched. The newest of them mostly follow from the one before: the same pair written again.
//! They lie in the leaf, behind the reference to the array, as what is new of them (a [`Tail`]). So an array is replaced
//! only by every third change.
//!
//! More lie in a [`Chunk`], which has room for those to come: most writes of a hot key allocate nothing. When the largest
//! chunk is full, it goes into a tree and the next one begins. So a key written a million times between two
//! compactions costs no more per write than any other.
//!
//! Invariants, checked by [`History::check`]:
//! - changes ascend, from chunk to chunk and in each of them;
//! - no chunk and no array is empty;
//! - one change lies in an array without a tail only when it does not fit the short form.

mod chunk;

use std::ops::Bound;
use std::sync::Arc;

use kvorum_proto::ids::LeaseId;

use crate::btree::{Tree, Weigh};
use crate::{Change, Revision};
use chunk::{Chunk, Held, Piece};

/// An array of so many changes is not replaced by a longer one.
const FEW_CHANGES: usize = 16;

/// A compaction that leaves no more changes of a key gives them an array of their own.
const FEW_LEFT: usize = 6;

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
    /// Some changes and a tail, ascending.
    Few(Arc<[Change]>, Tail),
    /// More than were few once.
    Many {
        /// All but the newest chunk; `None` for none. Each is at the place of the oldest change that it had: it loses
        /// its oldest changes without moving.
        older: Option<Arc<Older>>,
        /// The newest chunk.
        piece: Arc<Piece>,
        held: Held,
    },
}

type Older = Tree<Vec<Revision>, Chunk>;

impl Weigh for Chunk {
    const REUSES_NODES: bool = false;

    fn weight(&self) -> i64 {
        0
    }
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

/// Takes the dead at the front out of some chunks.
fn forget_older(
    chunks: &mut Older,
    dies: impl Fn(&Change) -> bool,
    forgotten: &mut impl FnMut(&Change),
) {
    while let Some((place, mut chunk)) = first_of(chunks) {
        let Chunk { piece, held } = &mut chunk;
        let dead = piece.count_while(*held, &dies);
        let changes = piece.changes(*held).take(dead);
        changes.for_each(|change| forgotten(&change));
        if dead == held.len() {
            chunks.remove(&place);
            continue;
        }
        if dead > 0 {
            *held = held.without_first(dead);
            chunks.insert(&place, chunk);
        }
        return;
    }
}

fn first_of(chunks: &Older) -> Option<(Revision, Chunk)> {
    let (place, chunk) = chunks.ascend(Bound::Unbounded).next()?;
    Some((*place, chunk.clone()))
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

    /// Some changes, ascending and not none, in as many chunks as they need.
    fn many(mut changes: impl Iterator<Item = Change>) -> Self {
        let first = changes.next().expect("many are not none");
        let Chunk { piece, held } = Chunk::with_room(first, 1);
        let older = None;
        let mut many = History::Many { older, piece, held };
        changes.for_each(|change| many.push(change));
        many
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
            History::Many { piece, held, .. } => piece.newest(*held),
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
            // Only when all of the newest are younger, an older one is asked for.
            History::Many { older, piece, held } => piece.floor(*held, at).or_else(|| {
                let (_, chunk) = older.as_deref()?.floor(&at)?;
                chunk.piece.floor(chunk.held, at)
            }),
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
                let all = changes.iter().chain(newer).copied();
                let length = changes.len() + count;
                *self = match Chunk::of(all.clone(), length) {
                    Some(Chunk { piece, held }) => {
                        let older = None;
                        History::Many { older, piece, held }
                    }
                    // A chunk for each that does not follow would be larger than an array.
                    None if changes.len() < FEW_CHANGES => History::few(all.collect()),
                    None => History::many(all),
                };
            }
            History::Many { older, piece, held } => {
                if let Some(longer) = piece.push(*held, &change) {
                    *held = longer;
                    return;
                }
                let is_full = piece.is_full(*held);
                let grown = is_full.then(|| piece.grown(*held)).flatten();
                if let Some(grown) = grown {
                    (*piece, *held) = (grown.piece, grown.held);
                    return self.push(change);
                }
                // What does not follow from those before it may do so time and again.
                let next = Chunk::with_room(change, if is_full { usize::MAX } else { 1 });
                let before = Chunk {
                    piece: std::mem::replace(piece, next.piece),
                    held: std::mem::replace(held, next.held),
                };
                let place = before.piece.oldest(before.held).mod_revision();
                Arc::make_mut(older.get_or_insert_default()).insert(&place, before);
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
        if let History::Many { older, piece, held } = self {
            if let Some(chunks) = older {
                let chunks = Arc::make_mut(chunks);
                forget_older(chunks, dies, &mut forgotten);
                if !chunks.is_empty() {
                    return true;
                }
                *older = None;
            }
            let dead = piece.count_while(*held, dies);
            if held.len() - dead > FEW_LEFT {
                let changes = piece.changes(*held).take(dead);
                changes.for_each(|change| forgotten(&change));
                *held = held.without_first(dead);
                return true;
            }
        }
        let held = self.changes();
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
            History::Many { older, piece, held } => {
                let older = older.iter();
                let chunks = older.flat_map(|chunks| chunks.ascend(Bound::Unbounded));
                let older = chunks.flat_map(|(_, chunk)| chunk.piece.changes(chunk.held));
                older.chain(piece.changes(*held)).collect()
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
                    few.len() <= FEW_CHANGES + TAIL_CHANGES,
                    "few changes are few"
                );
                tail.check();
            }
            History::Many { older, held, .. } => {
                assert!(held.len() > 0, "there is a newest change");
                let Some(chunks) = older else {
                    return;
                };
                chunks.check_invariants();
                assert!(!chunks.is_empty(), "what is older is not nothing");
                for (place_in_tree, chunk) in chunks.ascend(Bound::Unbounded) {
                    assert!(chunk.held.len() > 0, "no chunk is empty");
                    let oldest = chunk.piece.oldest(chunk.held);
                    let is_where_it_began = *place_in_tree <= place(&oldest);
                    assert!(is_where_it_began, "a chunk is where it began");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
