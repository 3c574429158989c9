//! Manifests in every damage, and checkpoints with a crash at every call to the disk.

use std::path::PathBuf;

use bytes::Bytes;
use kvorum_proto::ids::{LogIndex, Term};
use proptest::prelude::*;

use super::*;
use crate::segment::{Builder, Entry, Place, Segment, SegmentId};
use crate::vfs::crash_disk::{CrashDisk, Fate};
use crate::vfs::{DIRECTORY_MODE, FILE_MODE, OpenMode, Vfs, VfsFile as _};

fn listed(id: u64, first: i64, last: i64) -> Listed {
    let place = |main| Place { main, sub: 3 };
    Listed {
        id: SegmentId(id),
        file_bytes: 4096 + id,
        checksum: 0xdead_beef,
        first: place(first),
        last: place(last),
    }
}

fn sample() -> Manifest {
    Manifest {
        index: LogIndex(1234),
        term: Term(7),
        next_segment: SegmentId(9),
        segments: vec![listed(5, 2, 10), listed(3, 11, 11), listed(8, 15, 900)],
        body: Bytes::from_static(b"leases, alarms, members"),
    }
}

#[test]
fn every_flipped_bit_of_a_manifest_is_refused() {
    let file = sample().encode();
    assert_eq!(Manifest::decode(&file.clone().into()), Ok(sample()));
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            let refused = Manifest::decode(&damaged.into());
            let (offset, _) = refused.expect_err("a flipped bit is noticed");
            assert!(offset <= file.len() as u64, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_cut_and_every_extension_of_a_manifest_is_refused() {
    let file = Bytes::from(sample().encode());
    for length in 0..file.len() {
        Manifest::decode(&file.slice(..length)).expect_err("a cut manifest is refused");
    }
    let mut longer = file.to_vec();
    longer.push(0);
    Manifest::decode(&longer.into()).expect_err("a longer manifest is refused");
}

#[test]
fn segments_out_of_order_are_refused() {
    for segments in [
        vec![listed(1, 5, 9), listed(2, 9, 12)],
        vec![listed(1, 5, 4)],
    ] {
        let manifest = Manifest {
            segments,
            ..sample()
        };
        let refused = Manifest::decode(&manifest.encode().into());
        assert_eq!(refused, Err((48, ManifestDamage::Order)));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
    ) {
        let mut file = sample().encode();
        file.truncate(length.index(file.len() + 1));
        for (at, byte) in edits {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] = byte;
            }
        }
        let decoded = Manifest::decode(&file.clone().into());
        if let Ok(manifest) = decoded {
            prop_assert_eq!(manifest.encode(), file);
        }
    }
}

fn place() -> PathBuf {
    PathBuf::from("/state")
}

fn image(id: u64, revision: i64) -> Bytes {
    let mut builder = Builder::new(SegmentId(id));
    builder.push(&Entry {
        place: Place {
            main: revision,
            sub: 0,
        },
        key: b"key",
        create_revision: 1,
        version: revision,
        lease: 0,
        stored_bytes: 700,
        frees_bytes: 0,
        encoded: &[&b"\x0a\x03key"[..], &[id as u8; 700]].concat(),
    });
    builder.finish()
}

/// Checkpoint number `round` seals one segment; every third replaces all before it by a new one.
fn checkpoint(
    directory: &Directory<CrashDisk>,
    round: u64,
    open: &mut Vec<Segment>,
) -> Result<(), StateError> {
    let write = |id, revision| {
        let image = image(id, revision);
        let (front, back) = image.split_at(300);
        directory.write_segment(SegmentId(id), 0, front)?;
        directory.write_segment(SegmentId(id), 300, back)?;
        directory.finish_segment(SegmentId(id))
    };
    let mut old = Vec::new();
    if round.is_multiple_of(3) {
        old = std::mem::take(open);
        open.push(write(2 * round + 1, round as i64 - 1)?);
    }
    open.push(write(2 * round, round as i64)?);
    directory.sync_names()?;
    directory.replace_manifest(&Manifest {
        index: LogIndex(round),
        term: Term(1),
        next_segment: SegmentId(2 * round + 2),
        segments: open.iter().map(Listed::of).collect(),
        body: Bytes::from(vec![round as u8; 600]),
    })?;
    for segment in old {
        directory.remove_segment(segment.id())?;
    }
    Ok(())
}

