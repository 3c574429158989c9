//! Valid files to begin with.

use bytes::Bytes;
use kvorum_proto::ids::{LogIndex, Term};
use kvorum_storage::bolt::{Sizer, Writer};
use kvorum_storage::checkpoint::{Listed, Manifest};
use kvorum_storage::segment::{Builder, Entry, Place, Segment, SegmentId};

/// The number of the segments.
pub(crate) const SEGMENT: SegmentId = SegmentId(3);

/// A segment with so many changes of some keys, deletes among them.
fn segment(changes: i64) -> Bytes {
    let mut builder = Builder::new(SEGMENT);
    for change in 0..changes {
        let key = format!("key/{}", change % 7);
        let is_put = change % 5 != 4;
        let mut encoded = vec![0x0a, key.len() as u8];
        encoded.extend_from_slice(key.as_bytes());
        if is_put {
            encoded.extend_from_slice(&[0x2a, 9]);
            encoded.extend_from_slice(b"the value");
        }
        builder.push(&Entry {
            place: Place {
                main: 2 + change / 2,
                sub: change % 2,
            },
            key: key.as_bytes(),
            create_revision: if is_put { 1 + change / 4 } else { 0 },
            version: if is_put { 1 + change / 7 } else { 0 },
            lease: if is_put { change % 3 } else { 0 },
            stored_bytes: encoded.len() as u32,
            frees_bytes: 7 * change as u64,
            encoded: &encoded,
        });
    }
    builder.finish()
}

pub(crate) fn segments() -> Vec<Vec<u8>> {
    [1, 8, 300].map(|changes| segment(changes).to_vec()).into()
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let open = |file| Segment::open(SEGMENT, file).ok();
    let listed = open(segment(8)).map(|segment| Listed::of(&segment));
    let manifest = |segments: Vec<Listed>, body: &'static [u8]| Manifest {
        index: LogIndex(77),
        term: Term(3),
        next_segment: SegmentId(9),
        segments,
        body: Bytes::from_static(body),
    };
    let mut second = listed.into_iter().collect::<Vec<_>>();
    for listed in second.clone() {
        let next = |place: Place| Place {
            main: place.main + 100,
            ..place
        };
        second.push(Listed {
            id: SegmentId(4),
            first: next(listed.first),
            last: next(listed.last),
            ..listed
        });
    }
    vec![
        manifest(Vec::new(), b"").encode(),
        manifest(second, b"everything else of the state").encode(),
    ]
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A database with a bucket of so many pairs and one that fits into its entry.
fn database(pairs: u64) -> Option<Vec<u8>> {
    let many = (0..pairs).map(|number| {
        let key = number.to_be_bytes().to_vec();
        (key, vec![number as u8; 300])
    });
    let few: Pairs = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), Vec::new())];
    let buckets: [(&[u8], Pairs); 2] = [(b"key", many.collect()), (b"meta", few)];
    let mut sizer = Sizer::new();
    for (name, pairs) in &buckets {
        sizer.bucket(name).ok()?;
        for (key, value) in pairs {
            sizer.pair(key.len(), value.len()).ok()?;
        }
    }
    let mut writer = Writer::new(Vec::new(), sizer.finish().ok()?).ok()?;
    for (name, pairs) in &buckets {
        writer.bucket(name).ok()?;
        for (key, value) in pairs {
            writer.pair(key, value).ok()?;
        }
    }
    writer.finish().ok()
}

pub(crate) fn databases() -> Vec<Vec<u8>> {
    [1, 40].into_iter().filter_map(database).collect()
}
