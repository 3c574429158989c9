//! How much room the disk has, and what a member does about it.
//!
//! A full disk is foreseen, not met. A *reserve* is really allocated in the directory of the state:
//! what a copy of segments, a checkpoint and the next file of the log take, so that deletes and
//! compactions can give space back. The shell tells [`DiskSpace`] in short intervals how much is
//! free:
//!
//! - Below [`Needs::free_bytes`] the disk is *short*: the reserve is given back to the disk, costly
//!   requests are refused here, and the alarm `NOSPACE` of this member is raised through the log,
//!   so that no member takes more. Reads, deletes, compactions and checkpoints go on.
//! - With room for both again, the reserve is taken again. The alarm stays until an operator clears
//!   it, as any other.
//!
//! Both lines are far enough from each other that giving back the reserve does not make the disk
//! look ample.

use std::time::Duration;

use kvorum_storage::vfs;

/// The reserve on a disk that is not small, in bytes: the next file of the log, the runs of the
/// history that may wait to be written, and a copy of segments.
pub const RESERVE_BYTES: u64 = 256 << 20;
/// Free space below which a disk that is not small is short, in bytes: another file of the log, and
/// what is written between two looks.
pub const FREE_BYTES_MIN: u64 = 96 << 20;
/// Of a small disk the reserve is this part at most.
const RESERVE_PART: u64 = 8;
/// Of a small disk the free space is this part at most.
const FREE_PART: u64 = 4;
/// Pause between two looks at a disk that may soon be short: in it a member writes less than is free then.
pub const LOOK_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Pause between two looks at a disk that has much room.
pub const LOOK_PAUSE_MAX: Duration = Duration::from_millis(500);
/// No disk is filled faster, in bytes per second.
const FILLED_BYTES_PER_SECOND_MAX: u64 = 16 << 30;
/// The part of it that has to be free beyond both before the reserve is taken again.
const AGAIN_PART: u64 = 8;

/// What a member wants of its disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Space that is set aside.
    pub reserve_bytes: u64,
    /// Space that has to be free beside the reserve.
    pub free_bytes: u64,
}

impl Needs {
    /// When to look again at a disk with so many bytes free: before it can be short.
    #[must_use]
    pub fn pause(self, free_bytes: u64) -> Duration {
        let spare_bytes = free_bytes.saturating_sub(self.free_bytes);
        let milliseconds = spare_bytes / (FILLED_BYTES_PER_SECOND_MAX / 1000);
        Duration::from_millis(milliseconds).clamp(LOOK_PAUSE_MIN, LOOK_PAUSE_MAX)
    }

    /// For a disk of so many bytes.
    #[must_use]
    pub fn of_disk(total_bytes: u64) -> Self {
        Self {
            reserve_bytes: RESERVE_BYTES.min(total_bytes / RESERVE_PART),
            free_bytes: FREE_BYTES_MIN.min(total_bytes / FREE_PART),
        }
    }
}

/// A state that comes from elsewhere does not fit. Nothing of the own state is touched by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for the state: {free_bytes} bytes of the disk are free, of which {kept_bytes} are for the log and for what makes room; \
     enlarge the disk or give the member another one"
)]
pub struct NoRoom {
    /// What is free.
    pub free_bytes: u64,
    /// What stays free.
    pub kept_bytes: u64,
}

/// Whether a state that comes from elsewhere may take so many bytes more: the disk must not become short by it, as that
/// would refuse writes in the whole cluster for the sake of one member that is of no use yet.
///
/// # Errors
///
/// [`NoRoom`].
pub fn room(disk: vfs::DiskSpace, bytes: u64) -> Result<(), NoRoom> {
    let kept_bytes = Needs::of_disk(disk.total_bytes).free_bytes;
    let free_bytes = disk.free_bytes;
    if free_bytes.saturating_sub(bytes) < kept_bytes {
        return Err(NoRoom {
            free_bytes,
            kept_bytes,
        });
    }
    Ok(())
}

/// What is to be done with the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take so many bytes.
    Reserve(u64),
    /// Give it back to the disk.
    Release,
}

/// Decides; see the module.
///
/// Invariant: while the disk is short there is no reserve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    is_reserved: bool,
    is_short: bool,
}

impl DiskSpace {
    /// Before the first look. `is_reserved`: an earlier run has left its reserve.
    #[must_use]
    pub fn new(is_reserved: bool) -> Self {
        Self {
            is_reserved,
            is_short: false,
        }
    }

