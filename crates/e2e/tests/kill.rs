//! SIGKILL under load, again and again: while the server works, while it starts and replays its
//! log, while it goes over to the next log file, while it works on the files of its state. Nothing acknowledged is lost, nothing is invented,
//! revisions never go back, watches resume exactly where they stood, leases keep their keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kvorum_e2e::dice::Dice;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::recorder::{Evidence, KILLS, Load, Size, violations};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};

/// Writes that are acknowledged before the next kill, at most.
const WRITES_BETWEEN_KILLS: u64 = 150;
/// One kill of so many comes at the moment when leases expire, for which it has to be waited.
const KILLS_PER_EXPIRY: u32 = 10;
/// Time without a kill before that moment. Each start gives leases their whole lifetime of 2 s again,
/// and an election timeout.
const QUIET: Duration = Duration::from_secs(5);
/// One kill at the end of a log file for so many of the other kinds: each costs a whole file.
const KILLS_PER_CUT: u32 = 5;
/// Log files that one server fills before another takes its place: every start reads all of them.
const CUTS_PER_SERVER: u32 = 4;
/// Kills beyond those asked for, until one has hit.
const MORE_CUTS_MAX: u32 = 20;
/// Size at which a log file is ended, in bytes.
const LOG_FILE_BYTES: u64 = 64_000_000;
/// A file that ends no later than this holds its head and no group yet.
const HEAD_BYTES: usize = 1024;
/// Pause between two looks at the log files: short against a write of 1 MiB with its sync.
const LOOK: Duration = Duration::from_micros(50);
/// A server that acknowledges nothing for this long hangs, and so does one that fills no log file.
const HANG: Duration = Duration::from_secs(240);

on_each_server!(
    nothing_acknowledged_is_lost,
    nothing_is_lost_between_two_log_files,
);

