//! What a burst of large values took goes back to the system when it is over. The test has the server's allocator and
//! a process of its own, in which nobody else asks for memory.

#![allow(clippy::unwrap_used)] // What fails here fails the test.

use std::time::{Duration, Instant};

use kvorum_server::runtime::return_freed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BLOCKS: usize = 256;
const BLOCK_BYTES: usize = 1 << 20;
/// What may stay.
const KEPT_KB_MAX: u64 = 64 << 10;
/// The allocator keeps memory for a second; a loaded machine may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn freed_memory_goes_back_although_nobody_asks_for_more() {
    let burst = || {
        let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; BLOCK_BYTES]).collect();
        assert!(anonymous_kb() > (BLOCKS * BLOCK_BYTES) as u64 >> 10);
        drop(std::hint::black_box(blocks));
    };
    std::thread::spawn(burst).join().unwrap();
    let begun = Instant::now();
    while anonymous_kb() > KEPT_KB_MAX {
        assert!(begun.elapsed() < PATIENCE, "{} kB stay", anonymous_kb());
        std::thread::sleep(Duration::from_millis(100));
        return_freed();
    }
}

/// Pages of this process that are no file's.
fn anonymous_kb() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}
