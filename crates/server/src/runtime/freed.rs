//! Freed memory goes back to the system, also when nobody asks for any more.
//!
//! The allocator keeps what was freed for a second, since it is likely to be wanted again. What has lain longer it gives
//! back on the way, when it takes pages for something or lets go of some. Where a load ends from one moment to the next
//! it gets no further occasion: a server that had 2,048 requests of 1 MB under way would hold 2 GB for as long as it
//! idles.

use std::time::Duration;

use tokio::time::sleep;

use crate::process::huge_pages::SmallPages;

/// Pauses between two occasions: short ones first, since reading a large state makes a process grow at its start, each
/// twice as long as the one before. At each occasion a quarter of the allocator's areas is looked at, one at least.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A block of so many bytes has pages of its own. Nothing is written to them, so the system has to find none.
const BLOCK_BYTES: usize = 1 << 20;

/// Gives the allocator occasions, and a process that has grown huge pages, until the runtime ends.
pub(crate) async fn look_after_memory(mut small_pages: Option<SmallPages>) {
    let mut pause = PAUSE_FIRST;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        return_freed();
        small_pages = small_pages.and_then(SmallPages::unless_grown);
    }
}

/// An occasion for the allocator to give back some of what was freed a second ago or earlier.
pub fn return_freed() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
}
