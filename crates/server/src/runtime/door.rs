//! The door to the machines: a queue with a thread behind it, and for short work a way past both.
//!
//! A put that comes alone would change threads twice, to the core thread and back, and each change costs a quarter of
//! what its durable write does. So a connection that finds the queue empty and nobody at the machines turns them
//! itself: it proposes, writes the log, applies, and finds its answer in its own queue. Whoever comes meanwhile finds
//! somebody at the machines and goes the ordinary way; the core thread then takes all of them as one batch.
//!
//! Nobody waits for the lock but the core thread. What may take long (changes of the membership, defragmentation,
//! compaction, looks at the machines) is the core thread's alone, and so is everything while a write to the log
//! usually takes longer than [`WRITE_MAX`] or the process has one worker only: other connections must not stand still
//! behind a disk.
//!
//! # Invariants
//!
//! - What one connection asked is taken in its order: nobody passes a command that waits or is being taken.
//! - Whoever leaves the machines with an earlier deadline, or stopped, tells the core thread, which may be asleep.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::core_thread::{Command, CoreThread, StopReason};

/// With writes to the log that usually take longer than this, only the core thread turns the machines.
pub(super) const WRITE_MAX: Duration = Duration::from_millis(4);

/// The machines and the queue of what they are asked.
#[derive(Default)]
pub(super) struct Door {
    /// Set once, when the core thread starts.
    queue: OnceLock<Sender<Command>>,
    /// Commands in the queue, and those of the turn that the core thread is at.
    waiting: AtomicUsize,
    /// Empty before the core thread starts and when it ends.
    core: Mutex<Option<CoreThread>>,
    /// Whether other threads may turn the machines.
    shares: OnceLock<bool>,
}

impl Door {
    /// Opens the door: what is sent from now on arrives.
    pub(super) fn open(&self, queue: Sender<Command>, workers: usize) {
        // Called once.
        let _ = self.queue.set(queue);
        let _ = self.shares.set(workers > 1);
    }

    /// Puts a command into the queue; gives it back when nobody will take it.
    pub(super) fn send(&self, command: Command) -> Option<Command> {
        let Some(queue) = self.queue.get() else {
            return Some(command);
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        queue.send(command).err().map(|refused| refused.0)
    }

    /// Carries a command out here and now; gives it back when that must not be.
    pub(super) fn turn_here(&self, command: Command) -> Option<Command> {
        if !self.shares.get().is_some_and(|shares| *shares) || !command.is_short() {
            return Some(command);
        }
        // A poisoned lock means a panic, which ends the process.
        let Ok(mut place) = self.core.try_lock() else {
            return Some(command);
        };
        let core = place
            .as_mut()
            .filter(|core| core.may_be_turned_by_workers());
        let Some(core) = core.filter(|_| self.waiting.load(Ordering::Acquire) == 0) else {
            return Some(command);
        };
        let is_early = core.turn_for_worker(command);
        drop(place);
        if is_early {
            let _ = self.send(Command::Wake);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<CoreThread>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The core thread: turns the machines until the end.
    pub(super) fn run(&self, core: CoreThread, commands: &Receiver<Command>) -> StopReason {
        let mut sleep = self.lock().insert(core).begin();
        while let Some(at_most) = sleep {
            let first = match commands.recv_timeout(at_most) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut place = self.lock();
            let Some(core) = place.as_mut() else { break };
            let taken = core.turn_for_queue(first, commands);
            self.waiting.fetch_sub(taken, Ordering::AcqRel);
            sleep = core.rest();
        }
        let core = self.lock().take();
        core.map_or(StopReason::Asked, |core| core.finish(commands))
    }
}
