//! Which snapshot may come in: one at a time, and the newest sender's.
//!
//! A leader sends one snapshot to a member at a time. So a second one means that the first has no sender any more: it
//! gave up, or another member leads now and the former leader is cut off in the midst of its transfer. Waiting for
//! the first would leave the member behind for as long as a dead connection looks alive. Hence a transfer gives way to
//! one of its own term or of a later one. Once all of it has arrived it stays: it is being made durable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Time that a transfer gets to give way. It stops at its next piece, so that this ends only when the disk hangs.
const GIVING_WAY: Duration = Duration::from_secs(5);

/// The one place for a snapshot on its way in.
pub(super) struct Intake(Arc<Shared>);

struct Shared {
    /// One permit, given back when the machines are done with what was received.
    place: Arc<Semaphore>,
    /// The transfer that still gives way to others.
    transfer: Mutex<Option<Transfer>>,
}

struct Transfer {
    term: u64,
    replaced: Arc<Notify>,
}

/// The right to receive a snapshot.
pub(super) struct Claim {
    shared: Arc<Shared>,
    replaced: Arc<Notify>,
    place: OwnedSemaphorePermit,
}

impl Shared {
    fn transfer(&self) -> MutexGuard<'_, Option<Transfer>> {
        // Nothing that can panic runs under this lock.
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intake {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            place: Arc::new(Semaphore::new(1)),
            transfer: Mutex::new(None),
        }))
    }

    /// Takes the place for the snapshot of a sender of this term. `None` while a sender of a later term has it, or
    /// what was received is not in use yet.
    pub(super) async fn claim(&self, term: u64) -> Option<Claim> {
        let under_way = self.0.transfer().as_ref().map(|transfer| {
            let gives_way = transfer.term <= term;
            if gives_way {
                transfer.replaced.notify_one();
            }
            gives_way
        });
        let place = Arc::clone(&self.0.place);
        let place = match under_way {
            None => place.try_acquire_owned().ok()?,
            Some(false) => return None,
            Some(true) => timeout(GIVING_WAY, place.acquire_owned())
                .await
                .ok()?
                .ok()?,
        };
        let replaced = Arc::new(Notify::new());
        *self.0.transfer() = Some(Transfer {
            term,
            replaced: Arc::clone(&replaced),
        });
        Some(Claim {
            shared: Arc::clone(&self.0),
            replaced,
            place,
        })
    }

    /// The machines are done with the snapshot received last.
    pub(super) fn done(&self) {
        self.0.place.add_permits(1);
    }
}

impl Claim {
    /// Waits until another sender wants the place.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// Everything has arrived: gives way to nobody any more.
    pub(super) fn arrived(&self) {
        *self.shared.transfer() = None;
    }

    /// The machines have it now: keeps the place until [`Intake::done`].
    pub(super) fn hand_over(mut self) {
        self.arrived();
        // The rest of this is dropped without its place.
        if let Some(place) = self.place.split(1) {
            place.forget();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the place is given back, so that a transfer is always that of the holder.
        self.arrived();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What a future says when it is asked once.
    fn ask<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn claim(intake: &Intake, term: u64) -> Option<Claim> {
        ask(pin!(intake.claim(term))).flatten()
    }

    #[tokio::test]
    async fn a_transfer_gives_way_to_its_own_term_and_later_ones() {
        for term in [4, 5] {
            let intake = Intake::new();
            let first = claim(&intake, 4).expect("the place is free");
            let mut second = pin!(intake.claim(term));
            assert!(ask(second.as_mut()).is_none(), "two at once");
            assert!(ask(pin!(first.replaced())).is_some(), "not told");
            drop(first);
            let second = ask(second.as_mut()).flatten().expect("given way");
            assert!(ask(pin!(second.replaced())).is_none(), "told of its own");
        }
    }

    #[tokio::test]
    async fn a_former_leader_is_refused() {
        let intake = Intake::new();
        let first = claim(&intake, 4).expect("the place is free");
        assert!(claim(&intake, 3).is_none());
        assert!(ask(pin!(first.replaced())).is_none(), "told to give way");
    }

    #[tokio::test]
    async fn what_has_arrived_stays_until_it_is_in_use() {
        let intake = Intake::new();
        let first = claim(&intake, 4).expect("the place is free");
        first.arrived();
        assert!(claim(&intake, 5).is_none(), "replaced after it arrived");
        first.hand_over();
        assert!(claim(&intake, 5).is_none(), "replaced before it is in use");
        intake.done();
        assert!(claim(&intake, 5).is_some());
        assert!(claim(&intake, 1).is_some(), "the former claim is gone");
    }
}
