//! Memory for the bytes of new records: many small ones in one piece.
//!
//! In memory of its own each record would take an allocation for its bytes. Those that are made one after another live
//! equally long, until the run that they are in lies in a file, so they share a piece and the count of who holds it.

use bytes::{Bytes, BytesMut};

/// Bytes of a piece: as long as one of its records is held, all of it is.
const PIECE_BYTES: usize = 16 << 10;

/// What is larger has memory of its own, so that little of a piece is left over at its end.
const SMALL_BYTES_MAX: usize = 1 << 10;

/// What is left of the newest piece.
#[derive(Debug)]
pub(crate) struct Room {
    left: BytesMut,
    /// What is larger than this has memory of its own.
    small_bytes_max: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            left: BytesMut::new(),
            small_bytes_max: SMALL_BYTES_MAX,
        }
    }
}

impl Room {
    /// For one record alone.
    pub(crate) fn none() -> Self {
        Self {
            left: BytesMut::new(),
            small_bytes_max: 0,
        }
    }

    /// Exactly so many bytes, written by `fill` into an empty buffer.
    pub(crate) fn fill(&mut self, length: usize, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
        if length > self.small_bytes_max {
            let mut own = BytesMut::with_capacity(length);
            fill(&mut own);
            return own.freeze();
        }
        // Only what is behind those that were split off counts as its capacity.
        if self.left.capacity() < length {
            self.left = BytesMut::with_capacity(PIECE_BYTES);
        }
        fill(&mut self.left);
        self.left.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, Room, SMALL_BYTES_MAX};

    #[test]
    fn neighbours_share_a_piece_and_hold_what_was_written() {
        let mut room = Room::default();
        let lengths = [0, 1, 300, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, PIECE_BYTES];
        let numbers = 0..200_u8;
        let length = |number: u8| lengths[usize::from(number) % lengths.len()];
        let mut write = |number| {
            let bytes = vec![number; length(number)];
            room.fill(bytes.len(), |out| out.extend_from_slice(&bytes))
        };
        let written: Vec<_> = numbers.clone().map(&mut write).collect();
        for (number, bytes) in numbers.zip(&written) {
            assert_eq!(bytes, &vec![number; length(number)]);
        }
        assert_eq!(
            written[1].as_ptr().wrapping_add(1),
            written[2].as_ptr(),
            "small neighbours lie one behind the other"
        );
    }
}
