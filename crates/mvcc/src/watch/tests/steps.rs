//! What can happen to a hub, drawn at random.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::WatchCreateRequest;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::world::Change;

const KEYS: [&str; 6] = ["a", "b", "ba", "c", "d", "e"];
/// How many streams are open at a time at most.
pub(super) const STREAMS: u64 = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Open {
        stream: u64,
        window: usize,
        requires_leader: bool,
    },
    Close {
        stream: u64,
    },
    Create {
        stream: u64,
        request: WatchCreateRequest,
        start_back: i64,
    },
    Cancel {
        stream: u64,
        watch_id: i64,
    },
    Progress {
        stream: u64,
    },
    Read {
        stream: u64,
        messages: usize,
    },
    Change {
        changes: Vec<Change>,
        heard: bool,
    },
    Compact {
        back: i64,
    },
    Poll {
        budget: usize,
    },
    Time {
        seconds: u64,
    },
    Leader {
        has_leader: bool,
    },
}

/// Anything that can happen, in a fit mixture.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    prop_oneof![
        2 => (stream.clone(), 1..6_usize, any::<bool>()).prop_map(
            |(stream, window, requires_leader)| Step::Open { stream, window, requires_leader }
        ),
        1 => stream.clone().prop_map(|stream| Step::Close { stream }),
        5 => (stream.clone(), request(), -3..12_i64).prop_map(
            |(stream, request, start_back)| Step::Create { stream, request, start_back }
        ),
        2 => (stream.clone(), 0..5_i64)
            .prop_map(|(stream, watch_id)| Step::Cancel { stream, watch_id }),
        3 => stream.clone().prop_map(|stream| Step::Progress { stream }),
        6 => (stream, 1..8_usize).prop_map(|(stream, messages)| Step::Read { stream, messages }),
        12 => (vec(change(), 1..4), prop_oneof![9 => Just(true), 1 => Just(false)])
            .prop_map(|(changes, heard)| Step::Change { changes, heard }),
        1 => (0..8_i64).prop_map(|back| Step::Compact { back }),
        5 => (1..6_usize).prop_map(|budget| Step::Poll { budget }),
        2 => (1..150_u64).prop_map(|seconds| Step::Time { seconds }),
        1 => any::<bool>().prop_map(|has_leader| Step::Leader { has_leader }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    // Some values are so large that two of them need fragments.
    let value = prop_oneof![9 => 0..9_usize, 1 => Just(300_000)];
    let put = (0..KEYS.len(), value)
        .prop_map(|(key, length)| Change::Put(KEYS[key].to_owned(), "v".repeat(length)));
    let delete = (0..KEYS.len()).prop_map(|key| Change::Delete(KEYS[key].to_owned()));
    prop_oneof![2 => put, 1 => delete]
}

fn request() -> impl Strategy<Value = WatchCreateRequest> {
    let end = prop_oneof![Just(""), Just("\0"), Just("b"), Just("c"), Just("cc")];
    let filters = prop_oneof![3 => Just(vec![]), 1 => Just(vec![0]), 1 => Just(vec![1])];
    let id = prop_oneof![3 => Just(0), 1 => 1..5_i64];
    let marks = (any::<bool>(), any::<bool>(), any::<bool>());
    (0..KEYS.len(), end, filters, id, marks).prop_map(
        |(key, end, filters, watch_id, (prev_kv, progress_notify, fragment))| WatchCreateRequest {
            key: Bytes::from_static(KEYS[key].as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            filters,
            watch_id,
            prev_kv,
            progress_notify,
            fragment,
            start_revision: 0,
        },
    )
}
