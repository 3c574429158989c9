//! Lists that every batch or request needs for a moment, in the same memory each time.

use kvorum_proto::etcdserverpb::TxnRequest;
use prost::Message as _;

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

/// Items of each list of a transaction that room is kept for; few have more. Beyond it the lists are freed.
const SPARE_TXN_ITEMS_MAX: usize = 16;

/// An empty transaction whose lists have the room that they had before.
#[derive(Debug, Default)]
pub struct SpareTxn(TxnRequest);

impl SpareTxn {
    /// Takes the transaction, to be decoded into; an empty one without room stays until it is put back.
    pub fn take(&mut self) -> TxnRequest {
        std::mem::take(&mut self.0)
    }

    /// Keeps the lists of a transaction that is carried out or proposed.
    pub fn put_back(&mut self, mut txn: TxnRequest) {
        let operations = txn.success.capacity().max(txn.failure.capacity());
        if operations.max(txn.compare.capacity()) <= SPARE_TXN_ITEMS_MAX {
            txn.clear();
            self.0 = txn;
        }
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::etcdserverpb::RequestOp;

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

    #[test]
    fn the_lists_of_a_usual_transaction_stay_and_are_empty() {
        let mut spare = SpareTxn::default();
        let mut txn = spare.take();
        txn.success.push(RequestOp::default());
        let place = txn.success.as_ptr();
        spare.put_back(txn);
        let mut txn = spare.take();
        assert_eq!(
            (txn.success.as_ptr(), &txn),
            (place, &TxnRequest::default())
        );
        txn.failure.reserve(SPARE_TXN_ITEMS_MAX + 1);
        spare.put_back(txn);
        assert_eq!(spare.take().failure.capacity(), 0);
    }
}
