//! Files that were not written by anybody.

use std::cell::Cell;
use std::io;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::sample::Index;

use super::{Content, PAGE_BYTES, bucket, pairs, read, write};
use crate::bolt::meta::{META_PAGE_BYTES, Meta, NO_FREELIST};
use crate::bolt::page::{Header, Kind};
use crate::bolt::{KEY_BYTES_MAX, PageId, Reader, Source};

/// Pages 2 to 4 are leaves of "bucket", 5 is the branch over them, 6 the root tree's leaf with an
/// inline bucket and the other.
fn sample() -> Vec<u8> {
    let mut content: Content = bucket(vec![(8, 1500); 6]);
    content.push((b"inline".to_vec(), pairs([(8, 1), (8, 1)])));
    write(&content)
}

/// Changes bytes at a place of a page and expects this error.
fn check(page: usize, at: usize, bytes: &[u8], expected: &str) {
    let mut file = sample();
    assert_eq!(file.len(), 7 * PAGE_BYTES);
    let at = page * PAGE_BYTES + at;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let text = read(&file).map_or_else(|error| error.to_string(), |_| "no error".to_owned());
    assert_eq!(text, expected);
}

#[test]
fn damaged_pages_are_named() {
    check(2, 0, &[3], "page 2 at offset 8192: calls itself page 3");
    let kind = "page 2 at offset 8192: wrong kind of page, flags 0x10";
    check(2, 8, &[0x10], kind);
    let count = "page 2 at offset 8192: impossible count of 0 elements";
    check(2, 10, &[0, 0], count);
    let count = "page 2 at offset 8192: impossible count of 65535 elements";
    check(2, 10, &[255, 255], count);
    let overflow = "page 2 at offset 8192: runs on for 5 more pages, past the end of the file";
    check(2, 12, &[5], overflow);
    let long = "page 2 at offset 8192: runs on for 4294967295 more pages, past the end of the file";
    check(2, 12, &[255; 4], long);
    // Position, length of the key, length of the value of the first of two pairs.
    let element = "page 2 at offset 8192: element 0 reaches outside of its place";
    check(2, 16 + 4, &[255; 4], element);
    check(2, 16 + 4, &[31], element);
    check(2, 16 + 8, &[255; 4], element);
    check(2, 16 + 12, &[255; 4], element);
    let overlap = "page 2 at offset 8192: element 1 reaches outside of its place";
    check(2, 16 + 12, &[0xdd, 5], overlap);
    check(
        2,
        16 + 8,
        &[0],
        "page 2 at offset 8192: key of element 0 is out of order",
    );
    check(
        2,
        48,
        &[1],
        "page 2 at offset 8192: key of element 1 is out of order",
    );
    let twice = "page 2 at offset 8192: key of element 1 is out of order";
    check(2, 48 + 1508 + 7, &[0], twice);
    let nested = "page 2 at offset 8192: element 0 is of the wrong kind";
    check(2, 16, &[1], nested);
}

#[test]
fn branches_that_lie_are_named() {
    let at = 16 + 16 + 8;
    let outside = "page 5 at offset 20480: points to page 7, which is outside of the file";
    check(5, at, &[7], outside);
    let meta = "page 5 at offset 20480: points to page 1, which is outside of the file";
    check(5, at, &[1], meta);
    let cycle = "page 5 at offset 20480: points to page 5, on the way to which it lies";
    check(5, at, &[5], cycle);
    // The same page twice: its keys lie below the second element.
    check(
        5,
        at,
        &[2],
        "page 2 at offset 8192: key of element 0 is out of order",
    );
    // A page out of its turn: its keys reach the next element.
    check(
        5,
        at - 16,
        &[3],
        "page 3 at offset 12288: key of element 1 is out of order",
    );
    check(
        5,
        10,
        &[0],
        "page 5 at offset 20480: impossible count of 0 elements",
    );
    // A run that would take in the branch over it.
    let into = "page 5 at offset 20480: points to page 4, on the way to which it lies";
    check(4, 12, &[2], into);
}

