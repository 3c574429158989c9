//! The ways between an official server's files and ours, with the power going at every disk call:
//! what is found afterwards is the old directory or the new one, whole, and never half.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use kvorum_member::apply::{Apply, Effect, Input, Local};
use kvorum_member::backend::{Backend, Encoding, Sizing};
use kvorum_member::checkpoint;
use kvorum_member::checkpoint::stream::{Receiving, SendStep, Sending};
use kvorum_member::cluster::{Change, Member, Roster, Version};
use kvorum_member::official::{self, Founding, OfficialError, Site};
use kvorum_mvcc::StoreJob;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
};
use kvorum_proto::ids::{ClusterId, LogIndex, MemberId, RequestId};
use kvorum_proto::raftpb::{Entry, EntryType, HardState};
use kvorum_proto::walpb::Snapshot;
use kvorum_sim::disk::{Disk, Fault};
use kvorum_sim::random::Random;
use kvorum_storage::bolt::Reader;
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::vfs::{DIRECTORY_MODE, FILE_MODE, OpenMode, Vfs as _, VfsFile as _};
use kvorum_storage::wal::{self, Append, Lane, Metadata, Ticket};
use prost::Message as _;

const MEMBER: MemberId = MemberId(1);
const TERM: u64 = 2;
/// The last entry that the database holds; the log goes on behind it.
const IN_DATABASE: usize = 9;
/// Up to here the log tells nothing, so that it is not enough without a state.
const BEFORE_LOG: u64 = 5;
const OLD: Version = Version {
    major: 3,
    minor: 5,
    patch: 0,
};

fn local() -> Local {
    Local {
        member: MEMBER,
        first_request: RequestId(u64::MAX),
    }
}

fn options() -> wal::Options {
    wal::Options {
        segment_bytes: 64 << 10,
        ahead_bytes: 8 << 10,
        ..wal::Options::default()
    }
}

fn member() -> PathBuf {
    "/data/member".into()
}

/// The entries of a short life.
fn entries() -> Vec<Entry> {
    let add = Change::Add(Member::new(MEMBER, vec!["http://m:1".to_owned()], false));
    let add = add.to_wire(0, &Roster::new()).encode_to_vec();
    let put = |key: &'static str, value: usize| {
        Payload::Put(PutRequest {
            key: key.into(),
            value: vec![b'v'; value].into(),
            lease: if key == "b" { 7 } else { 0 },
            ..PutRequest::default()
        })
    };
    let delete = |key: &'static str| {
        Payload::DeleteRange(DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        })
    };
    let requests = [
        Payload::LeaseGrant(LeaseGrantRequest { ttl: 1000, id: 7 }),
        put("a", 10),
        put("b", 3_000),
        put("a", 20),
        put("c", 0),
        delete("a"),
        Payload::Compaction(CompactionRequest {
            revision: 4,
            physical: false,
        }),
        put("b", 5_000),
        put("d", 1),
        delete("c"),
        put("a", 30),
    ];
    let requests = requests.into_iter().map(|payload| {
        let request = InternalRaftRequest {
            header: None,
            id: 5,
            payload: Some(payload),
        };
        (EntryType::EntryNormal, request.encode_to_vec())
    });
    let all = [(EntryType::EntryConfChange, add)]
        .into_iter()
        .chain(requests);
    let entry = |(index, (kind, data)): (u64, (EntryType, Vec<u8>))| Entry {
        term: Some(TERM),
        index: Some(index),
        r#type: Some(kind as i32),
        data: Some(data.into()),
    };
    (1..).zip(all).map(entry).collect()
}

fn apply_to(apply: &mut Apply, entries: &[Entry]) {
    apply.input(Input::Committed(entries.to_vec()));
    while let Some(effect) = apply.take_effect() {
        assert!(!matches!(effect, Effect::Stop(_)), "{effect:?}");
    }
}

