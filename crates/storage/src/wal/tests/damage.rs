//! Bytes that are not what was written.

use std::path::Path;

use proptest::prelude::*;

use super::history::{History, METADATA, OPTIONS, entry};
use crate::vfs::crash_disk::CrashDisk;
use crate::vfs::{SECTOR_BYTES, Vfs};
use crate::wal::frame::Encoder;
use crate::wal::{Damage, HardState, Recovered, SegmentName, Snapshot, WalError, open, read};

const DIRECTORY: &str = "/wal";

fn path(name: SegmentName) -> std::path::PathBuf {
    Path::new(DIRECTORY).join(name.to_string())
}

/// A disk with one log file of these bytes.
fn disk_with(bytes: &[u8]) -> CrashDisk {
    let disk = CrashDisk::new();
    disk.create_directory(Path::new(DIRECTORY), 0o700).unwrap();
    disk.put(&path(SegmentName::FIRST), bytes);
    disk
}

/// The records that begin a log of an official etcd.
fn official() -> Encoder {
    let mut log = Encoder::new(0);
    log.checksum();
    log.metadata(&METADATA);
    log.snapshot(&Snapshot::default());
    log
}

/// The records that begin a log of ours.
fn ours() -> Encoder {
    let mut log = official();
    log.checksum();
    log
}

fn committed(index: u64) -> HardState {
    HardState {
        term: Some(1),
        vote: Some(METADATA.node.0),
        commit: Some(index),
    }
}

fn damage(disk: &CrashDisk) -> (u64, Damage) {
    match open(disk, Path::new(DIRECTORY), OPTIONS).err() {
        Some(WalError::Damaged { offset, damage, .. }) => (offset, damage),
        Some(other) => panic!("another error: {other}"),
        None => panic!("the log was opened"),
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 3).unwrap();
    while history.counts().cuts == 0 {
        history.append_entries(2, 180);
        history.commit_all();
        history.run_all().unwrap();
    }
    for _ in 0..3 {
        history.append_entries(1, 0);
        history.append_entries(2, 270);
        history.commit_all();
        history.run_all().unwrap();
    }
    history.flush();
    history.run_all().unwrap();
    drop(history);
    let whole = read(&disk, Path::new(DIRECTORY)).unwrap();
    for name in super::list_segments(&disk, Path::new(DIRECTORY)).unwrap() {
        let bytes = disk.contents(&path(name));
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            disk.put(&path(name), &flipped);
            match read(&disk, Path::new(DIRECTORY)) {
                Ok(recovered) => assert!(recovered == whole, "{name}: bit {at} lost something"),
                Err(WalError::Damaged { .. }) => {}
                Err(other) => panic!("{name}: bit {at}: {other}"),
            }
        }
        disk.put(&path(name), &bytes);
    }
}

#[test]
fn torn_tail_is_copied_and_cut() {
    let mut log = ours();
    log.checksum();
    log.entry(&entry(1, 1, 20));
    let good = log.length();
    log.entry(&entry(1, 2, 2000));
    let mut bytes = log.take_bytes();
    bytes[SECTOR_BYTES..2 * SECTOR_BYTES].fill(0);
    let disk = disk_with(&bytes);

    let opened = open(&disk, Path::new(DIRECTORY), OPTIONS).unwrap();
    let repair = opened.repair.unwrap();
    assert_eq!(opened.recovered.entries, [entry(1, 1, 20)]);
    assert_eq!(repair.offset, good as u64);
    assert!(repair.bytes_cut > 1500);
    assert_eq!(disk.contents(&repair.copy), bytes);
    assert_eq!(disk.contents(&repair.file).len(), good);
}

/// Found by simulation: the length of a file came back from a crash within the padding.
#[test]
fn file_that_ends_within_the_padding_is_torn() {
    let mut log = ours();
    log.checksum();
    log.entry(&entry(1, 1, 20));
    let good = log.length();
    let padded = (0..8)
        .map(|data| (data, Encoder::new(log.crc())))
        .find_map(|(data, mut last)| {
            last.entry(&entry(1, 2, data));
            let bytes = last.take_bytes();
            bytes.ends_with(&[0, 0]).then_some(bytes)
        });
    let mut bytes = log.take_bytes();
    bytes.extend_from_slice(&padded.unwrap());
    bytes.pop();
    let opened = open(&disk_with(&bytes), Path::new(DIRECTORY), OPTIONS).unwrap();
    assert_eq!(opened.recovered.entries, [entry(1, 1, 20)]);
    assert_eq!(opened.repair.unwrap().offset, good as u64);
}

