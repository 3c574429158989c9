//! Places with stable numbers: what watchers, streams and targets use to point at each other.
//!
//! A slot is a number with the type of what lies there, four bytes long, and a lookup is one array
//! access: with tens of thousands of watchers per event that is what a message costs. A slot is
//! only as good as its holder's bookkeeping (a place is used again after `remove`), so slots never
//! leave the hub; `check_invariants` proves that every one held points at its owner.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

/// The place of one `T` in a [`Slots`].
pub(super) struct Slot<T>(u32, PhantomData<fn() -> T>);

impl<T> Slot<T> {
    /// The smallest slot, for the lower end of a range of pairs.
    pub(super) const MIN: Self = Self(0, PhantomData);
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl<T> PartialEq for Slot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Slot<T> {}

impl<T> PartialOrd for Slot<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Slot<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Values with stable places; the place of a removed value is used again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    cells: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    /// No value yet.
    pub(super) const fn new() -> Self {
        Self {
            cells: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Puts `value` at a free place.
    pub(super) fn insert(&mut self, value: T) -> Slot<T> {
        if let Some(place) = self.free.pop() {
            self.cells[place as usize] = Some(value);
            return Slot(place, PhantomData);
        }
        let place = u32::try_from(self.cells.len()).expect("memory ends before 2^32 values");
        self.cells.push(Some(value));
        Slot(place, PhantomData)
    }

    /// Takes the value at `slot` out.
    pub(super) fn remove(&mut self, slot: Slot<T>) -> T {
        let value = self.cells[slot.0 as usize]
            .take()
            .expect("a slot in use holds a value");
        self.free.push(slot.0);
        value
    }

    /// The value at `slot`, or nothing when the place is free.
    pub(super) fn find(&self, slot: Slot<T>) -> Option<&T> {
        self.cells.get(slot.0 as usize)?.as_ref()
    }

    /// All values with their slots, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot<T>, &T)> {
        self.cells.iter().enumerate().filter_map(|(place, cell)| {
            cell.as_ref()
                .map(|value| (Slot(place as u32, PhantomData), value))
        })
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }
}

impl<T> std::ops::Index<Slot<T>> for Slots<T> {
    type Output = T;

    fn index(&self, slot: Slot<T>) -> &T {
        self.cells[slot.0 as usize]
            .as_ref()
            .expect("a slot in use holds a value")
    }
}

impl<T> std::ops::IndexMut<Slot<T>> for Slots<T> {
    fn index_mut(&mut self, slot: Slot<T>) -> &mut T {
        self.cells[slot.0 as usize]
            .as_mut()
            .expect("a slot in use holds a value")
    }
}
