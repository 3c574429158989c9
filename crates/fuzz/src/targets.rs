//! What is read, and what has to hold for any bytes.

use std::cell::Cell;
use std::io;

use bytes::Bytes;
use kvorum_storage::bolt::{ReadError, Reader, Source};
use kvorum_storage::checkpoint::Manifest;
use kvorum_storage::segment::{Damage, MergedKeys, Scrub, Segment};

use crate::seeds;

/// Something that reads files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A segment of the history.
    Segment,
    /// The manifest of a checkpoint.
    Manifest,
    /// A database file of etcd.
    Bolt,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 3] = [Target::Segment, Target::Manifest, Target::Bolt];

    /// The target of this name, in lower case.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let is_named = |target: &Target| format!("{target:?}").eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_named)
    }

    /// Reads the bytes as a file; whether they were one as far as opening it tells.
    ///
    /// # Panics
    ///
    /// When a promise is broken: that is what a fuzzer looks for.
    pub fn run(self, bytes: &[u8]) -> bool {
        match self {
            Target::Segment => segment(bytes),
            Target::Manifest => manifest(bytes),
            Target::Bolt => bolt(bytes),
        }
    }

    /// Valid files.
    pub(crate) fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Target::Segment => seeds::segments(),
            Target::Manifest => seeds::manifests(),
            Target::Bolt => seeds::databases(),
        }
    }

    /// Makes the checksums right again that stand before everything else is looked at.
    pub(crate) fn seal(self, file: &mut [u8]) {
        let sealed = match self {
            Target::Segment => seal_segment(file),
            Target::Manifest => seal_manifest(file),
            Target::Bolt => seal_bolt(file),
        };
        // A file that has no place for a checksum stays as it is.
        let _ = sealed;
    }
}

/// What opens has its changes in order and as many as it says; each is read or named as damaged; and
/// when none is, the scrub finds nothing either.
fn segment(bytes: &[u8]) -> bool {
    let file = Bytes::copy_from_slice(bytes);
    let Ok(segment) = Segment::open(seeds::SEGMENT, file) else {
        return false;
    };
    let changes: Vec<_> = segment.from(segment.first()).collect();
    let damaged = changes.iter().any(Result::is_err);
    assert!(changes.len() <= segment.changes());
    let places: Vec<_> = changes.iter().flatten().map(|found| found.place).collect();
    assert!(places.is_sorted(), "changes ascend");
    for place in &places {
        let found = segment.find(*place);
        assert!(
            matches!(found, Ok(Some(found)) if found.place == *place),
            "what was read is found"
        );
    }
    let _ = segment.frees_bytes(segment.first().main..=segment.last().main);
    let _ = keys(&segment);
    let mut scrub = Scrub::new(segment);
    let scrubbed = loop {
        match scrub.step(100) {
            Ok((_, false)) => {}
            Ok((_, true)) => break Ok(()),
            Err(damage) => break Err(damage),
        }
    };
    assert_eq!(
        scrubbed.is_err(),
        damaged,
        "the scrub finds what reads find"
    );
    true
}

/// Walks over the key table as a start does.
fn keys(segment: &Segment) -> Result<(), Damage> {
    let mut rows = MergedKeys::new(std::slice::from_ref(segment))?;
    let mut count = 0;
    while rows.advance()?.is_some() {
        count += 1;
        assert!(count as u64 <= segment.file_bytes(), "a walk has an end");
    }
    Ok(())
}

/// What opens is written again as it was.
fn manifest(bytes: &[u8]) -> bool {
    match Manifest::decode(&Bytes::copy_from_slice(bytes)) {
        Ok(manifest) => {
            // Older versions are written as the newest.
            let encoded = manifest.encode();
            if encoded[8..12] == bytes[8..12] {
                assert_eq!(encoded, bytes, "what is read is all there is");
            }
            true
        }
        Err((offset, _)) => {
            assert!(offset <= bytes.len() as u64, "damage lies in the file");
            false
        }
    }
}

/// Bytes that count what is read of them.
struct Watched<'a> {
    bytes: &'a [u8],
    read: Cell<u64>,
}

impl Source for &Watched<'_> {
    fn length(&self) -> io::Result<u64> {
        self.bytes.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(offset, buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

/// No page is read again and again: a walk over a bucket ends.
fn bolt(bytes: &[u8]) -> bool {
    let source = Watched {
        bytes,
        read: Cell::new(0),
    };
    let walk = || {
        let reader = Reader::open(&source)?;
        let mut buckets = reader.buckets()?;
        while let Some(bucket) = buckets.next()? {
            let before = source.read.get();
            let mut pairs = reader.pairs(&bucket)?;
            while pairs.next()?.is_some() {}
            let read = source.read.get() - before;
            assert!(read <= 2 * bytes.len() as u64, "no page twice");
        }
        Ok::<(), ReadError>(())
    };
    walk().is_ok()
}

fn number(file: &[u8], at: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The checksum of header and tables; `docs/formats/segment.md`.
fn seal_segment(file: &mut [u8]) -> Option<()> {
    let end = file.len().checked_sub(12)?;
    let rows = number(file, end.checked_sub(24)?)?;
    let tables = usize::try_from(rows).ok().filter(|rows| *rows <= end)?;
    let checksum = crc32c::crc32c(file.get(..24)?);
    let checksum = crc32c::crc32c_append(checksum, file.get(tables..end)?);
    file.get_mut(end..end + 4)?
        .copy_from_slice(&checksum.to_le_bytes());
    Some(())
}

/// The checksums of head and body; `docs/formats/checkpoint.md`.
fn seal_manifest(file: &mut [u8]) -> Option<()> {
    let count = u32::from_le_bytes(file.get(12..16)?.try_into().ok()?) as usize;
    let head = count.checked_mul(44)?.checked_add(48)?;
    let end = file.len().checked_sub(4)?;
    if head.checked_add(4)? > end {
        return None;
    }
    let checksum = crc32c::crc32c(&file[..head]).to_le_bytes();
    file[head..head + 4].copy_from_slice(&checksum);
    let checksum = crc32c::crc32c(&file[head + 4..end]).to_le_bytes();
    file[end..].copy_from_slice(&checksum);
    Some(())
}

/// The checksums (FNV-1a) of both meta pages; `docs/formats/bolt.md`.
fn seal_bolt(file: &mut [u8]) -> Option<()> {
    for page in [0, 4096] {
        let meta = page + 16..page + 16 + 56;
        let hash = file
            .get(meta.clone())?
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        file.get_mut(meta.end..meta.end + 8)?
            .copy_from_slice(&hash.to_le_bytes());
    }
    Some(())
}
