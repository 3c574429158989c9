//! Huge pages of memory from the moment on when the process is large enough to fill them.
//!
//! The allocator asks the system for huge pages, of 2 MiB. A large store is quicker with them: reads of random keys look
//! up fewer addresses. A member at rest has less than 2 MB in use, but in five places of the allocator's area, each for
//! another size of block, so that it would hold 10 MB. The system lets a process say that it wants none, and take that
//! back: what comes later are huge pages, and in time the system makes such ones of what is there.

use std::fs;

use rustix::param::page_size;
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// Memory of its own up to which a process takes small pages, in bytes.
const SMALL_BYTES_MAX: u64 = 16 << 20;

/// A process that does without huge pages until it has grown.
#[derive(Debug)]
#[must_use = "huge pages come when it is asked whether the process has grown"]
pub struct SmallPages(());

impl SmallPages {
    /// Begins to do without. `None` when the system has no such choice, or somebody has made it for this process
    /// already: that one stands.
    pub fn begin() -> Option<Self> {
        let is_free = !transparent_huge_pages_are_disabled().ok()?;
        (is_free && disable_transparent_huge_pages(true).is_ok()).then_some(Self(()))
    }

    /// Lets the process have huge pages, and is `None`, when it has grown.
    pub fn unless_grown(self) -> Option<Self> {
        if own_bytes() <= SMALL_BYTES_MAX {
            return Some(self);
        }
        // What was possible once is possible again; a process without huge pages is as right as one with them.
        let _ = disable_transparent_huge_pages(false);
        None
    }
}

/// Memory of this process that is no file's, in bytes; 0 when the system does not tell.
fn own_bytes() -> u64 {
    // Pages: of the whole process, resident, and of these those that files have.
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm
        .split_ascii_whitespace()
        .map_while(|number| number.parse::<u64>().ok());
    let (resident, of_files) = (pages.nth(1).unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(of_files) * page_size() as u64
}
