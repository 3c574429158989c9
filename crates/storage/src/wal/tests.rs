//! Tests of the log as a whole: a random history against a plain model on a disk that crashes
//! (`crash`), and damaged files (`damage`). What one file can show is tested there.

mod crash;
mod damage;
mod history;

use std::path::Path;

use kvorum_proto::ids::LogIndex;

use super::*;
use crate::vfs::crash_disk::CrashDisk;
use history::{History, METADATA, OPTIONS, entry};

#[test]
fn new_log_is_empty_and_opens_again() {
    let disk = CrashDisk::new();
    drop(create(&disk, Path::new("/wal"), METADATA, OPTIONS).unwrap());
    let opened = open(&disk, Path::new("/wal"), OPTIONS).unwrap();
    assert_eq!(opened.recovered.metadata, METADATA);
    assert_eq!(opened.recovered.entries, []);
    assert_eq!(opened.repair, None);
}

#[test]
fn creating_over_a_log_is_refused() {
    let disk = CrashDisk::new();
    drop(create(&disk, Path::new("/wal"), METADATA, OPTIONS).unwrap());
    let again = create(&disk, Path::new("/wal"), METADATA, OPTIONS);
    assert!(matches!(again.err(), Some(WalError::Exists { .. })));
}

#[test]
fn missing_log_is_told_from_a_broken_one() {
    let disk = CrashDisk::new();
    assert!(!exists(&disk, Path::new("/wal")).unwrap());
    let opened = open(&disk, Path::new("/wal"), OPTIONS);
    assert!(matches!(opened.err(), Some(WalError::Missing { .. })));
}

#[test]
fn second_opener_is_told_that_the_log_is_locked() {
    let disk = CrashDisk::new();
    let owner = create(&disk, Path::new("/wal"), METADATA, OPTIONS).unwrap();
    let second = open(&disk, Path::new("/wal"), OPTIONS);
    assert!(matches!(second.err(), Some(WalError::Locked { .. })));
    drop(owner);
    assert!(open(&disk, Path::new("/wal"), OPTIONS).is_ok());
}

#[test]
fn lock_moves_to_the_next_file() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    while history.counts().cuts == 0 {
        history.append_entries(1, 300);
        history.run_all().unwrap();
    }
    let second = open(&disk, Path::new("/wal"), OPTIONS);
    assert!(matches!(second.err(), Some(WalError::Locked { .. })));
}

#[test]
fn missing_file_in_the_middle_is_refused_by_name() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    while history.counts().cuts < 2 {
        history.append_entries(1, 300);
        history.run_all().unwrap();
    }
    drop(history);
    let files = list_segments(&disk, Path::new("/wal")).unwrap();
    disk.remove(&Path::new("/wal").join(files[1].to_string()))
        .unwrap();
    let error = open(&disk, Path::new("/wal"), OPTIONS).err().unwrap();
    assert!(matches!(&error, WalError::SequenceGap { before, after, .. }
        if *before == files[0].to_string() && *after == files[2].to_string()));
}

#[test]
fn appends_during_a_write_share_the_next_one() {
    let disk = CrashDisk::new();
    let opened = create(&disk, Path::new("/wal"), METADATA, OPTIONS).unwrap();
    let Opened {
        mut log,
        mut executor,
        mut background,
        ..
    } = opened;
    for index in 1..=10 {
        log.append(Append {
            ticket: Ticket(index),
            entries: vec![entry(1, index, 10)],
            ..Append::default()
        });
    }
    let mut reported = Vec::new();
    while let Some(output) = log.take_output() {
        match output {
            Output::Job(job) => {
                match job.lane() {
                    Lane::Foreground => executor.run(&job).unwrap(),
                    Lane::Background => background.run(&job).unwrap(),
                }
                log.done(job.id);
            }
            Output::Persisted(ticket) => reported.push(ticket),
        }
    }
    assert_eq!(reported, [Ticket(1), Ticket(10)]);
    assert_eq!(executor.counts().groups, 2);
}

#[test]
fn groups_take_turns_in_the_same_memory() {
    let disk = CrashDisk::new();
    let Opened { mut log, .. } = create(&disk, Path::new("/wal"), METADATA, OPTIONS).unwrap();
    let mut places = Vec::new();
    for index in 1..=6 {
        log.append(Append {
            ticket: Ticket(index),
            entries: vec![entry(1, index, 100)],
            ..Append::default()
        });
        while let Some(output) = log.take_output() {
            let Output::Job(job) = output else { continue };
            log.done(job.id);
            if let Work::Write { bytes, .. } = &job.work {
                places.push(bytes.as_ptr());
            }
            log.reuse(job);
        }
    }
    // A group that is written, and the one that is gathered meanwhile.
    assert_eq!(places[2..4], places[4..6]);
}

/// The entries behind a snapshot that the leader sent are not those that stood there: the next file
/// was once named after the last of them.
#[test]
fn received_snapshot_ends_the_log_at_its_index() {
    let disk = CrashDisk::new();
    let mut opened = create(&disk, Path::new("/wal"), METADATA, OPTIONS).unwrap();
    let filling = OPTIONS.segment_bytes as usize;
    for (ticket, entries) in [(1, vec![1]), (2, vec![2, 3, 4])] {
        let entries = entries.iter().map(|index| entry(1, *index, filling));
        opened.log.append(Append {
            ticket: Ticket(ticket),
            entries: entries.collect(),
            ..Append::default()
        });
    }
    let snapshot = Snapshot {
        index: Some(2),
        term: Some(3),
        conf_state: None,
    };
    let reached = HardState {
        term: Some(3),
        vote: Some(0),
        commit: Some(2),
    };
    opened
        .log
        .append_received_snapshot(Ticket(3), &snapshot, reached);
    assert_eq!(opened.log.last_index(), LogIndex(2));
    run_jobs(&mut opened);
    let files = list_segments(&disk, Path::new("/wal")).unwrap();
    let first: Vec<_> = files.iter().map(|file| file.first_index.0).collect();
    assert_eq!(first, [0, 2, 3]);
}