/// The state that every way must lead to, as far as a hash tells it.
fn digest(apply: &mut Apply) -> String {
    while apply.compaction_pending() {
        apply.input(Input::CompactStep { records_max: 100 });
    }
    while apply.take_effect().is_some() {}
    apply.check_invariants();
    let hash = apply.read_view().keys.hash_kv(0).expect("undamaged");
    format!("{} {hash:?}", apply.digest())
}

fn expected() -> String {
    let mut apply = Apply::new(local());
    apply_to(&mut apply, &entries());
    digest(&mut apply)
}

/// The database of an official server at an entry.
fn database(to: usize) -> Vec<u8> {
    let mut apply = Apply::new(local());
    apply_to(&mut apply, &entries()[..to]);
    let backend = Backend::new(&apply).written_for(OLD);
    let mut sizing = Sizing::new(&backend);
    while sizing.step(100).expect("it fits") {}
    let layout = sizing.finish().expect("it fits");
    let mut encoding = Encoding::new(&backend, layout).expect("it fits");
    let mut file = Vec::new();
    while let Some(blob) = encoding.blob(1 << 20).expect("it fits") {
        file.extend_from_slice(&blob);
    }
    file
}

fn write(disk: &Disk, path: &Path, bytes: &[u8]) {
    let mode = OpenMode::CreateNew { mode: FILE_MODE };
    let mut file = disk.open(path, mode).expect("a new file");
    file.write_at(0, bytes).expect("room");
    file.sync().expect("a sync");
    let above = path.parent().expect("in a directory");
    disk.sync_directory(above).expect("a sync");
}

fn make_directory(disk: &Disk, path: &Path) {
    disk.create_directory(path, DIRECTORY_MODE).expect("free");
    let above = path.parent().expect("in a directory");
    disk.sync_directory(above).expect("a sync");
}

/// A disk with the data directory, and in it nothing.
fn empty_disk() -> Disk {
    let disk = Disk::new(Random::new(7));
    make_directory(&disk, Path::new("/data"));
    disk
}

/// A disk with the directory of an official member.
fn official_disk() -> Disk {
    let disk = empty_disk();
    make_directory(&disk, &member());
    make_directory(&disk, &member().join("snap"));
    write(&disk, &member().join("snap/db"), &database(IN_DATABASE));
    make_log(&disk);
    disk
}

fn make_log(disk: &Disk) {
    let record = Snapshot {
        index: Some(BEFORE_LOG),
        term: Some(TERM),
        conf_state: None,
    };
    make_log_of(disk, entries(), Some(&record));
}

/// A log with these entries, all committed.
fn make_log_of(disk: &Disk, entries: Vec<Entry>, record: Option<&Snapshot>) {
    let metadata = Metadata {
        node: MEMBER,
        cluster: ClusterId(3),
    };
    let log = member().join("wal");
    let mut opened = wal::create(disk, &log, metadata, options()).expect("a new log");
    opened.log.append(Append {
        ticket: Ticket(1),
        hard_state: Some(HardState {
            term: Some(TERM),
            vote: Some(MEMBER.0),
            commit: Some(entries.len() as u64),
        }),
        entries,
        must_sync: true,
    });
    if let Some(record) = record {
        opened.log.append_snapshot(Ticket(2), record, None);
    }
    run_log(&mut opened).expect("it is written");
}

fn run_log(opened: &mut wal::Opened<Disk>) -> Result<(), wal::WalError> {
    while let Some(output) = opened.log.take_output() {
        if let wal::Output::Job(job) = output {
            match job.lane() {
                Lane::Foreground => opened.executor.run(&job)?,
                Lane::Background => opened.background.run(&job)?,
            }
            opened.log.done(job.id);
        }
    }
    Ok(())
}