#[test]
fn torn_group_with_its_first_sector_lost_is_cut() {
    let mut log = ours();
    log.checksum();
    log.entry(&entry(1, 1, 400));
    let good = log.length().next_multiple_of(SECTOR_BYTES);
    // Another group that begins a sector, so that the first is whole.
    let mut bytes = log.take_bytes();
    assert!(bytes.len() < good);
    bytes.resize(good, 0);
    let mut torn = Encoder::new(log.crc());
    torn.checksum();
    (2..9).for_each(|index| torn.entry(&entry(1, index, 200)));
    let mut torn = torn.take_bytes();
    torn[..SECTOR_BYTES].fill(0);
    bytes.extend_from_slice(&torn);

    let opened = open(&disk_with(&bytes), Path::new(DIRECTORY), OPTIONS).unwrap();
    assert_eq!(opened.recovered.entries, [entry(1, 1, 400)]);
    assert!(opened.repair.is_some());
}

/// A lost sector with records behind it: `groups` says whether each has its checksum record.
fn hole(mut log: Encoder, groups: bool) -> (Vec<u8>, u64) {
    let mut at = 0;
    for index in 1..5 {
        if groups {
            log.checksum();
        }
        if index == 2 {
            at = log.length();
        }
        log.entry(&entry(1, index, 900));
    }
    let mut bytes = log.take_bytes();
    let sector = at.next_multiple_of(SECTOR_BYTES);
    bytes[sector..sector + SECTOR_BYTES].fill(0);
    (bytes, at as u64)
}

#[test]
fn hole_with_later_groups_behind_it_is_refused() {
    let (bytes, at) = hole(ours(), true);
    let disk = disk_with(&bytes);
    let (offset, found) = damage(&disk);
    assert_eq!(offset, at);
    assert!(matches!(found, Damage::Behind { .. }), "{found}");
    assert_eq!(
        disk.contents(&path(SegmentName::FIRST)),
        bytes,
        "the file was touched"
    );
}

#[test]
fn hole_in_a_group_that_was_reported_is_refused() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 3).unwrap();
    for _ in 0..2 {
        history.append_entries(1, 1200);
        history.run_all().unwrap();
    }
    drop(history);
    let mut bytes = disk.contents(&path(SegmentName::FIRST));
    bytes[SECTOR_BYTES..2 * SECTOR_BYTES].fill(0);
    disk.put(&path(SegmentName::FIRST), &bytes);
    let (_, found) = damage(&disk);
    assert!(matches!(found, Damage::Behind { .. }), "{found}");
}

#[test]
fn hole_in_an_official_log_with_records_behind_it_is_refused() {
    let (bytes, at) = hole(official(), false);
    let (offset, found) = damage(&disk_with(&bytes));
    assert_eq!(offset, at);
    assert!(matches!(found, Damage::Behind { .. }), "{found}");
}

#[test]
fn hole_within_the_last_group_is_a_tear() {
    let (bytes, _) = hole(ours(), false);
    let opened = open(&disk_with(&bytes), Path::new(DIRECTORY), OPTIONS).unwrap();
    assert_eq!(opened.recovered.entries, [entry(1, 1, 900)]);
}

#[test]
fn official_log_gets_a_checksum_record_once() {
    let mut log = official();
    log.entry(&entry(1, 1, 20));
    let bytes = log.take_bytes();
    let disk = disk_with(&bytes);
    for _ in 0..2 {
        drop(open(&disk, Path::new(DIRECTORY), OPTIONS).unwrap());
        assert_eq!(
            disk.contents(&path(SegmentName::FIRST)).len(),
            bytes.len() + 16
        );
    }
}

/// Records behind the head of a log, and what they must say or why they are refused.
fn check(records: impl FnOnce(&mut Encoder), expected: Result<Recovered, Damage>) {
    let mut log = official();
    records(&mut log);
    match (
        read(&disk_with(&log.take_bytes()), Path::new(DIRECTORY)),
        expected,
    ) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(WalError::Damaged { damage, .. }), Err(expected)) => assert_eq!(damage, expected),
        (found, expected) => panic!("found {found:?}, expected {expected:?}"),
    }
}