#[test]
fn damaged_buckets_are_named() {
    check(
        6,
        16,
        &[0],
        "page 6 at offset 24576: element 0 is of the wrong kind",
    );
    check(
        6,
        16 + 12,
        &[15],
        "page 6 at offset 24576: element 0 is no bucket that can be read",
    );
    let root = 16 + 2 * 16 + 6;
    let outside = "page 6 at offset 24576: points to page 7, which is outside of the file";
    check(6, root, &[7], outside);
    let inline = root + 16 + 6 + 16;
    let kind = "page 6 at offset 24576: wrong kind of page, flags 0x1";
    check(6, inline + 8, &[1, 0, 0, 0], kind);
    let element = "page 6 at offset 24576: element 1 reaches outside of its place";
    check(6, inline + 16 + 16 + 12, &[2], element);
}

#[test]
fn damaged_meta_pages_are_named() {
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut file = sample();
        file.copy_within(0..PAGE_BYTES, PAGE_BYTES);
        change(&mut file);
        let error = Reader::open(&file[..]).map(drop).expect_err("damaged");
        assert_eq!(error.to_string(), expected);
    };
    let none = "no valid meta page (page 0: not there; page 1: not there)";
    check(&|file| file.clear(), none);
    check(&|file| file.truncate(META_PAGE_BYTES - 1), none);
    let magic = "no valid meta page (page 0: wrong magic number 0x00000000; page 1: not there)";
    check(&|file| file.fill(0), magic);
    let both = |file: &mut Vec<u8>, at: usize, byte: u8| {
        file[at] = byte;
        file[PAGE_BYTES + at] = byte;
    };
    let version = "no valid meta page (page 0: unknown version 3; page 1: not there)";
    check(&|file| both(file, 20, 3), version);
    let checksum = "no valid meta page (page 0: wrong checksum; page 1: not there)";
    check(&|file| both(file, 50, 3), checksum);
    let cut = "cut off: 28671 bytes are there, its pages take 28672";
    check(&|file| file.truncate(7 * PAGE_BYTES - 1), cut);
    let size = "no valid meta page (page 0: impossible page size 5000; page 1: not there)";
    let uneven = |file: &mut Vec<u8>| {
        replace_meta(file, 5000, 7, 2);
        file[PAGE_BYTES + 16] = 0;
    };
    check(&uneven, size);
    let endless = format!(
        "cut off: 28672 bytes are there, its pages take {}",
        u64::MAX
    );
    check(&|file| replace_meta(file, 4096, u64::MAX, 2), &endless);
    let mut file = sample();
    replace_meta(&mut file, 4096, 7, 7);
    let outside = "page 0 at offset 0: points to page 7, which is outside of the file";
    assert_eq!(read(&file).unwrap_err().to_string(), outside);
}

/// Makes the first meta page the newer one.
fn replace_meta(file: &mut [u8], page_bytes: u32, pages: u64, root: u64) {
    let meta = Meta {
        page_bytes,
        root: PageId(root),
        freelist: NO_FREELIST,
        pages,
        transaction: 5,
    };
    file[..META_PAGE_BYTES].copy_from_slice(&meta.encode(PageId(0))[..META_PAGE_BYTES]);
}

#[test]
fn second_meta_page_is_looked_for_where_its_page_size_says() {
    let mut file = sample();
    file[16] ^= 1;
    // A value may look like a meta page.
    let stale = sample();
    file[1024..1024 + META_PAGE_BYTES].copy_from_slice(&stale[..META_PAGE_BYTES]);
    let reader = Reader::open(&file[..]).unwrap();
    assert_eq!(reader.transaction(), 1, "the one at 4096");
}

#[test]
fn keys_that_are_too_long_are_refused() {
    let mut file = write(&bucket([(KEY_BYTES_MAX, 10)]));
    let lengths = 2 * PAGE_BYTES + 16 + 8;
    file[lengths] += 1;
    file[lengths + 4] -= 1;
    let text = read(&file).unwrap_err().to_string();
    assert_eq!(
        text,
        "page 2 at offset 8192: key of element 0 is out of order"
    );
}

