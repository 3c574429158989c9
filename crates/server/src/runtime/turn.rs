//! What the requests of one turn of a connection share.
//!
//! A turn takes all that the client has sent. Its proposals go to the core thread together: one push into the queue and
//! at most one wake-up, and one group of the log instead of a group of one and another of the rest. Its reads run on one
//! view, taken after they were asked for: taking it counts references that all threads share.
//!
//! The list of proposals goes with them. Whoever has taken them in gives it back ([`SpareLists`]), and a later turn gets it.
//!
//! Invariant: a thread is in at most one turn, and what a turn gathered is sent before it ends.

use std::cell::RefCell;
use std::sync::{Mutex, TryLockError};

use kvorum_member::apply::ReadView;

use super::core_thread::Command;

#[derive(Default)]
struct Turn {
    is_open: bool,
    /// Taken at the first read.
    view: Option<ReadView>,
    commands: Vec<Command>,
}

thread_local! {
    static TURN: RefCell<Turn> = RefCell::default();
}

/// Runs `work` as one turn and returns the commands that it gathered; `spare` has lists for the next ones.
pub(super) fn gather(work: &mut dyn FnMut(), spare: &SpareLists) -> Gathered {
    TURN.with_borrow_mut(|turn| turn.is_open = true);
    work();
    TURN.with_borrow_mut(|turn| {
        turn.is_open = false;
        turn.view = None;
        match turn.commands.len() {
            0 | 1 => Gathered::One(turn.commands.pop()),
            _ => Gathered::Many(std::mem::replace(&mut turn.commands, spare.take())),
        }
    })
}

/// The commands of a turn.
pub(super) enum Gathered {
    One(Option<Command>),
    Many(Vec<Command>),
}

/// Commands that all lists have room for which are kept for turns to come.
const SPARE_COMMANDS_MAX: usize = 4096;

/// Lists of turns whose commands were taken in. Nobody waits for them: whoever finds somebody else at them has a new
/// list, or frees one.
#[derive(Default)]
pub(super) struct SpareLists(Mutex<Spare>);

/// Invariant: `room` is the sum of what the lists, which are empty, have room for.
#[derive(Default)]
struct Spare {
    lists: Vec<Vec<Command>>,
    room: usize,
}

impl SpareLists {
    fn take(&self) -> Vec<Command> {
        let list = self.with(|spare| {
            let list = spare.lists.pop()?;
            spare.room -= list.capacity();
            Some(list)
        });
        list.flatten().unwrap_or_default()
    }

    /// Gives a list back that is worked off.
    pub(super) fn put_back(&self, mut list: Vec<Command>) {
        list.clear();
        self.with(|spare| {
            let room = spare.room + list.capacity();
            if room <= SPARE_COMMANDS_MAX {
                spare.room = room;
                spare.lists.push(list);
            }
        });
    }

    fn with<R>(&self, look: impl FnOnce(&mut Spare) -> R) -> Option<R> {
        match self.0.try_lock() {
            Ok(mut spare) => Some(look(&mut spare)),
            // A poisoned lock means a panic, which ends the process.
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => None,
        }
    }
}

/// Keeps a command for the end of the turn; gives it back outside of one.
pub(super) fn keep(command: Command) -> Option<Command> {
    TURN.with_borrow_mut(|turn| {
        if !turn.is_open {
            return Some(command);
        }
        turn.commands.push(command);
        None
    })
}

/// Looks at the view of the turn; outside of one, at a new one.
pub(super) fn look<R>(load: impl FnOnce() -> ReadView, look: impl FnOnce(&ReadView) -> R) -> R {
    // Nothing is borrowed while it looks: reading may come back here.
    let held = TURN.with_borrow_mut(|turn| turn.view.take());
    let view = held.unwrap_or_else(load);
    let result = look(&view);
    TURN.with_borrow_mut(|turn| {
        if turn.is_open {
            turn.view = Some(view);
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_given_out_again_and_a_burst_of_them_is_not_kept() {
        let spare = SpareLists::default();
        let list = Vec::with_capacity(100);
        let place = list.as_ptr();
        spare.put_back(list);
        let (first, second) = (spare.take(), spare.take());
        assert_eq!((first.as_ptr(), second.capacity()), (place, 0));
        let list = || Vec::with_capacity(SPARE_COMMANDS_MAX / 4);
        (0..5).for_each(|_| spare.put_back(list()));
        let room = std::iter::repeat_with(|| spare.take().capacity()).take(5);
        assert_eq!(room.sum::<usize>(), SPARE_COMMANDS_MAX);
    }
}
