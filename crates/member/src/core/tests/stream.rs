//! A state goes to another member as its files: what arrives is what was sent, or nothing is used.

use kvorum_storage::segment::SegmentId;
use kvorum_storage::vfs::Vfs as _;

use super::*;
use crate::backend::Backend;
use crate::checkpoint::ReceiveError;
use crate::checkpoint::stream::{Receiving, SendStep, Sending};

/// A member whose history lies in several segments, in sealed runs and in memory.
fn sender(puts: u32, compact_at: Option<i64>) -> World {
    let mut world = World::leading();
    world.propose(Payload::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 20 }));
    world.put_with_lease("leased", "1", 5);
    for number in 0..puts {
        world.put(&format!("key{}", number % 7), &"v".repeat(100));
        world.settle();
        if number == puts / 2 {
            world.core.ask_for_checkpoint();
            world.settle();
        }
    }
    if let Some(revision) = compact_at {
        world.propose(Payload::Compaction(CompactionRequest {
            revision,
            physical: false,
        }));
        world.put("after", "compaction");
        world.settle();
    }
    world
}

fn stream_of(world: &World) -> Vec<u8> {
    let mut sending = Sending::new(&Backend::new(world.core.apply()));
    let mut stream = Vec::new();
    loop {
        match sending.step().expect("undamaged") {
            SendStep::Read(_) => {}
            SendStep::Bytes(bytes) => stream.extend_from_slice(&bytes),
            SendStep::End => return stream,
        }
    }
}

/// A member that has nothing.
struct Receiver {
    disk: MemoryDisk,
    executor: checkpoint::Executor<MemoryDisk>,
}

impl Receiver {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let executor = checkpoint::Executor::new(Directory::new(disk.clone(), STATE.into()));
        Receiver { disk, executor }
    }

    fn begin(&self, named: LogIndex) -> Option<Receiving<MemoryDisk>> {
        Receiving::begin(&self.executor, named).expect("the disk works")
    }

    /// Takes a stream in, in pieces of so many bytes.
    fn take(&self, named: LogIndex, stream: &[u8], piece: usize) -> Result<Apply, ReceiveError> {
        let mut receiving = self.begin(named).expect("it is needed");
        for bytes in stream.chunks(piece) {
            if let Err(error) = receiving.input(bytes) {
                receiving.give_up().expect("the disk works");
                return Err(error);
            }
        }
        receiving.finish(local())
    }

    fn segments(&self) -> usize {
        let names = self.disk.list(Path::new(STATE)).unwrap_or_default();
        let segments = names
            .iter()
            .filter(|name| SegmentId::of_file_name(name).is_some());
        segments.count()
    }
}

fn local() -> Local {
    Local {
        member: MemberId(2),
        first_request: RequestId(1 << 48),
    }
}

#[test]
fn what_arrives_is_what_was_sent() {
    for (puts, compact_at) in [(0, None), (3, None), (60, None), (60, Some(40))] {
        let world = sender(puts, compact_at);
        let (sent, stream) = (world.core.apply(), stream_of(&world));
        for piece in [1, 1_000, stream.len()] {
            let receiver = Receiver::new();
            let state = receiver.take(sent.applied(), &stream, piece);
            let mut state = state.expect("a whole stream");
            assert_eq!(state.digest(), sent.digest(), "{puts} puts, {compact_at:?}");
            let hash = |apply: &Apply, at| apply.read_view().keys.hash_kv(at);
            for at in [0].into_iter().chain(compact_at) {
                let hashes = (hash(&state, at), hash(sent, at));
                assert_eq!(hashes.0.ok(), hashes.1.ok(), "of {at}, {compact_at:?}");
            }
            state.check_invariants();
            let is_new = checkpoint::receive(&receiver.executor, &mut state);
            assert!(is_new.expect("the disk works"));
            assert_eq!(receiver.segments(), state.files().len());
            let adopted = receiver.executor.run(checkpoint::Job::Adopt, |_| ());
            adopted.expect("the disk works");
            let again = receiver.begin(sent.applied());
            assert!(again.is_none(), "the same is not needed again");
            assert_eq!(receiver.segments(), state.files().len());
        }
    }
}

#[test]
fn what_was_not_wanted_makes_room_for_the_same() {
    let world = sender(60, None);
    let (named, stream) = (world.core.apply().applied(), stream_of(&world));
    let receiver = Receiver::new();
    for _ in 0..2 {
        let state = receiver.take(named, &stream, 4096);
        let mut state = state.expect("nobody has adopted the one before");
        let is_new = checkpoint::receive(&receiver.executor, &mut state);
        assert!(is_new.expect("the disk works"));
        assert_eq!(receiver.segments(), state.files().len());
    }
    assert!(receiver.begin(named).is_some());
    assert_eq!(receiver.segments(), 0, "it is gone");
}

