//! Neighbouring changes of a key in one piece of memory, with room for those to come.
//!
//! A new change is written into a *cell* behind the newest one, although views hold the same piece: each holder has its
//! own count of changes and does not look behind them, and a cell is written once. So nothing is copied, and nothing
//! that a view shows is touched. Two holders may both go on from the same piece: the one that comes second finds the
//! cell taken, and has to begin a piece of its own.
//!
//! The first change of a piece is held whole, the others as what is new of them, which mostly is where they are and how
//! large the pair became.

use std::sync::{Arc, OnceLock};

use kvorum_proto::ids::LeaseId;

use crate::{Change, Revision};

/// The cells of a piece of each size. With the rest of it they fill 96, 192, 384 and 1,024 bytes, which allocators do
/// not round up.
const SMALLEST: usize = 2;
const SMALL: usize = 8;
const LARGE: usize = 20;
const LARGEST: usize = 60;
const _: () = assert!(piece_bytes::<SMALLEST>() <= 96);
const _: () = assert!(piece_bytes::<SMALL>() <= 192);
const _: () = assert!(piece_bytes::<LARGE>() <= 384);
const _: () = assert!(piece_bytes::<LARGEST>() <= 1024);

const fn piece_bytes<const CELLS: usize>() -> usize {
    let reference_counts = 2 * size_of::<usize>();
    reference_counts + size_of::<Piece<[OnceLock<Row>; CELLS]>>()
}

/// Marks a tombstone; no piece has so many changes.
const TOMBSTONE: u16 = u16::MAX;

/// Ascending changes of one key, at least one.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(super) piece: Arc<Piece>,
    pub(super) held: Held,
}

/// Which places of a piece a holder has; not none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Place 0 is the first change, place 1 the first cell.
    from: u8,
    until: u8,
}

impl Held {
    /// Number of changes.
    pub(super) fn len(self) -> usize {
        usize::from(self.until - self.from)
    }

    /// Without so many at the front, fewer than there are.
    pub(super) fn without_first(self, count: usize) -> Self {
        assert!(count < self.len(), "a chunk is not empty");
        let from = self.from + count as u8;
        Held { from, ..self }
    }
}

/// Memory of changes; see the module.
#[derive(Debug)]
pub(crate) struct Piece<Cells: ?Sized = [OnceLock<Row>]> {
    first: Change,
    cells: Cells,
}

/// A change that follows from those before it, and has the lease of the first one if it is no tombstone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// How far the store revision is above that of the first change.
    above_first: u32,
    stored_bytes: u32,
    sub: u16,
    /// The place of the oldest change of its incarnation that the piece has.
    began: u16,
}

impl Chunk {
    /// One change, and room for so many in all, or as many as a piece may have.
    pub(super) fn with_room(first: Change, changes: usize) -> Self {
        let piece = if changes <= 1 + SMALLEST {
            piece::<SMALLEST>(first)
        } else if changes <= 1 + SMALL {
            piece::<SMALL>(first)
        } else if changes <= 1 + LARGE {
            piece::<LARGE>(first)
        } else {
            piece::<LARGEST>(first)
        };
        let held = Held { from: 0, until: 1 };
        Chunk { piece, held }
    }

    /// Some changes, ascending and not none, and room for so many in all; `None` when they do not follow from the first
    /// of them.
    pub(super) fn of(mut changes: impl Iterator<Item = Change>, room: usize) -> Option<Self> {
        let mut chunk = Chunk::with_room(changes.next()?, room);
        for change in changes {
            chunk.held = chunk.piece.push(chunk.held, &change)?;
        }
        Some(chunk)
    }
}

fn piece<const CELLS: usize>(first: Change) -> Arc<Piece> {
    let cells = [const { OnceLock::new() }; CELLS];
    Arc::new(Piece { first, cells })
}

impl Piece {
    /// The oldest change of a holder.
    pub(super) fn oldest(&self, held: Held) -> Change {
        self.at(held.from.into())
    }

