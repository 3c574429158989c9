use std::io::ErrorKind;
use std::path::Path;

use kvorum_storage::vfs::{OpenMode, Vfs, VfsFile};

use super::{Disk, DiskFile, Fault};
use crate::random::Random;

const NEW: OpenMode = OpenMode::CreateNew { mode: 0o600 };

fn disk(seed: u64) -> Disk {
    Disk::new(Random::new(seed))
}

fn read_all(file: &DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// What the file `/f` holds after a crash that comes right after `act`, over many seeds.
fn survivors(act: impl Fn(&Disk, &mut DiskFile)) -> Vec<Option<Vec<u8>>> {
    (0..200)
        .map(|seed| {
            let disk = disk(seed);
            let mut file = disk.open(Path::new("/f"), NEW).unwrap();
            act(&disk, &mut file);
            disk.crash();
            disk.restart();
            let file = disk.open(Path::new("/f"), OpenMode::Read).ok()?;
            Some(read_all(&file))
        })
        .collect()
}

#[test]
fn synced_bytes_and_names_survive() {
    let outcomes = survivors(|disk, file| {
        file.write_at(0, b"abc").unwrap();
        file.sync().unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
    });
    assert!(
        outcomes
            .iter()
            .all(|bytes| bytes.as_deref() == Some(b"abc"))
    );
}

#[test]
fn a_write_through_survives_with_its_length() {
    let outcomes = survivors(|disk, file| {
        disk.sync_directory(Path::new("/")).unwrap();
        file.write_through(2, b"abc").unwrap();
    });
    assert!(
        outcomes
            .iter()
            .all(|bytes| bytes.as_deref() == Some(b"\0\0abc"))
    );
}

#[test]
fn unsynced_bytes_are_lost_kept_or_torn() {
    let outcomes = survivors(|disk, file| {
        disk.sync_directory(Path::new("/")).unwrap();
        file.write_at(0, &[7; 1500]).unwrap();
    });
    let files: Vec<&Vec<u8>> = outcomes.iter().flatten().collect();
    assert_eq!(files.len(), outcomes.len());
    assert!(files.iter().any(|bytes| bytes.is_empty()));
    assert!(
        files
            .iter()
            .any(|bytes| bytes.iter().filter(|byte| **byte == 7).count() == 1500)
    );
    assert!(
        files
            .iter()
            .any(|bytes| bytes.contains(&7) && bytes.contains(&0))
    );
}

#[test]
fn a_name_without_a_directory_sync_may_be_lost() {
    let outcomes = survivors(|_, file| file.write_through(0, b"abc").unwrap());
    assert!(outcomes.iter().any(Option::is_none));
    assert!(
        outcomes
            .iter()
            .any(|bytes| bytes.as_deref() == Some(b"abc"))
    );
}

#[test]
fn a_rename_is_lost_or_kept_as_a_whole() {
    for seed in 0..100 {
        let disk = disk(seed);
        let mut file = disk.open(Path::new("/f"), NEW).unwrap();
        file.write_through(0, b"abc").unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
        disk.rename(Path::new("/f"), Path::new("/g")).unwrap();
        disk.crash();
        disk.restart();
        let names = disk.list(Path::new("/")).unwrap();
        assert!(names == ["f"] || names == ["g"], "{names:?}");
    }
}

#[test]
fn a_planned_crash_stops_every_later_call() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let disk = disk(1);
        let mut file = disk.open(Path::new("/f"), NEW).unwrap();
        disk.plan(disk.calls(), fault);
        assert!(file.write_at(0, b"abc").is_err());
        assert!(disk.is_crashed());
        assert!(disk.list(Path::new("/")).is_err());
        disk.restart();
        assert!(file.length().is_err(), "a handle of a dead process");
        assert!(disk.list(Path::new("/")).is_ok());
        assert_eq!(disk.counts().crashes, 1);
    }
}

#[test]
fn a_failed_sync_makes_nothing_durable() {
    let outcomes = survivors(|disk, file| {
        disk.sync_directory(Path::new("/")).unwrap();
        file.write_at(0, b"abc").unwrap();
        disk.plan(disk.calls(), Fault::Fail);
        assert!(file.sync().is_err());
    });
    assert!(outcomes.iter().any(|bytes| bytes.as_deref() == Some(b"")));
}

#[test]
fn a_sync_after_a_failed_one_covers_only_what_was_written_again() {
    let outcomes = survivors(|disk, file| {
        file.write_at(0, &[0; 1024]).unwrap();
        file.sync().unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
        file.write_at(0, &[7; 1024]).unwrap();
        disk.plan(disk.calls(), Fault::Fail);
        assert!(file.sync().is_err());
        file.write_at(512, &[7; 512]).unwrap();
        file.sync().unwrap();
    });
    let first = |bytes: &Option<Vec<u8>>| bytes.as_ref().unwrap()[0];
    assert!(outcomes.iter().any(|bytes| first(bytes) == 0));
    assert!(outcomes.iter().any(|bytes| first(bytes) == 7));
    let rewritten = |bytes: &Option<Vec<u8>>| bytes.as_ref().unwrap()[512..] == [7; 512];
    assert!(outcomes.iter().all(rewritten));
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let disk = disk(1);
    let mut file = disk.open(Path::new("/f"), NEW).unwrap();
    file.write_at(0, b"abc").unwrap();
    disk.set_capacity(4);
    assert_eq!(
        file.write_at(3, b"de").unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    file.write_at(0, b"xyz").unwrap();
    assert_eq!(disk.counts().full, 1);
}

#[test]
fn a_lock_is_exclusive_until_its_holder_is_gone() {
    let disk = disk(1);
    let mut first = disk.open(Path::new("/f"), NEW).unwrap();
    let mut second = disk.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
    assert!(first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    drop(first);
    assert!(second.try_lock().unwrap());
}

#[test]
fn same_seed_leaves_the_same_bytes() {
    let run = |seed| {
        let disk = disk(seed);
        let mut file = disk.open(Path::new("/f"), NEW).unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
        file.write_at(0, &[7; 5000]).unwrap();
        disk.crash();
        disk.restart();
        let file = disk.open(Path::new("/f"), OpenMode::Read).unwrap();
        (read_all(&file), disk.take_trace())
    };
    assert_eq!(run(3), run(3));
}