#[test]
fn what_has_no_room_is_refused_and_leaves_nothing() {
    let world = sender(60, None);
    let (named, stream) = (world.core.apply().applied(), stream_of(&world));
    for (times, fits) in [(1, false), (4, true)] {
        let receiver = Receiver::new();
        // Of a small disk a quarter is kept.
        receiver.disk.set_total(stream.len() as u64 * times);
        let taken = receiver.take(named, &stream, 4096);
        assert_eq!(taken.is_ok(), fits, "{times} times its size");
        if let Err(error) = taken {
            assert!(error.is_no_room() && !error.is_of_own_disk(), "{error}");
            assert_eq!(receiver.segments(), 0, "{error}");
        }
    }
}

/// The room was there when it was asked for, and is gone when the file is made durable.
#[test]
fn what_has_no_room_any_more_is_refused_and_leaves_nothing() {
    let world = sender(60, None);
    let (named, stream) = (world.core.apply().applied(), stream_of(&world));
    let receiver = Receiver::new();
    for syncs in 0.. {
        receiver.disk.fill_up_after(syncs);
        let taken = receiver.take(named, &stream, 4096);
        if receiver.disk.has_room_after_all() {
            assert!(taken.is_ok() && syncs > 2, "after {syncs} syncs");
            break;
        }
        let error = taken.expect_err("it is full");
        assert!(error.is_no_room() && !error.is_of_own_disk(), "{error}");
        assert_eq!(receiver.segments(), 0, "after {syncs} syncs");
    }
}

#[test]
fn a_stream_that_is_cut_short_or_goes_on_is_refused_and_leaves_nothing() {
    let world = sender(20, None);
    let (named, stream) = (world.core.apply().applied(), stream_of(&world));
    let receiver = Receiver::new();
    for length in (0..stream.len()).step_by(17) {
        let taken = receiver.take(named, &stream[..length], 4096);
        let error = taken.err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the state is cut short"));
        assert_eq!(receiver.segments(), 0, "{length} bytes of {}", stream.len());
    }
    let longer = [&stream[..], b"x"].concat();
    assert!(receiver.take(named, &longer, 4096).is_err());
    assert_eq!(receiver.segments(), 0);
}

#[test]
fn every_wrong_byte_is_refused_and_leaves_nothing() {
    let world = sender(5, None);
    let (named, mut stream) = (world.core.apply().applied(), stream_of(&world));
    let receiver = Receiver::new();
    for at in 0..stream.len() {
        stream[at] ^= 1 << (at % 8);
        let taken = receiver.take(named, &stream, 4096);
        assert!(taken.is_err(), "byte {at} of {} is wrong", stream.len());
        assert_eq!(receiver.segments(), 0, "byte {at}");
        stream[at] ^= 1 << (at % 8);
    }
    let taken = receiver.take(LogIndex(named.0 + 1), &stream, 4096);
    assert!(taken.is_err(), "it is that of another entry");
    assert!(receiver.take(named, &stream, 4096).is_ok());
}

#[test]
fn what_an_interrupted_stream_left_does_not_stand_in_the_way() {
    let world = sender(60, None);
    let (named, stream) = (world.core.apply().applied(), stream_of(&world));
    let receiver = Receiver::new();
    let mut first = receiver.begin(named).expect("it is needed");
    first.input(&stream[..stream.len() / 2]).expect("undamaged");
    drop(first);
    assert!(receiver.segments() > 0, "nothing was left");
    assert!(receiver.take(named, &stream, 4096).is_ok());
}

#[test]
fn damage_of_the_sender_goes_no_further() {
    let world = sender(60, None);
    let names = world.disk.list(Path::new(STATE)).expect("it has files");
    let name = names
        .iter()
        .find(|name| SegmentId::of_file_name(name).is_some());
    let path = Path::new(STATE).join(name.expect("it has a segment"));
    // A mapped file is a copy here: the next start has the damaged one.
    let (disk, opened) = world.lose_power();
    disk.flip(&path, 40);
    let world = World::new(1, disk, opened);
    let mut sending = Sending::new(&Backend::new(world.core.apply()));
    let damaged = loop {
        match sending.step() {
            Ok(SendStep::End) => break false,
            Ok(_) => {}
            Err(_) => break true,
        }
    };
    assert!(damaged, "a damaged record was sent");
}
