//! What the requests of one turn of a connection share.
//!
//! A turn takes all that the client has sent. Its proposals go to the core thread together: one push into the queue and
//! at most one wake-up, and one group of the log instead of a group of one and another of the rest. Its reads run on one
//! view, taken after they were asked for: taking it counts references that all threads share.
//!
//! Invariant: a thread is in at most one turn, and what a turn gathered is sent before it ends.

use std::cell::RefCell;

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

/// Runs `work` as one turn and returns the commands that it gathered.
pub(super) fn gather(work: &mut dyn FnMut()) -> Gathered {
    TURN.with_borrow_mut(|turn| turn.is_open = true);
    work();
    TURN.with_borrow_mut(|turn| {
        turn.is_open = false;
        turn.view = None;
        match turn.commands.len() {
            0 | 1 => Gathered::One(turn.commands.pop()),
            _ => Gathered::Many(std::mem::take(&mut turn.commands)),
        }
    })
}

/// The commands of a turn.
pub(super) enum Gathered {
    One(Option<Command>),
    Many(Vec<Command>),
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