    /// The newest change of a holder.
    pub(super) fn newest(&self, held: Held) -> Change {
        self.at(usize::from(held.until) - 1)
    }

    /// The changes of a holder, ascending.
    pub(super) fn changes(&self, held: Held) -> impl Iterator<Item = Change> {
        (held.from..held.until).map(|place| self.at(place.into()))
    }

    /// How many changes at the front are as asked; those behind are not.
    pub(super) fn count_while(&self, held: Held, is_asked: impl Fn(&Change) -> bool) -> usize {
        let (mut low, mut high) = (usize::from(held.from), usize::from(held.until));
        while low < high {
            let middle = low.midpoint(high);
            if is_asked(&self.at(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - usize::from(held.from)
    }

    /// The newest change at or below a place in history.
    pub(super) fn floor(&self, held: Held, at: Revision) -> Option<Change> {
        let count = self.count_while(held, |change| change.mod_revision() <= at);
        let before = count.checked_sub(1)?;
        Some(self.at(usize::from(held.from) + before))
    }

    /// Whether there is no cell behind the changes of a holder.
    pub(super) fn is_full(&self, held: Held) -> bool {
        usize::from(held.until) > self.cells.len()
    }

    /// Adds a change after all others; `None` when it does not follow from them or no cell is free.
    pub(super) fn push(&self, held: Held, change: &Change) -> Option<Held> {
        let place = usize::from(held.until);
        let cell = self.cells.get(place - 1)?;
        cell.set(self.row(place, change)?).ok()?;
        let until = held.until + 1;
        Some(Held { until, ..held })
    }

    /// The same changes with more room; `None` when there is no larger piece, or they do not follow from the first of
    /// them.
    pub(super) fn grown(&self, held: Held) -> Option<Chunk> {
        if self.cells.len() == LARGEST {
            return None;
        }
        Chunk::of(self.changes(held), held.len() + 1)
    }

    /// The change at a place that is written.
    fn at(&self, place: usize) -> Change {
        match place {
            0 => self.first,
            _ => self.change(place, self.written(place)),
        }
    }

    fn written(&self, place: usize) -> &Row {
        let row = self.cells[place - 1].get();
        row.expect("a holder looks at cells that it knows to be written")
    }

    /// The change that a row is of.
    fn change(&self, place: usize, row: &Row) -> Change {
        let first = &self.first;
        let at = Revision {
            main: self.main(row),
            sub: i64::from(row.sub),
        };
        let began = usize::from(row.began);
        let since = (place as i64) - (began as i64);
        let (create, version) = match row.began {
            TOMBSTONE => return Change::new(at, 0, 0, LeaseId(0), row.stored_bytes),
            0 => (first.create_revision(), first.version() + since),
            _ if since == 0 => (at.main, 1),
            _ => (self.main(self.written(began)), 1 + since),
        };
        Change::new(at, create, version, first.lease(), row.stored_bytes)
    }

    fn main(&self, row: &Row) -> i64 {
        self.first.mod_revision().main + i64::from(row.above_first)
    }

    /// What is new of a change at a place; `None` when more than that is.
    fn row(&self, place: usize, change: &Change) -> Option<Row> {
        let at = change.mod_revision();
        let row = Row {
            above_first: u32::try_from(at.main - self.first.mod_revision().main).ok()?,
            stored_bytes: u32::try_from(change.stored_bytes()).ok()?,
            sub: u16::try_from(at.sub).ok()?,
            began: if change.is_tombstone() {
                TOMBSTONE
            } else {
                self.began(place)
            },
        };
        (self.change(place, &row) == *change).then_some(row)
    }

    /// Where the incarnation begins that a put at a place belongs to.
    fn began(&self, place: usize) -> u16 {
        let before = place - 1;
        if self.at(before).is_tombstone() {
            return place as u16;
        }
        match before {
            0 => 0,
            _ => self.written(before).began,
        }
    }
}