#[test]
fn inline_buckets_longer_than_a_page_are_refused() {
    let mut file = write(&vec![(
        b"bucket".to_vec(),
        vec![(b"key".to_vec(), vec![0; 2 * PAGE_BYTES])],
    )]);
    // The bucket's leaf as the root tree, and the pair in it as an inline bucket.
    file[2 * PAGE_BYTES + 16] = 1;
    let pages = (file.len() / PAGE_BYTES) as u64;
    replace_meta(&mut file, 4096, pages, 2);
    let text = read(&file).unwrap_err().to_string();
    let expected = "page 2 at offset 8192: element 0 is no bucket that can be read";
    assert_eq!(text, expected);
}

#[test]
fn endless_chains_of_branches_are_refused() {
    const PAGES: u64 = 100;
    let mut file = vec![0; PAGES as usize * PAGE_BYTES];
    for id in 2..PAGES {
        let mut page = Vec::new();
        let header = Header {
            id: PageId(id),
            flags: Kind::Branch.flags(),
            count: 1,
            overflow: 0,
        };
        header.encode(&mut page);
        page.extend([16, 0, 0, 0, 1, 0, 0, 0]);
        page.extend((id + 1).to_le_bytes());
        page.push(b'k');
        let at = id as usize * PAGE_BYTES;
        file[at..at + page.len()].copy_from_slice(&page);
    }
    replace_meta(&mut file, 4096, PAGES, 2);
    let text = read(&file).unwrap_err().to_string();
    assert_eq!(text, "page 65 at offset 266240: too many levels of pages");
}

#[test]
fn a_walk_is_over_after_an_error() {
    let mut file = sample();
    file[3 * PAGE_BYTES] = 9;
    let reader = Reader::open(&file[..]).unwrap();
    let bucket = reader.bucket(b"bucket").unwrap().unwrap();
    let mut pairs = reader.pairs(&bucket).unwrap();
    assert!(pairs.next().unwrap().is_some());
    assert!(pairs.next().unwrap().is_some());
    assert!(pairs.next().is_err());
    assert!(pairs.next().unwrap().is_none());
}

/// Refuses to be asked for more than there is.
struct Watched<'f> {
    file: &'f [u8],
    /// Bytes read so far.
    read: Cell<u64>,
}

impl Source for &Watched<'_> {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = buffer.len();
        assert!(asked <= self.file.len().max(META_PAGE_BYTES));
        self.read.set(self.read.get() + asked as u64);
        self.file.read_at(offset, buffer)
    }
}

/// Reads a file to its end or to the first error, whatever is in it.
fn survive(file: &[u8]) {
    let source = Watched {
        file,
        read: Cell::new(0),
    };
    let walk = || {
        let reader = Reader::open(&source)?;
        let mut buckets = reader.buckets()?;
        while let Some(bucket) = buckets.next()? {
            let before = source.read.get();
            let mut pairs = reader.pairs(&bucket)?;
            while pairs.next()?.is_some() {}
            let taken = source.read.get() - before;
            assert!(taken <= 2 * file.len() as u64, "no page twice");
        }
        Ok::<(), crate::bolt::ReadError>(())
    };
    let _ = walk();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..Default::default() })]
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..20_000)) {
        survive(&bytes);
    }

    #[test]
    fn arbitrary_pages_behind_good_meta_pages_never_panic(
        changes in vec((any::<Index>(), any::<u8>()), 1..40)
    ) {
        let mut file = sample();
        let length = file.len() - 2 * PAGE_BYTES;
        for (at, byte) in changes {
            // Mostly the beginnings of pages, where the structure is.
            let at = at.index(5 * 80);
            let place = 2 * PAGE_BYTES + (at / 80) * PAGE_BYTES + at % 80;
            file[place.min(length + 2 * PAGE_BYTES - 1)] = byte;
        }
        survive(&file);
    }

    #[test]
    fn a_flip_anywhere_never_panics(at in any::<Index>(), bit in 0..8_u32) {
        let mut file = sample();
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        survive(&file);
    }
}