fn kills() -> u32 {
    let asked = std::env::var("KVORUM_E2E_KILLS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

fn nothing_acknowledged_is_lost(subject: Subject) {
    let kills = kills();
    let seed = u64::from(kills);
    let mut dice = Dice::new(seed);
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let load = Load::start(server.port(), seed, Size::Small);
    let mut start_takes = Duration::from_millis(100);
    let mut at_start = 0;
    for number in 1..=kills {
        wait_for_writes(&load, 1 + dice.below(WRITES_BETWEEN_KILLS));
        if number % KILLS_PER_EXPIRY == KILLS_PER_EXPIRY / 2 {
            wait_for_expiry(&load);
        }
        server.kill();
        server.launch();
        // Any moment between the first instruction and the last one before it serves.
        thread::sleep(start_takes.mul_f64(dice.below(1000) as f64 / 1000.0));
        at_start += u32::from(!server.logs(subject.ready_line(), Duration::ZERO));
        server.kill();
        let started = Instant::now();
        server.launch();
        server.wait_ready();
        start_takes = started.elapsed();
    }
    wait_for_writes(&load, 10);
    let (writes, expired) = (load.acknowledged(), load.expired());
    let evidence = load.finish();
    eprintln!(
        "{subject:?}: {kills} kills under load, {at_start} more before the server was ready, \
         {writes} writes acknowledged, {} events, {expired} keys expired with their lease",
        evidence.events.len()
    );
    assert_unharmed(&evidence);
    assert!(at_start > 0, "no kill hit a starting server");
    assert!(expired > 0, "no lease expired");
}

/// Where a kill found the step from one log file to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// The last file is not full: the kill came too early.
    NotYet,
    /// The last file is full, and there is no next one.
    FullAndAlone,
    /// The next file has its name and nothing but its head.
    NextIsEmpty,
    /// The next file is in use already: the kill came too late.
    NextIsUsed,
}

fn nothing_is_lost_between_two_log_files(subject: Subject) {
    let kills = (kills() / KILLS_PER_CUT).max(2);
    let mut found: BTreeMap<Cut, u32> = BTreeMap::new();
    let (mut writes, mut events) = (0, 0);
    let hit = |found: &BTreeMap<Cut, u32>| {
        let hits = [Cut::FullAndAlone, Cut::NextIsEmpty];
        hits.iter().any(|cut| found.contains_key(cut))
    };
    let mut number = 0;
    // On a busy machine the server gets on while nobody looks, and more kills are needed.
    while number < kills || !hit(&found) && number < kills + MORE_CUTS_MAX {
        let Some(mut server) = Server::start(subject, &[]) else {
            return;
        };
        let load = Load::start(server.port(), u64::from(number), Size::Large);
        for _ in 0..CUTS_PER_SERVER.min(kills.saturating_sub(number).max(2)) {
            // Half of the kills aim before the next file has its name, half right behind.
            let cut = kill_at_cut(&mut server, number % 2 == 0);
            *found.entry(cut).or_default() += 1;
            server.launch();
            server.wait_ready();
            number += 1;
        }
        wait_for_writes(&load, 10);
        writes += load.acknowledged();
        let evidence = load.finish();
        events += evidence.events.len();
        assert_unharmed(&evidence);
    }
    eprintln!(
        "{subject:?}: {number} kills around the end of a log file: {found:?}, {writes} writes \
         acknowledged, {events} events"
    );
    assert!(
        hit(&found),
        "no kill hit the step from one file to the next: {found:?}"
    );
}

/// Lets the load fill the last log file and kills the server when it is full, or when the next
/// file has its name.
fn kill_at_cut(server: &mut Server, when_full: bool) -> Cut {
    let full = server.last_wal();
    let started = Instant::now();
    loop {
        let next_is_named = server.last_wal() != full;
        if next_is_named || when_full && length(&full) > LOG_FILE_BYTES {
            break;
        }
        assert!(
            started.elapsed() < HANG,
            "no log file was filled in {HANG:?}"
        );
        thread::sleep(LOOK);
    }
    server.kill();
    let last = server.last_wal();
    if last == full {
        return match length(&full) > LOG_FILE_BYTES {
            true => Cut::FullAndAlone,
            false => Cut::NotYet,
        };
    }
    let bytes = fs::read(&last).expect("the log can be read");
    match bytes[HEAD_BYTES..].iter().all(|byte| *byte == 0) {
        true => Cut::NextIsEmpty,
        false => Cut::NextIsUsed,
    }
}

/// Work on the files of the state that a kill cuts short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Checkpoint,
    Copy,
    Compaction,
    Snapshot,
}

impl Work {
    const ALL: [Work; 4] = [
        Work::Checkpoint,
        Work::Copy,
        Work::Compaction,
        Work::Snapshot,
    ];

    /// What the log says when it begins and when it is done; a snapshot is told by its reader.
    fn lines(self) -> Option<(&'static str, &'static str)> {
        match self {
            Work::Checkpoint => Some(("checkpoint begins", "checkpoint is durable")),
            Work::Copy => Some(("copy begins", "copy is done")),
            Work::Compaction => Some(("compaction begins", "finished scheduled compaction")),
            Work::Snapshot => None,
        }
    }

    /// Whether it was under way when the process wrote its last line.
    fn is_cut_short(self, log: &[String]) -> bool {
        let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        let lines = self.lines();
        lines.is_some_and(|(begins, ends)| count(begins) > count(ends))
    }
}

/// Small files and short pauses, so that there is always work on the files; a compaction takes long.
const STATE_FLAGS: [&str; 6] = [
    "--log-level=debug",
    "--snapshot-count=20",
    "--experimental-kvorum-checkpoint-pause=1ms",
    "--experimental-kvorum-scrub-pause=10ms",
    "--compaction-batch-limit=5",
    "--compaction-sleep-interval=5ms",
];
/// Kills beyond those asked for, until each kind of work was cut short.
const MORE_KILLS_MAX: u32 = 60;
/// No kill waits longer for its kind of work to begin.
const WORK_LIMIT: Duration = Duration::from_secs(5);
/// Pause of a reader of snapshots after each part.
const READING: Duration = Duration::from_millis(5);

