//! The state goes into files, in order, and comes back.

use kvorum_storage::vfs::{OpenMode, Vfs as _, VfsFile as _};

use super::*;

impl World {
    fn puts(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.put(&format!("key{}", number % 7), &"v".repeat(100));
            self.settle();
        }
    }

    fn checkpoint(&mut self) {
        self.core.ask_for_checkpoint();
        self.settle();
        assert_eq!(self.core.last_checkpoint(), self.core.apply().applied());
    }

    fn place(&self, start: &str) -> usize {
        let found = self.trace.iter().position(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in {:?}", self.trace))
    }
}

#[test]
fn a_start_begins_at_the_checkpoint_and_finds_the_same_state() {
    let mut world = World::leading();
    world.propose(Payload::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 20 }));
    world.put_with_lease("leased", "1", 5);
    world.puts(0..30);
    world.checkpoint();
    let (index, digest) = (world.core.apply().applied(), world.core.apply().digest());
    let world = world.crash(1);
    assert_eq!(world.core.last_checkpoint(), index);
    assert_eq!(world.core.apply().applied(), index);
    assert_eq!(world.core.apply().digest(), digest);
    assert_eq!(world.core.replay(), None);
}

#[test]
fn what_came_after_a_checkpoint_is_replayed_over_it() {
    let mut world = World::leading();
    for round in 0..5 {
        world.puts(0..20);
        world.checkpoint();
        world.puts(20..30);
        world.core.input(Input::Flush);
        world.settle();
        let records = world.records();
        world = world.crash(round + 1);
        world.settle();
        assert_eq!(world.records(), records);
    }
}

#[test]
fn a_checkpoint_goes_from_files_to_manifest_to_log_to_removal() {
    let mut world = World::leading();
    world.puts(0..203);
    let files = |world: &World| world.disk.list(Path::new(WAL)).unwrap().len();
    let before = files(&world);
    assert!(
        before > 5,
        "{before} log files are too few to show anything"
    );
    world.trace.clear();
    world.checkpoint();
    let written = world.place("StateJob(Store(Write");
    let named = world.place("StateJob(Manifest");
    let recorded = world.place("Job(");
    let done = world.place("Notice(Checkpointed");
    assert!(written < named && named < recorded && recorded < done);
    assert!(files(&world) < before, "old log files are gone");
    let records = world.records();
    let world = world.crash(1);
    assert_eq!(world.records(), records);
}

#[test]
fn a_checkpoint_costs_what_is_new_and_not_what_is_there() {
    let mut world = World::leading();
    // Files too large to be worth a copy.
    world.core.set_segment_bytes(64 << 10);
    world.puts(0..400);
    world.checkpoint();
    let segments = |world: &World| -> BTreeMap<String, u64> {
        let state = Path::new(STATE);
        let names = world.disk.list(state).unwrap().into_iter();
        let segments = names.filter(|name| name.ends_with(".seg"));
        let open = |name: &String| world.disk.open(&state.join(name), OpenMode::Read).unwrap();
        let sized = segments.map(|name| (open(&name).length().unwrap(), name));
        sized.map(|(bytes, name)| (name, bytes)).collect()
    };
    let before = segments(&world);
    world.puts(0..3);
    world.trace.clear();
    world.core.ask_for_checkpoint();
    world.settle();
    let written: Vec<&String> = world
        .trace
        .iter()
        .filter(|line| line.starts_with("StateJob(Store(Write"))
        .collect();
    assert_eq!(written.len(), 1, "one run, with what is new: {written:?}");
    let after = segments(&world);
    assert!(
        before
            .iter()
            .all(|(name, bytes)| after.get(name) == Some(bytes))
    );
    let new: u64 = after
        .iter()
        .filter(|(name, _)| !before.contains_key(*name))
        .map(|(_, bytes)| bytes)
        .sum();
    let there: u64 = before.values().sum();
    assert!(new < there / 20, "{new} bytes beside {there}");
}

#[test]
fn many_small_segments_are_copied_into_few() {
    let mut world = World::leading();
    world.puts(0..400);
    world.checkpoint();
    world.propose(Payload::Compaction(CompactionRequest {
        revision: 390,
        physical: false,
    }));
    world.settle();
    world.puts(0..2);
    world.checkpoint();
    world.puts(0..2);
    world.checkpoint();
    let files = world.disk.list(Path::new(STATE)).unwrap();
    assert!(files.len() < 20, "{files:?}");
    let records = world.records();
    let world = world.crash(1);
    assert_eq!(world.records(), records);
    assert_eq!(
        world.disk.list(Path::new(STATE)).unwrap().len(),
        world.core.apply().files().len() + 1
    );
}

#[test]
fn a_checkpoint_waits_for_its_entries_and_for_its_time() {
    let mut world = World::leading();
    world.core.set_checkpoint_policy(checkpoint::Policy {
        entries_min: 10,
        log_bytes_max: 4000,
        pause: Duration::from_secs(3),
    });
    let begun = |world: &World| world.core.last_checkpoint().0;
    world.puts(0..7);
    assert_eq!(begun(&world), 0, "nine entries");
    world.puts(7..8);
    assert_eq!(begun(&world), 10);
    world.puts(0..20);
    assert_eq!(begun(&world), 10, "its time has not come");
    assert_eq!(world.core.deadline(), Some(Moment(Duration::from_secs(3))));
    world.now = Moment(Duration::from_secs(3));
    world.settle();
    assert_eq!(begun(&world), 30);
    world.puts(0..40);
    assert!(begun(&world) > 30, "so much log is not left to a replay");
}

#[test]
fn damage_in_the_state_is_refused_with_file_and_offset() {
    let mut world = World::leading();
    world.puts(0..30);
    world.checkpoint();
    let names = world.disk.list(Path::new(STATE)).unwrap();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let path = Path::new(STATE).join(&name);
        world.disk.flip(&path, 70);
        let recovered = wal::read(&world.disk, Path::new(WAL)).unwrap();
        let directory = Directory::new(world.disk.clone(), STATE.into());
        let opened = checkpoint::open(&directory, recovered, world.core.apply().local());
        // A flipped bit in a change is found by who reads the change.
        match opened.map(|opened| opened.apply.read_view().keys.hash_kv(0)) {
            Ok(hash) => assert!(name.ends_with(".seg") && hash.is_err(), "{name}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains(&name) && error.contains("offset"), "{error}");
            }
        }
        world.disk.flip(&path, 70);
    }
}

#[test]
fn a_state_that_was_read_before_is_used_only_while_it_counts() {
    let mut world = World::leading();
    let directory = Directory::new(world.disk.clone(), STATE.into());
    world.puts(0..30);
    world.checkpoint();
    let old = checkpoint::prepare(&directory);
    world.puts(30..60);
    world.checkpoint();
    let current = checkpoint::prepare(&directory);
    assert!(old.is_some() && current.is_some());
    let mut digests = Vec::new();
    for prepared in [None, old, current] {
        let recovered = wal::read(&world.disk, Path::new(WAL)).unwrap();
        let local = world.core.apply().local();
        let opened = checkpoint::open_prepared(&directory, prepared, recovered, local).unwrap();
        assert_eq!(opened.apply.applied(), world.core.last_checkpoint());
        digests.push(opened.apply.digest());
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}