    /// Whether costly requests are refused.
    #[must_use]
    pub fn is_short(self) -> bool {
        self.is_short
    }

    /// The disk has so many bytes free, the reserve not counted. Says what is to be done, if anything.
    pub fn look(&mut self, free_bytes: u64, needs: Needs) -> Option<Step> {
        if free_bytes < needs.free_bytes {
            self.is_short = true;
            return std::mem::take(&mut self.is_reserved).then_some(Step::Release);
        }
        // A little more, so that what is free behind the reserve is not the bound itself.
        let ample = needs.reserve_bytes + needs.free_bytes + needs.free_bytes / AGAIN_PART;
        if self.is_reserved || free_bytes < ample {
            return None;
        }
        self.is_short = false;
        self.is_reserved = true;
        Some(Step::Reserve(needs.reserve_bytes))
    }

    /// Whether the disk gave the reserve; somebody else may have been faster.
    pub fn took(&mut self, is_taken: bool) {
        self.is_reserved = is_taken;
        self.is_short = !is_taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const NEEDS: Needs = Needs {
        reserve_bytes: 128 * MIB,
        free_bytes: 96 * MIB,
    };

    /// A disk of which others fill or free a part before each look.
    fn run(start: u64, changes: &[i64]) -> Vec<(Option<Step>, bool)> {
        let (mut free, mut space) = (start * MIB, DiskSpace::new(false));
        let look = |change: &i64| {
            free = free.saturating_add_signed(change * MIB as i64);
            let step = space.look(free, NEEDS);
            match step {
                Some(Step::Reserve(bytes)) => free -= bytes,
                Some(Step::Release) => free += NEEDS.reserve_bytes,
                None => {}
            }
            (step, space.is_short())
        };
        changes.iter().map(look).collect()
    }

    #[test]
    fn the_reserve_is_given_up_when_the_disk_is_short_and_taken_again_when_it_is_not() {
        let reserve = Some(Step::Reserve(128 * MIB));
        let wanted = [
            (reserve, false),
            (None, false),
            // 95 MiB are free, and then those of the reserve.
            (Some(Step::Release), true),
            (None, true),
            // 235 MiB are not enough.
            (None, true),
            (reserve, false),
        ];
        assert_eq!(run(1000, &[0, -700, -77, -20, 32, 1]), wanted);
    }

    #[test]
    fn what_is_left_of_a_reserve_that_was_given_up_runs_out_quietly() {
        let looks = run(1000, &[0, -850, -100, -50]);
        assert_eq!(looks[1], (Some(Step::Release), true));
        assert_eq!(looks[2..], [(None, true), (None, true)]);
    }

    #[test]
    fn a_disk_that_is_short_from_the_start_is_known_to_be() {
        assert_eq!(run(10, &[0]), [(None, true)]);
        let mut restarted = DiskSpace::new(true);
        assert_eq!(restarted.look(0, NEEDS), Some(Step::Release));
        assert!(restarted.is_short());
        let mut between = DiskSpace::new(false);
        assert_eq!(between.look(100 * MIB, NEEDS), None);
        assert!(!between.is_short(), "there is room, if none for a reserve");
    }

    #[test]
    fn a_small_disk_is_not_all_reserve() {
        let large = Needs::of_disk(u64::MAX);
        assert_eq!(large.reserve_bytes + large.free_bytes, 352 * MIB);
        let small = Needs::of_disk(256 * MIB);
        assert_eq!(small.reserve_bytes + small.free_bytes, 96 * MIB);
    }

    #[test]
    fn a_disk_with_much_room_is_looked_at_less_often() {
        let milliseconds = |free: u64| NEEDS.pause(free).as_millis();
        let looks = [0, 96 * MIB, 900 * MIB, 4 << 30, 9 << 30, u64::MAX].map(milliseconds);
        assert_eq!(looks, [50, 50, 50, 244, 500, 500]);
    }

    #[test]
    fn a_reserve_that_somebody_was_faster_than_is_none() {
        let mut space = DiskSpace::new(false);
        space.look(1000 * MIB, NEEDS);
        space.took(false);
        assert!(space.is_short());
        assert_eq!(space.look(500 * MIB, NEEDS), Some(Step::Reserve(128 * MIB)));
        assert!(!space.is_short());
    }
}