/// A start of ours: what it comes to.
fn start(disk: &Disk) -> Result<String, Box<dyn std::error::Error>> {
    let member = member();
    official::settle(disk, &member)?;
    let opened = wal::open(disk, &member.join("wal"), options())?;
    if disk.exists(&member.join("snap/db"))? {
        official::take_over(disk, &member, &opened.recovered, local())?;
    }
    let directory = Directory::new(disk.clone(), member.join("state"));
    let state = checkpoint::open(&directory, opened.recovered, local())?;
    let mut apply = state.apply;
    let commit = state.recovered.hard_state.commit();
    let entries = state.recovered.entries;
    let committed: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| entry.index() <= commit)
        .collect();
    apply_to(&mut apply, &committed);
    Ok(digest(&mut apply))
}

/// Does `work` with the power going before and after each of its disk calls, then looks with
/// `check`. How many calls there are.
fn with_each_crash<T>(
    prepared: &Disk,
    work: impl Fn(&Disk) -> Result<T, Box<dyn std::error::Error>>,
    check: impl Fn(&Disk, &str),
) -> u64 {
    let whole = prepared.copy();
    let before = whole.calls();
    assert!(work(&whole).is_ok(), "{:?}", work(&whole).err());
    let calls = whole.calls() - before;
    for call in 0..calls {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let disk = prepared.copy();
            disk.plan(disk.calls() + call, fault);
            let crashed = work(&disk);
            let place = format!("{fault:?} at call {call} of {calls}");
            assert!(crashed.is_err() || fault == Fault::CrashAfter, "{place}");
            disk.forget_plan();
            disk.restart();
            check(&disk, &place);
        }
    }
    calls
}

#[test]
fn a_take_over_that_is_interrupted_is_not_begun_or_is_done() {
    let expected = expected();
    let calls = with_each_crash(&official_disk(), start, |disk, place| {
        let found = start(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(found, expected, "{place}");
        let snap = disk.exists(&member().join("snap")).expect("a look");
        let kept = disk
            .exists(&member().join("official-1/db"))
            .expect("a look");
        assert!(!snap && kept, "{place}: the official files are kept");
    });
    assert!(calls > 30, "{calls} calls are not a take-over");
}

fn restore(disk: &Disk) -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new("/saved");
    let file = disk.open(path, OpenMode::Read)?;
    let founding = Founding {
        members: vec![Member::new(MEMBER, vec!["http://m:2".to_owned()], false)],
        this: MEMBER,
        bump_revision: 100,
    };
    let site = Site {
        data: Path::new("/data"),
        log: None,
    };
    Ok(official::found(
        disk,
        path,
        Reader::open(file)?,
        &founding,
        site,
    )?)
}

