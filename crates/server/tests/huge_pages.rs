//! A process takes huge pages when it has grown, and not before. The choice is the process's, so the test has one of its own.

#![allow(clippy::unwrap_used)] // What fails here fails the test.

use kvorum_server::process::huge_pages::SmallPages;
use rustix::thread::transparent_huge_pages_are_disabled;

const GROWTH_BYTES: usize = 64 << 20;

#[test]
fn huge_pages_come_when_the_process_has_grown() {
    let small = SmallPages::begin().unwrap();
    assert!(transparent_huge_pages_are_disabled().unwrap());
    assert!(SmallPages::begin().is_none(), "the choice is made already");

    let small = small.unless_grown().unwrap();
    assert!(transparent_huge_pages_are_disabled().unwrap());

    let grown = vec![1_u8; GROWTH_BYTES];
    assert!(small.unless_grown().is_none());
    assert!(!transparent_huge_pages_are_disabled().unwrap());
    drop(std::hint::black_box(grown));
}