#[test]
fn nothing_is_lost_when_work_on_files_is_cut_short() {
    let kills = kills();
    let mut dice = Dice::new(u64::from(kills));
    let mut server = Server::start(Subject::Kvorum, &STATE_FLAGS).expect("ours is always there");
    let load = Load::start(server.port(), u64::from(kills), Size::Medium);
    let mut found: BTreeMap<Work, u32> = BTreeMap::new();
    let mut number = 0;
    while number < kills || found.len() < Work::ALL.len() && number < kills + MORE_KILLS_MAX {
        wait_for_writes(&load, 1 + dice.below(WRITES_BETWEEN_KILLS));
        let missing = Work::ALL.into_iter().find(|work| !found.contains_key(work));
        let aim = missing.unwrap_or(Work::ALL[number as usize % Work::ALL.len()]);
        for work in kill_in(&mut server, aim, &mut dice) {
            *found.entry(work).or_default() += 1;
        }
        server.launch();
        server.wait_ready();
        number += 1;
    }
    wait_for_writes(&load, 10);
    let writes = load.acknowledged();
    let evidence = load.finish();
    eprintln!(
        "{number} kills during work on files: {found:?}, {writes} writes acknowledged, {} events",
        evidence.events.len()
    );
    assert_unharmed(&evidence);
    for work in Work::ALL {
        assert!(
            found.contains_key(&work),
            "no kill hit a {work:?}: {found:?}"
        );
    }
}

/// Waits until the work begins, kills a moment later, and says what was cut short.
fn kill_in(server: &mut Server, aim: Work, dice: &mut Dice) -> Vec<Work> {
    let before = server.earlier_lines();
    let (reading, port) = (Arc::new(AtomicBool::new(false)), server.port());
    let reader = {
        let reading = Arc::clone(&reading);
        thread::spawn(move || block_on(read_snapshots(port, &reading)))
    };
    match aim.lines() {
        Some((begins, _)) => _ = server.logs_next(begins, WORK_LIMIT),
        None => wait("snapshot is read", || reading.load(Ordering::Relaxed)),
    }
    thread::sleep(Duration::from_micros(dice.below(3000)));
    let snapshot = reading.load(Ordering::Relaxed);
    server.kill();
    reader.join().expect("the reader ends with the server");
    let log = server.log().split_off(before);
    let mut cut: Vec<Work> = Work::ALL
        .into_iter()
        .filter(|work| work.is_cut_short(&log))
        .collect();
    cut.extend(snapshot.then_some(Work::Snapshot));
    cut
}

/// Reads one snapshot after the other until the server is gone; `reading` tells that one has begun
/// and is not over.
async fn read_snapshots(port: u16, reading: &AtomicBool) {
    let method = "etcdserverpb.Maintenance/Snapshot";
    while let Ok(connection) = Connection::open(port).await {
        let request = SnapshotRequest::default();
        let Ok(mut stream) = connection.open_stream(method, &request).await else {
            break;
        };
        loop {
            let part = stream.next::<SnapshotResponse>().await;
            let Ok(Some(part)) = part else {
                break;
            };
            reading.store(part.remaining_bytes > 0, Ordering::Relaxed);
            tokio::time::sleep(READING).await;
        }
        reading.store(false, Ordering::Relaxed);
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("the file is there").len()
}

fn assert_unharmed(evidence: &Evidence) {
    let found = violations(evidence);
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Waits until the load has brought through this many more writes.
fn wait_for_writes(load: &Load, more: u64) {
    let goal = load.acknowledged() + more;
    wait("write was acknowledged", || load.acknowledged() >= goal);
}

/// Waits until a lease that nobody keeps alive has taken its keys with it, and for so long that
/// those that are kept alive are older than their lifetime.
fn wait_for_expiry(load: &Load) {
    let before = load.expired();
    let started = Instant::now();
    wait("lease expired", || {
        load.expired() > before && started.elapsed() > QUIET
    });
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < HANG, "no {what} in {HANG:?}");
        // Short against the time between two kills, long against a spinning core.
        thread::sleep(Duration::from_millis(1));
    }
}