fn recovered(hard_state: HardState, snapshot: (u64, u64), entries: Vec<u64>) -> Recovered {
    Recovered {
        metadata: METADATA,
        hard_state,
        snapshot: Snapshot {
            index: Some(snapshot.0),
            term: Some(snapshot.1),
            conf_state: None,
        },
        entries: entries
            .into_iter()
            .map(|index| entry(1, index, 9))
            .collect(),
    }
}

fn snapshot_at(index: u64) -> Snapshot {
    Snapshot {
        index: Some(index),
        term: Some(1),
        conf_state: None,
    }
}

#[test]
fn replay_starts_at_the_newest_committed_snapshot() {
    check(
        |log| {
            (1..=4).for_each(|index| log.entry(&entry(1, index, 9)));
            log.state(&committed(3));
            log.snapshot(&snapshot_at(2));
            log.snapshot(&snapshot_at(4));
        },
        Ok(recovered(committed(3), (2, 1), vec![3, 4])),
    );
}

#[test]
fn snapshot_from_the_leader_may_lie_beyond_the_log() {
    check(
        |log| {
            log.entry(&entry(1, 1, 9));
            log.snapshot(&snapshot_at(50));
            log.state(&committed(50));
            log.entry(&entry(1, 51, 9));
        },
        Ok(recovered(committed(50), (50, 1), vec![51])),
    );
    // The crash came before the state: the snapshot does not count yet.
    check(
        |log| {
            log.entry(&entry(1, 1, 9));
            log.snapshot(&snapshot_at(50));
        },
        Ok(recovered(HardState::default(), (0, 0), vec![1])),
    );
}

#[test]
fn what_a_snapshot_from_the_leader_contradicts_is_let_go() {
    // The log held entries of an old term that were never committed; the leader's log went another
    // way and is known from index 2 of term 3 on.
    let snapshot = Snapshot {
        index: Some(2),
        term: Some(3),
        conf_state: None,
    };
    let state = HardState {
        term: Some(3),
        vote: Some(0),
        commit: Some(2),
    };
    let expected = Recovered {
        snapshot: snapshot.clone(),
        ..recovered(state, (2, 3), vec![])
    };
    check(
        |log| {
            (1..=4).for_each(|index| log.entry(&entry(1, index, 9)));
            log.snapshot(&snapshot);
            log.state(&state);
        },
        Ok(expected),
    );
}

#[test]
fn missing_entry_is_refused() {
    check(
        |log| {
            for index in [1, 2, 4] {
                log.entry(&entry(1, index, 9));
            }
        },
        Err(Damage::IndexGap {
            expected_after: kvorum_proto::ids::LogIndex(2),
            found: kvorum_proto::ids::LogIndex(4),
        }),
    );
}

#[test]
fn other_metadata_is_refused() {
    let other = crate::wal::Metadata {
        node: kvorum_proto::ids::MemberId(1),
        ..METADATA
    };
    check(|log| log.metadata(&other), Err(Damage::Metadata));
}

#[test]
fn what_raft_never_writes_is_refused() {
    let contradiction = |text| Err(Damage::Contradiction(text));
    check(
        |log| log.state(&committed(1)),
        contradiction("the commit index lies beyond the last entry"),
    );
    check(
        |log| {
            log.entry(&entry(1, 1, 9));
            log.state(&committed(1));
            log.entry(&entry(1, 1, 9));
        },
        contradiction("an entry at or below the commit index"),
    );
    check(
        |log| {
            log.state(&HardState {
                term: Some(2),
                ..HardState::default()
            });
            log.state(&HardState {
                term: Some(1),
                ..HardState::default()
            });
        },
        contradiction("the term falls"),
    );
}

#[test]
fn empty_file_is_refused() {
    for bytes in [vec![], vec![0; 4096]] {
        assert_eq!(damage(&disk_with(&bytes)), (0, Damage::Head));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        at in 0_usize..2000,
        from in 0_usize..2000,
        length in 0_usize..64,
    ) {
        let _ = open(&disk_with(&bytes), Path::new(DIRECTORY), OPTIONS);
        // The same behind a good head, and with pieces of a good log in wrong places.
        let mut log = ours();
        (1..8).for_each(|index| log.entry(&entry(1, index, 150)));
        let mut mixed = log.take_bytes();
        let (at, from) = (at.min(mixed.len()), from.min(mixed.len()));
        let piece = mixed[from..(from + length).min(mixed.len())].to_vec();
        mixed.splice(at..at, piece.into_iter().chain(bytes));
        let _ = open(&disk_with(&mixed), Path::new(DIRECTORY), OPTIONS);
    }
}