/// Makes the directory and checkpoints until the power fails; returns how many came to their end.
fn run(disk: &CrashDisk) -> u64 {
    let made = disk
        .create_directory(&place(), DIRECTORY_MODE)
        .and_then(|()| disk.sync_directory(&PathBuf::from("/")));
    if made.is_err() {
        return 0;
    }
    let directory = Directory::new(disk.clone(), place());
    let mut open = Vec::new();
    let rounds = 1..=7;
    let ended = rounds.take_while(|round| checkpoint(&directory, *round, &mut open).is_ok());
    ended.last().unwrap_or(0)
}

/// Opens what is there: the last checkpoint that ended, or the one after it.
fn check_open(disk: &CrashDisk, ended: u64, what: &str) {
    let directory = Directory::new(disk.clone(), place());
    let manifest = directory
        .manifest()
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let Some(manifest) = manifest else {
        return assert_eq!(ended, 0, "{what}: the manifest is lost");
    };
    let index = manifest.index.0;
    assert!(
        (ended..=ended + 1).contains(&index),
        "{what}: manifest of {index}"
    );
    for listed in &manifest.segments {
        let opened = directory.open_segment(listed);
        let segment = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
        segment.at(0).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    directory.remove_unlisted(&manifest.segments).unwrap();
    let left = disk.list(&place()).unwrap().len();
    assert_eq!(left, manifest.segments.len() + 1, "{what}: strangers left");
}

#[test]
fn a_crash_at_every_call_leaves_the_last_checkpoint_or_the_next() {
    let disk = CrashDisk::new();
    assert_eq!(run(&disk), 7);
    check_open(&disk, 7, "without a crash");
    let calls = disk.calls();
    assert!(calls > 60, "the history is too short to show anything");
    for at in 1..=calls {
        let disk = CrashDisk::new();
        disk.crash_in(at);
        let ended = run(&disk);
        let torn = [1, 2, 3].map(|seed| Fate::Torn {
            seed: at << 8 ^ seed,
        });
        for fate in [Fate::Lost, Fate::Kept].into_iter().chain(torn) {
            let survivor = disk.after_crash(fate);
            if survivor.exists(&place()).unwrap() {
                check_open(&survivor, ended, &format!("crash at call {at}, {fate:?}"));
            }
        }
    }
}

#[test]
fn another_segment_of_the_same_number_is_refused_by_name() {
    let disk = CrashDisk::new();
    assert_eq!(run(&disk), 7);
    let directory = Directory::new(disk.clone(), place());
    let manifest = directory.manifest().unwrap().unwrap();
    let listed = manifest.segments[0];
    directory.remove_segment(listed.id).unwrap();
    let error = directory.open_segment(&listed).unwrap_err().to_string();
    assert_eq!(error, "/state/000000000000000d.seg: opening failed");
    let stranger = image(listed.id.0, 77);
    directory.write_segment(listed.id, 0, &stranger).unwrap();
    let error = directory.open_segment(&listed).unwrap_err().to_string();
    assert!(
        error.starts_with("/state/000000000000000d.seg: not the segment that the manifest lists")
    );
}

/// A checkpoint and the state of a leader are written down by two threads. They shared a name once, and one gave its own
/// name to what the other was writing.
#[test]
fn a_manifest_that_another_thread_writes_is_left_alone() {
    let disk = CrashDisk::new();
    assert_eq!(run(&disk), 7);
    let directory = Directory::new(disk.clone(), place());
    let begin = |name: &str| {
        let create = OpenMode::CreateNew { mode: FILE_MODE };
        let mut file = disk.open(&place().join(name), create).unwrap();
        file.write_at(0, b"half").unwrap();
    };
    let is_there = |name: &str| disk.exists(&place().join(name)).unwrap();
    begin(NEXT_MANIFEST_NAME);
    directory.write_received(&sample()).unwrap();
    assert!(is_there(NEXT_MANIFEST_NAME));
    begin(NEXT_RECEIVED_MANIFEST_NAME);
    directory.replace_manifest(&sample()).unwrap();
    assert!(is_there(NEXT_RECEIVED_MANIFEST_NAME));
    assert_eq!(directory.manifest().unwrap(), Some(sample()));
    // What a crash left of either goes at the next start.
    begin(NEXT_MANIFEST_NAME);
    directory.remove_unlisted(&[]).unwrap();
    assert!(!is_there(NEXT_MANIFEST_NAME) && !is_there(NEXT_RECEIVED_MANIFEST_NAME));
}