#[test]
fn a_restore_that_is_interrupted_left_nothing_or_is_done() {
    let prepared = empty_disk();
    write(&prepared, Path::new("/saved"), &database(entries().len()));
    let whole = prepared.copy();
    restore(&whole).expect("no fault is planned");
    let expected = start(&whole).expect("it was just made");
    let calls = with_each_crash(&prepared, restore, |disk, place| {
        if !disk.exists(&member()).expect("a look") {
            let data = Path::new("/data");
            assert!(official::is_free(disk, data).expect("a look"), "{place}");
            restore(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        let found = start(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(found, expected, "{place}");
    });
    assert!(calls > 30, "{calls} calls are not a restore");
}

fn give_back(disk: &Disk) -> Result<(), Box<dyn std::error::Error>> {
    official::give_back(disk, &member(), &member().join("wal"), OLD)?;
    Ok(())
}

#[test]
fn a_way_back_that_is_interrupted_leaves_a_directory_of_one_of_the_two() {
    let expected = expected();
    let prepared = official_disk();
    start(&prepared).expect("no fault is planned");
    with_each_crash(&prepared.copy(), give_back, |disk, place| {
        // An official server can start: what it reads is there and goes with the log.
        let state = disk.exists(&member().join("state")).expect("a look");
        if !state {
            let file = disk.open(&member().join("snap/db"), OpenMode::Read);
            let reader = Reader::open(file.expect(place)).expect(place);
            let imported = kvorum_member::backend::import::Imported::read(&reader).expect(place);
            let log = wal::read(disk, &member().join("wal")).expect(place);
            assert_eq!(imported.applied.0, log.snapshot.index(), "{place}");
        }
        // Ours can in any case.
        let found = start(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(found, expected, "{place}");
    });
}

/// The entry of our own checkpoint, and the last one of our own log, when a snapshot comes.
const CHECKPOINT: usize = 6;
const OWN_LOG: usize = 8;

/// A disk with a directory of ours that has fallen behind.
fn behind_disk() -> Disk {
    let disk = empty_disk();
    make_directory(&disk, &member());
    make_directory(&disk, &member().join("state"));
    make_log_of(&disk, entries()[..OWN_LOG].to_vec(), None);
    let executor = checkpoint::Executor::new(state_directory(&disk));
    let mut own = Apply::new(local());
    apply_to(&mut own, &entries()[..CHECKPOINT]);
    assert!(checkpoint::receive(&executor, &mut own).expect("room"));
    executor
        .run(checkpoint::Job::Adopt, |_| ())
        .expect("it is the only one");
    disk
}

fn state_directory(disk: &Disk) -> Directory<Disk> {
    Directory::new(disk.clone(), member().join("state"))
}

/// Size of segments of a state that is sent: small, so that reading it writes some.
const SEGMENT_BYTES: u64 = 200;

#[test]
fn the_same_state_sent_again_is_not_needed() {
    let database = &database(entries().len())[..];
    let disk = behind_disk();
    let executor = checkpoint::Executor::new(state_directory(&disk));
    let named = LogIndex(entries().len() as u64);
    let take = |named| checkpoint::take_in(&executor, database, named, local(), SEGMENT_BYTES);
    let before = disk.files();
    let refused = take(LogIndex(named.0 + 1)).expect_err("another entry is announced");
    assert!(
        matches!(refused, checkpoint::ReceiveError::OtherEntry { found, .. } if found == named),
        "{refused}"
    );
    assert_eq!(disk.files(), before, "something is left of it");
    let mut state = take(named).expect("room").expect("it is newer");
    assert!(disk.files().len() > before.len(), "segments are written");
    assert!(checkpoint::receive(&executor, &mut state).expect("room"));
    let received = disk.files();
    let mut state = take(named)
        .expect("room")
        .expect("the other was not wanted");
    assert!(checkpoint::receive(&executor, &mut state).expect("room"));
    assert_eq!(
        disk.files(),
        received,
        "it has taken the place of the other"
    );
    let adopted = executor.run(checkpoint::Job::Adopt, |_| ());
    adopted.expect("the state is there");
    assert!(take(named).expect("room").is_none());
}

/// The same state as a leader of ours sends it: as the files that it lies in.
fn files() -> Vec<u8> {
    let (all, disk) = (entries().len(), behind_disk());
    let executor = checkpoint::Executor::new(state_directory(&disk));
    let (file, named) = (&database(all)[..], LogIndex(all as u64));
    let taken = checkpoint::take_in(&executor, file, named, local(), SEGMENT_BYTES);
    let mut apply = taken.expect("room").expect("it is newer");
    assert!(checkpoint::receive(&executor, &mut apply).expect("room"));
    let files = apply.files().len();
    assert!(files > 1, "it lies in {files} files");
    let mut sending = Sending::new(&Backend::new(&apply));
    let mut stream = Vec::new();
    loop {
        match sending.step().expect("undamaged") {
            SendStep::Read(_) => {}
            SendStep::Bytes(bytes) => stream.extend_from_slice(&bytes),
            SendStep::End => return stream,
        }
    }
}

/// Bytes of such a stream that arrive together.
const ARRIVING_BYTES: usize = 300;

fn take_files(
    executor: &checkpoint::Executor<Disk>,
    stream: &[u8],
    named: LogIndex,
) -> Result<Apply, Box<dyn std::error::Error>> {
    let mut receiving = Receiving::begin(executor, named)?.expect("it is newer");
    for bytes in stream.chunks(ARRIVING_BYTES) {
        receiving.input(bytes)?;
    }
    Ok(receiving.finish(local())?)
}

/// What a leader sends.
#[derive(Clone, Copy)]
enum Sent<'a> {
    Database(&'a [u8]),
    Files(&'a [u8]),
}

/// Takes over the state that a leader sends, in the order of a running member.
fn install(disk: &Disk, sent: Sent<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let directory = state_directory(disk);
    let mut opened = wal::open(disk, &member().join("wal"), options())?;
    let old = directory.manifest()?.expect("a checkpoint of its own");
    let executor = checkpoint::Executor::new(directory);
    let named = LogIndex(entries().len() as u64);
    let mut state = match sent {
        Sent::Database(file) => {
            let taken = checkpoint::take_in(&executor, file, named, local(), SEGMENT_BYTES)?;
            taken.expect("it is newer")
        }
        Sent::Files(stream) => take_files(&executor, stream, named)?,
    };
    assert!(checkpoint::receive(&executor, &mut state)?, "it is newer");
    let index = state.applied();
    let record = Snapshot {
        index: Some(index.0),
        term: Some(TERM),
        conf_state: Some(state.conf_state()),
    };
    let hard_state = HardState {
        term: Some(TERM),
        vote: Some(MEMBER.0),
        commit: Some(index.0),
    };
    let ticket = Ticket(1);
    opened
        .log
        .append_snapshot(ticket, &record, Some(hard_state));
    run_log(&mut opened)?;
    executor.run(checkpoint::Job::Adopt, |_| ())?;
    let ids = old.segments.iter().map(|segment| segment.id).collect();
    let remove = checkpoint::Job::Store(StoreJob::Remove(ids));
    executor.run(remove, |_| ())?;
    opened.log.release(index);
    Ok(run_log(&mut opened)?)
}

#[test]
fn a_snapshot_that_is_interrupted_while_it_is_installed_leaves_the_old_state_or_the_new() {
    check_install(Sent::Database(&database(entries().len())));
}

#[test]
fn files_that_are_interrupted_while_they_are_installed_leave_the_old_state_or_the_new() {
    check_install(Sent::Files(&files()));
}

fn check_install(sent: Sent<'_>) {
    let prepared = behind_disk();
    let old = start(&prepared.copy()).expect("nothing was done yet");
    let whole = prepared.copy();
    install(&whole, sent).expect("no fault is planned");
    let new = start(&whole).expect("it was just installed");
    assert_ne!(old, new);
    let (seen_old, seen_new) = (Cell::new(0), Cell::new(0));
    let calls = with_each_crash(
        &prepared,
        |disk| install(disk, sent),
        |disk, place| {
            let found = start(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(found == old || found == new, "{place}: {found}");
            let seen = if found == old { &seen_old } else { &seen_new };
            seen.set(seen.get() + 1);
            // Whatever is there, the next snapshot is taken in.
            if found == old {
                install(disk, sent).unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(start(disk).expect("it was just installed"), new, "{place}");
            }
        },
    );
    assert!(calls > 20, "{calls} calls are not an installation");
    assert!(seen_old.get() > 10 && seen_new.get() > 3);
}

/// Bytes that are not what they were are refused, and nothing is moved.
#[test]
fn a_damaged_database_stays_where_it_is() {
    let disk = official_disk();
    let path = member().join("snap/db");
    disk.flip_bit(&path, 2 * 4096 + 3, 1);
    let error = start(&disk).expect_err("a damaged page").to_string();
    assert!(error.contains("snap/db: page"), "{error}");
    assert!(disk.exists(&path).expect("a look"));
    let opened = wal::open(&disk, &member().join("wal"), options()).expect("the log is whole");
    let again = official::take_over(&disk, &member(), &opened.recovered, local());
    assert!(matches!(again, Err(OfficialError::Database { .. })));
}
