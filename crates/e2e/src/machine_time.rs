//! Time in which this machine ran.
//!
//! A limit on how long a process takes is a promise about the process. Where the whole machine stands still for seconds,
//! as a virtual one does whose host is busy, or is so busy that nobody gets on, the clock on the wall goes on alone. So
//! a thread takes one short step after the other, and what a step takes longer than it should does not count.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// How long a step should take.
const STEP: Duration = Duration::from_millis(10);
/// What a step counts at most: some lateness is that of any machine.
const STEP_MAX: Duration = Duration::from_millis(15);

/// A step of a long wait, of which many may go on at once: a standstill counts as one.
const WAIT_STEP: Duration = Duration::from_secs(1);

/// Waits for a future. None when it is not ready within `limit` of such time, to a second.
pub(crate) async fn in_machine_time<T>(
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    for step in wait_steps(limit) {
        if let Ok(value) = timeout(step, &mut future).await {
            return Some(value);
        }
    }
    None
}

/// The steps of a wait that lasts at most so long. Each begins when the one before is over, however late that is.
pub(crate) fn wait_steps(limit: Duration) -> impl Iterator<Item = Duration> {
    let mut left = limit;
    std::iter::from_fn(move || {
        let step = left.min(WAIT_STEP);
        left -= step;
        (step > Duration::ZERO).then_some(step)
    })
}

/// A clock that stands still when the machine does.
pub struct MachineTime {
    ran_micros: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl MachineTime {
    /// Starts the clock.
    pub fn start() -> Self {
        let clock = Self {
            ran_micros: Arc::default(),
            is_over: Arc::default(),
        };
        let (ran, is_over) = (Arc::clone(&clock.ran_micros), Arc::clone(&clock.is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(STEP);
                let micros = counted(began.elapsed()).as_micros() as u64;
                ran.fetch_add(micros, Ordering::Relaxed);
            }
        });
        clock
    }

    /// How long the machine ran since then, to a step.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.ran_micros.load(Ordering::Relaxed))
    }
}

impl Drop for MachineTime {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// What a step that took so long counts.
fn counted(took: Duration) -> Duration {
    took.min(STEP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::block_on;

    #[test]
    fn a_standstill_counts_as_one_step() {
        assert_eq!(counted(STEP), STEP);
        assert_eq!(counted(Duration::from_secs(3)), STEP_MAX);
    }

    #[test]
    fn a_wait_takes_steps_that_add_up_to_its_limit() {
        let millis = |limit| {
            let steps = wait_steps(Duration::from_millis(limit));
            steps.map(|step| step.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(millis(2_500), [1_000, 1_000, 500]);
        assert_eq!(millis(0), []);
    }

    #[test]
    fn a_standstill_during_a_wait_counts_as_one_step() {
        // The thread stands still for as long as the limit, which is one step, and what it waits for comes in the other.
        let ready = async {
            thread::sleep(2 * WAIT_STEP);
            tokio::time::sleep(WAIT_STEP / 2).await;
        };
        assert_eq!(block_on(in_machine_time(2 * WAIT_STEP, ready)), Some(()));
        let never = std::future::pending::<()>();
        assert_eq!(block_on(in_machine_time(WAIT_STEP / 10, never)), None);
    }

    #[test]
    fn the_clock_goes_on_and_not_faster_than_that_on_the_wall() {
        let (wall, clock) = (Instant::now(), MachineTime::start());
        let mut before = Duration::ZERO;
        for _ in 0..10 {
            while clock.elapsed() == before {
                thread::yield_now();
            }
            before = clock.elapsed();
            assert!(before <= wall.elapsed());
        }
    }
}
