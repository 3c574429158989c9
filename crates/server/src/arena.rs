//! Memory for requests and entries: many small ones in one piece.
//!
//! A request lives until it is answered, its entry as long as the log keeps it in memory, a small answer until it is
//! written, and all are seen as shared slices. In memory of its own each would take two allocations, the bytes and the count of who shares them. Here, those
//! that a thread makes one after another share a piece and its count.
//!
//! Whoever keeps a slice keeps the whole piece. So what outlives its neighbours (a key that hangs on a lease, a record, an answer
//! that flow control holds back)
//! is copied by whoever keeps it.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// Bytes of a piece.
const PIECE_BYTES: usize = 16 << 10;
/// What is larger has memory of its own.
pub(crate) const SMALL_BYTES_MAX: usize = 1 << 10;

thread_local! {
    static PIECE: RefCell<BytesMut> = RefCell::default();
}

/// Room for so many bytes, filled by `fill`, which gets an empty buffer and may need less or more. It must not come back here.
pub(crate) fn bytes(length: usize, fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    if length > SMALL_BYTES_MAX {
        let mut own = BytesMut::with_capacity(length);
        fill(&mut own);
        return own.freeze();
    }
    PIECE.with_borrow_mut(|piece| {
        // Only what is behind those that were split off counts as its capacity.
        if piece.capacity() < length {
            *piece = BytesMut::with_capacity(PIECE_BYTES);
        }
        fill(piece);
        piece.split().freeze()
    })
}

/// A copy of some bytes.
pub(crate) fn copy(source: &[u8]) -> Bytes {
    bytes(source.len(), |room| room.extend_from_slice(source))
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, SMALL_BYTES_MAX, bytes, copy};

    #[test]
    fn copies_hold_what_was_copied_wherever_they_lie() {
        let lengths = [0, 1, 300, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 70_000];
        let sources: Vec<Vec<u8>> = (0..200)
            .map(|number| vec![number as u8; lengths[number % lengths.len()]])
            .collect();
        let copies: Vec<_> = sources.iter().map(|source| copy(source)).collect();
        assert_eq!(copies, sources);
    }

    #[test]
    fn neighbours_share_a_piece_and_more_than_was_asked_for_fits() {
        let first = copy(&[1; 10]);
        let second = bytes(10, |room| room.extend_from_slice(&[2; 10]));
        assert_eq!(first.as_ptr().wrapping_add(10), second.as_ptr());
        let grown = bytes(1, |room| room.extend_from_slice(&[3; 2 * PIECE_BYTES]));
        assert_eq!(
            (grown.len(), &first[..], &second[..]),
            (2 * PIECE_BYTES, &[1; 10][..], &[2; 10][..])
        );
    }
}
