//! Lists that every batch or request needs for a moment, in the same memory each time.

/// Memory of a list that stays between two batches, in bytes. One that a burst has made longer is freed.
const SPARE_BYTES_MAX: usize = 512 << 10;

/// An empty list with the room that it had before.
///
/// Invariant: it is empty and has at most [`SPARE_BYTES_MAX`] of room.
#[derive(Debug)]
pub(crate) struct Spare<T>(Vec<T>);

impl<T> Spare<T> {
    /// Takes the list; an empty one without room stays until it is put back.
    pub(crate) fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }

    /// Keeps a list that is worked off, and drops what is left in it.
    pub(crate) fn put_back(&mut self, mut list: Vec<T>) {
        list.clear();
        if list.capacity() * size_of::<T>() <= SPARE_BYTES_MAX {
            self.0 = list;
        }
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_usual_lists_stays_and_that_of_a_burst_goes() {
        let mut spare = Spare::default();
        let mut list = spare.take();
        list.extend([7_u64; 100]);
        let place = list.as_ptr();
        spare.put_back(list);
        let mut list = spare.take();
        assert_eq!((list.as_ptr(), list.len()), (place, 0));
        list.reserve(SPARE_BYTES_MAX / size_of::<u64>() + 1);
        spare.put_back(list);
        assert_eq!(spare.take().capacity(), 0);
    }
}
