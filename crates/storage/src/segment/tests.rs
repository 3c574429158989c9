//! Segments against a plain list of changes, and damage in every byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A change as a test writes it.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    place: Place,
    key: Vec<u8>,
    row: KeyRow,
    frees_bytes: u64,
    encoded: Vec<u8>,
}

impl Change {
    fn new(place: Place, key: &[u8], version: i64, value: &[u8], frees_bytes: u64) -> Self {
        let mut encoded = Vec::new();
        if !key.is_empty() {
            prost::encoding::bytes::encode(1, &key.to_vec(), &mut encoded);
        }
        encoded.extend_from_slice(value);
        let row = KeyRow {
            place,
            create_revision: if version == 0 { 0 } else { place.main },
            version,
            lease: if version == 0 { 0 } else { -version },
            stored_bytes: encoded.len() as u32,
        };
        Change {
            place,
            key: key.to_vec(),
            row,
            frees_bytes,
            encoded,
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            place: self.place,
            key: &self.key,
            create_revision: self.row.create_revision,
            version: self.row.version,
            lease: self.row.lease,
            stored_bytes: self.row.stored_bytes,
            frees_bytes: self.frees_bytes,
            encoded: &self.encoded,
        }
    }
}

fn build(id: u64, changes: &[Change]) -> Bytes {
    let mut builder = Builder::new(SegmentId(id));
    for change in changes {
        builder.push(&change.entry());
    }
    builder.finish()
}

fn open(id: u64, changes: &[Change]) -> Segment {
    Segment::open(SegmentId(id), build(id, changes)).unwrap()
}

/// The same bytes, taken after every so many changes.
fn build_in_pieces(id: u64, changes: &[Change], every: usize) -> Vec<u8> {
    let mut builder = Builder::new(SegmentId(id));
    let mut bytes = Vec::new();
    for changes in changes.chunks(every) {
        for change in changes {
            builder.push(&change.entry());
        }
        bytes.extend_from_slice(&builder.take());
    }
    bytes.extend_from_slice(&builder.finish());
    bytes
}

fn stored(change: &Change) -> Stored {
    Stored {
        place: change.place,
        frees_bytes: change.frees_bytes,
        encoded: change.encoded.clone().into(),
    }
}

/// Everything a segment says is what the list of changes says.
fn check(segment: &Segment, changes: &[Change]) {
    assert_eq!(segment.changes(), changes.len());
    assert_eq!(segment.first(), changes[0].place);
    assert_eq!(segment.last(), changes[changes.len() - 1].place);
    let all: Vec<Stored> = segment.from(Place::default()).map(Result::unwrap).collect();
    assert_eq!(all, changes.iter().map(stored).collect::<Vec<_>>());
    for change in changes {
        let Place { main, sub } = change.place;
        for place in [(main, sub), (main, sub + 1), (main - 1, sub), (main + 1, 0)] {
            let (main, sub) = place;
            let place = Place { main, sub };
            let expected = changes
                .iter()
                .find(|change| change.place == place)
                .map(stored);
            assert_eq!(segment.find(place).unwrap(), expected, "at {main}.{sub}");
            let bound = changes.partition_point(|change| change.place < place);
            assert_eq!(segment.lower_bound(place), bound, "bound of {main}.{sub}");
        }
    }
    let (first, last) = (segment.first().main, segment.last().main);
    for (from, to) in [
        (0, i64::MAX),
        (first + 1, last - 1),
        (first, first),
        (last, last),
    ] {
        let inside = changes
            .iter()
            .filter(|c| (from..=to).contains(&c.place.main));
        let sum: u64 = inside.map(|change| change.frees_bytes).sum();
        assert_eq!(
            segment.frees_bytes(from..=to).unwrap(),
            sum,
            "{from} to {to}"
        );
    }
    let mut sorted: BTreeMap<(&[u8], Place), KeyRow> = BTreeMap::new();
    for change in changes {
        sorted.insert((&change.key, change.place), change.row);
    }
    let mut keys = segment.keys();
    for ((key, _), expected) in sorted {
        let row = keys.advance().unwrap();
        assert_eq!((keys.key(), row), (key, Some(expected)));
    }
    assert_eq!(keys.advance().unwrap(), None);
    let stored_bytes: u64 = changes.iter().map(|c| u64::from(c.row.stored_bytes)).sum();
    assert_eq!(segment.stored_bytes(), stored_bytes);
}

/// Histories with gaps, requests of several changes and tombstones; values from empty to large.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (
        prop_oneof![5 => Just(1_i64), 2 => Just(0), 1 => 2..100_000_i64],
        proptest::collection::vec(0..3_u8, 0..5),
        0..4_i64,
        proptest::collection::vec(any::<u8>(), 0..40),
        prop_oneof![0..1000_u64, Just(u64::from(u32::MAX) + 7)],
    );
    proptest::collection::vec(change, 1..300).prop_map(|steps| {
        let mut place = Place { main: 1, sub: 0 };
        let mut changes = Vec::new();
        for (gap, key, version, value, frees_bytes) in steps {
            place = match gap {
                0 => Place {
                    sub: place.sub + 1,
                    ..place
                },
                _ => Place {
                    main: place.main + gap,
                    sub: 0,
                },
            };
            changes.push(Change::new(place, &key, version, &value, frees_bytes));
        }
        changes
    })
}