#[test]
fn only_files_that_a_start_needs_are_read() {
    for with_snapshot in [false, true] {
        let disk = CrashDisk::new();
        let mut history = History::create(&disk, 7).unwrap();
        while history.counts().cuts < 4 {
            history.append_entries(1, 300);
            history.commit_all();
            history.run_all().unwrap();
        }
        if with_snapshot {
            history.snapshot();
        }
        history.append_entries(3, 10);
        history.run_all().unwrap();
        drop(history);
        let directory = Path::new("/wal");
        let whole = read(&disk, directory).unwrap();
        let start = LogIndex(whole.snapshot.index.unwrap_or(0));
        let files = list_segments(&disk, directory).unwrap();
        assert_eq!(start >= files[1].first_index, with_snapshot);
        disk.put(&directory.join(files[0].to_string()), b"rubbish");
        let found = read(&disk, directory);
        if with_snapshot {
            assert_eq!(found.unwrap(), whole);
        } else {
            assert!(matches!(found, Err(WalError::Damaged { .. })));
        }
    }
}

/// Runs the jobs that the log asks for until there are none.
fn run_jobs(opened: &mut Opened<CrashDisk>) {
    while let Some(output) = opened.log.take_output() {
        if let Output::Job(job) = output {
            match job.lane() {
                Lane::Foreground => opened.executor.run(&job).unwrap(),
                Lane::Background => opened.background.run(&job).unwrap(),
            }
            opened.log.done(job.id);
        }
    }
}

/// Zeros that the background writes into the log while it takes 64 entries, one after the other.
fn zeros_beside_entries_of(bytes: usize) -> u64 {
    const ENTRIES: u64 = 64;
    let options = Options {
        ahead_bytes: 64 << 10,
        ..Options::default()
    };
    let disk = CrashDisk::new();
    let opened = create(&disk, Path::new("/wal"), METADATA, options).unwrap();
    let (mut log, mut zeros) = (opened.log, 0);
    let mut append = 1..=ENTRIES;
    loop {
        while let Some(output) = log.take_output() {
            if let Output::Job(job) = output {
                if let Work::ZeroAhead { length, .. } = job.work {
                    zeros += length;
                }
                log.done(job.id);
            }
        }
        let Some(index) = append.next() else {
            return zeros;
        };
        log.append(Append {
            ticket: Ticket(index),
            entries: vec![entry(1, index, bytes)],
            ..Append::default()
        });
    }
}

#[test]
fn zeros_are_written_ahead_of_small_groups_and_not_of_large_ones() {
    let small = zeros_beside_entries_of(32 << 10);
    assert!(small >= 64 * (32 << 10), "{small}");
    // Those of the beginning, when nobody knows how large groups will be.
    let large = zeros_beside_entries_of(512 << 10);
    assert!(large <= 4 * (512 << 10), "{large}");
}

#[test]
fn commit_index_alone_is_reported_without_a_write() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    history.append_entries(1, 10);
    history.run_all().unwrap();
    let groups = history.counts().groups;
    history.commit_all();
    history.run_all().unwrap();
    assert!(history.all_reported());
    assert_eq!(history.counts().groups, groups);
}

#[test]
fn flush_writes_what_waits_for_company() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    history.append_entries(3, 10);
    history.commit_all();
    history.flush();
    history.run_all().unwrap();
    drop(history);
    assert_eq!(
        read(&disk, Path::new("/wal")).unwrap().hard_state.commit,
        Some(3)
    );
}

#[test]
fn released_files_go_but_for_the_number_kept() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    while history.counts().cuts < 6 {
        history.append_entries(1, 300);
        history.run_all().unwrap();
    }
    history.commit_all();
    history.snapshot();
    history.run_all().unwrap();
    history.release();
    history.run_all().unwrap();
    let files = list_segments(&disk, Path::new("/wal")).unwrap();
    assert_eq!(files.len(), OPTIONS.max_wals);
    history.set_short();
    history.run_all().unwrap();
    drop(history);
    let files = list_segments(&disk, Path::new("/wal")).unwrap();
    assert_eq!(
        files.len(),
        2,
        "a disk without room keeps nothing that is not needed"
    );
    assert!(open(&disk, Path::new("/wal"), OPTIONS).is_ok());
}

#[test]
fn full_file_is_cut_to_its_used_length() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    while history.counts().cuts == 0 {
        history.append_entries(1, 300);
        history.run_all().unwrap();
    }
    let first = disk.contents(&Path::new("/wal").join(SegmentName::FIRST.to_string()));
    assert!(first.len() as u64 >= OPTIONS.segment_bytes);
    let used = first.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The last record says that nothing is committed: a zero and seven bytes of padding.
    assert_eq!(first.len() - used, 8);
}

#[test]
fn full_disk_is_named_before_the_next_file_is_needed() {
    let disk = CrashDisk::new();
    let mut history = History::create(&disk, 7).unwrap();
    disk.fill();
    history.append_entries(1, 10);
    let error = history.run_all().err().unwrap();
    assert!(matches!(&error, WalError::DiskFull { file, .. } if file.ends_with("0.tmp")));
    assert!(error.to_string().contains("no space left"), "{error}");
}