fn small() -> Vec<Change> {
    let at = |main, sub| Place { main, sub };
    vec![
        Change::new(at(2, 0), b"key/a", 1, b"\x2a\x01x", 0),
        Change::new(at(3, 0), b"key/b", 1, b"\x2a\x01y", 0),
        Change::new(at(3, 1), b"key/a", 0, b"", 90),
        Change::new(at(9, 0), b"key/a", 3, b"\x2a\x03zzz", 7),
    ]
}

proptest! {
    #[test]
    fn a_segment_is_its_list_of_changes(changes in changes()) {
        check(&open(3, &changes), &changes);
    }

    #[test]
    fn a_segment_is_the_same_however_it_is_taken(changes in changes(), every in 1..50_usize) {
        prop_assert_eq!(build_in_pieces(3, &changes, every), build(3, &changes));
    }

    #[test]
    fn a_merge_is_what_is_kept_of_its_sources(
        changes in changes(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        kept in any::<u64>(),
        budget in prop_oneof![Just(0_usize), 1..4000_usize],
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(changes.len())).collect();
        cuts.extend([0, changes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let runs = cuts.windows(2).enumerate();
        let sources: Vec<Segment> =
            runs.map(|(id, run)| open(id as u64, &changes[run[0]..run[1]])).collect();
        let keeps = |place: Place| kept >> ((place.main + place.sub) % 64) & 1 == 1;
        let mut merge = Merge::new(SegmentId(77), sources);
        let mut file = Vec::new();
        let merged = loop {
            match merge.step(budget, keeps).unwrap() {
                MergeStep::Chunk(bytes) => file.extend_from_slice(&bytes),
                MergeStep::Last(bytes) => {
                    file.extend_from_slice(&bytes);
                    break Some(Segment::open(SegmentId(77), file.clone().into()).unwrap());
                }
                MergeStep::Empty => break None,
            }
        };
        let left: Vec<Change> =
            changes.iter().filter(|change| keeps(change.place)).cloned().collect();
        match merged {
            Some(merged) => {
                check(&merged, &left);
                // A file does not depend on how it was made.
                prop_assert_eq!(&file[..], &build(77, &left)[..]);
            }
            None => prop_assert!(left.is_empty()),
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        changes in changes(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        sealed in any::<bool>(),
    ) {
        let mut file = build(3, &changes).to_vec();
        for (at, byte) in &edits {
            let at = at.index(file.len());
            file[at] = *byte;
        }
        if sealed {
            // With a right checksum the damage gets past the first door.
            seal(&mut file);
        }
        if let Ok(segment) = Segment::open(SegmentId(3), file.into()) {
            for row in 0..segment.changes() {
                let _ = segment.at(row);
                let _ = segment.find(segment.place(row));
            }
            let _ = segment.frees_bytes(0..=i64::MAX);
            let mut keys = segment.keys();
            while let Ok(Some(_)) = keys.advance() {}
        }
    }
}

/// Writes the checksum that the tables of a file ask for.
fn seal(file: &mut [u8]) {
    let end = file.len() - 12;
    let mut offset = [0; 8];
    offset.copy_from_slice(&file[end - 24..end - 16]);
    let offset = u64::from_le_bytes(offset).min(end as u64) as usize;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&file[..24]), &file[offset..end]);
    file[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Whether damage shows when a file is opened or its changes are read, before any is served wrong.
fn is_noticed(file: Vec<u8>, changes: &[Change]) -> bool {
    let Ok(segment) = Segment::open(SegmentId(3), file.into()) else {
        return true;
    };
    let mut noticed = false;
    for change in changes {
        match segment.find(change.place) {
            Ok(found) => assert_eq!(found, Some(stored(change)), "damage is never served"),
            Err(_) => noticed = true,
        }
    }
    noticed
}

#[test]
fn every_flipped_bit_is_noticed() {
    let changes = small();
    let file = build(3, &changes);
    assert!(!is_noticed(file.to_vec(), &changes));
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(is_noticed(damaged, &changes), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_cut_and_every_extension_is_noticed() {
    let changes = small();
    let file = build(3, &changes);
    for length in 0..file.len() {
        let cut = file.slice(..length);
        Segment::open(SegmentId(3), cut).expect_err("a cut file is refused");
    }
    let mut longer = file.to_vec();
    longer.push(0);
    Segment::open(SegmentId(3), longer.into()).expect_err("a longer file is refused");
}

#[test]
fn damage_after_the_file_was_opened_is_found_by_the_merge() {
    let changes = small();
    let mut segment = open(3, &changes);
    let mut file = build(3, &changes).to_vec();
    // The last byte of the key table: nothing else looks at it again.
    let at = file.len() - 45;
    file[at] ^= 1;
    segment.replace_bytes(file.into());
    let mut merge = Merge::new(SegmentId(4), vec![segment]);
    let error = loop {
        match merge.step(1 << 20, |_| true) {
            Ok(MergeStep::Chunk(_)) => {}
            other => break other.expect_err("the copy must not hide damage"),
        }
    };
    assert!(matches!(
        error.fault,
        Fault::TableChecksum { .. } | Fault::KeyTable
    ));
}

#[test]
fn refusals_name_file_and_offset() {
    let file = build(3, &small());
    let with = |at: usize, byte: u8| {
        let mut file = file.to_vec();
        file[at] = byte;
        Segment::open(SegmentId(3), file.into())
            .unwrap_err()
            .to_string()
    };
    for (error, expected) in [
        (with(0, 0), "at offset 0: not a segment file"),
        (
            with(8, 9),
            "at offset 8: format version 9 is newer than 1, the newest known",
        ),
        (with(16, 4), "at offset 16: the file holds segment 4"),
    ] {
        let expected = format!("segment 0000000000000003.seg: damaged {expected}");
        assert_eq!(error, expected);
    }
    let mut damaged = file.to_vec();
    damaged[24 + 6] ^= 0x40;
    let segment = Segment::open(SegmentId(3), damaged.into()).unwrap();
    let error = segment.at(0).unwrap_err();
    assert_eq!(error.offset, 24);
    assert!(
        error
            .to_string()
            .contains("checksum of the change at 2.0 is")
    );
}

#[test]
fn file_names_are_numbers_in_sixteen_digits() {
    for id in [0, 1, 0xabc, u64::MAX] {
        let id = SegmentId(id);
        assert_eq!(SegmentId::of_file_name(&id.file_name()), Some(id));
    }
    for name in [
        "manifest",
        "1.seg",
        "00000000000000AB.seg",
        "+000000000000001.seg",
        ".seg",
    ] {
        assert_eq!(SegmentId::of_file_name(name), None, "{name}");
    }
}

/// Scrubs a segment in steps of so many bytes; returns what it read.
fn scrub(segment: &Segment, step_bytes: usize) -> Result<usize, Damage> {
    let mut scrub = Scrub::new(segment.clone());
    let mut read = 0;
    loop {
        let (bytes, is_done) = scrub.step(step_bytes)?;
        read += bytes;
        if is_done {
            return Ok(read);
        }
    }
}

#[test]
fn a_scrub_finds_every_bit_that_flips_after_the_file_was_opened() {
    let changes = small();
    let whole = build(3, &changes);
    let mut segment = open(3, &changes);
    for step_bytes in [0, 1, 7, usize::MAX] {
        let read = scrub(&segment, step_bytes).expect("nothing is damaged");
        assert!(read > whole.len() / 2, "{read} of {}", whole.len());
    }
    for bit in 0..whole.len() * 8 {
        let mut file = whole.to_vec();
        file[bit / 8] ^= 1 << (bit % 8);
        segment.replace_bytes(file.into());
        let damage = scrub(&segment, 40).expect_err("a flipped bit");
        assert_eq!(damage.segment, SegmentId(3), "bit {bit}");
    }
}

#[test]
fn a_row_that_is_damaged_after_opening_hides_no_change() {
    let changes = small();
    let whole = build(3, &changes);
    let mut segment = open(3, &changes);
    let trailer = whole.len() - 44;
    let offset = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&whole[trailer + at..trailer + at + 8]);
        u64::from_le_bytes(number) as usize
    };
    let rows = offset(8)..offset(8) + changes.len() * 16;
    let mut noticed = 0;
    for bit in rows.start * 8..rows.end * 8 {
        let mut file = whole.to_vec();
        file[bit / 8] ^= 1 << (bit % 8);
        segment.replace_bytes(file.into());
        for (number, change) in changes.iter().enumerate() {
            let found: Result<Vec<_>, _> = segment.from(change.place).collect();
            let wanted: Vec<_> = changes[number..].iter().map(stored).collect();
            match found {
                Ok(found) => assert_eq!(found, wanted, "bit {bit} from change {number}"),
                Err(_) => noticed += 1,
            }
        }
    }
    assert!(noticed > 0);
}

#[test]
fn a_walk_asks_ahead_within_the_file_wherever_it_begins() {
    let value = [7; 3000];
    let changes: Vec<Change> = (1..=1000)
        .map(|main| Change::new(Place { main, sub: 0 }, b"key", 1, &value, 0))
        .collect();
    let segment = open(5, &changes);
    for first in [0, 1, 500, 999] {
        let (mut ahead, mut asked) = (Ahead::default(), 0);
        for row in first..changes.len() {
            let before = ahead;
            ahead.reach(&segment, row);
            asked += u64::from(before != ahead);
        }
        // 3 MB in pieces of 256 to 512 KiB.
        let walked = (changes.len() - first) as u64 * 3000;
        assert!(
            (1..=walked / (256 << 10) + 1).contains(&asked),
            "{first}: {asked}"
        );
    }
}
