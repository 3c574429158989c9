//! Long lists in chunks.

use std::fs;

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, Stream, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, RangeRequest,
    RangeResponse, RangeStreamResponse,
};

use crate::{begin, connect, put, refused};

const RANGE_STREAM: &str = "etcdserverpb.KV/RangeStream";
const RANGE: &str = "etcdserverpb.KV/Range";

on_each_server!(
    small_keys_come_in_growing_chunks,
    large_values_make_small_chunks,
    lists_that_cannot_be_streamed_are_refused,
    a_list_stays_at_the_revision_where_it_began,
);

fn all() -> RangeRequest {
    RangeRequest {
        key: "key-".into(),
        range_end: "key.".into(),
        ..RangeRequest::default()
    }
}

/// Writes keys, the first at revision 2.
async fn fill(connection: &Connection, keys: u32, value_bytes: usize) {
    let value = Bytes::from(vec![b'v'; value_bytes]);
    for number in 0..keys {
        put(connection, format!("key-{number:04}"), value.clone()).await;
    }
}

async fn chunk(stream: &mut Stream) -> Result<Option<RangeResponse>, Failure> {
    let message: Option<RangeStreamResponse> = stream.next().await?;
    Ok(message.map(|message| message.range_response.expect("a chunk")))
}

/// All chunks of a list; what only the last may have is missing in the others.
async fn chunks(connection: &Connection, request: &RangeRequest) -> Result<Chunks, Failure> {
    let mut stream = begin(connection, RANGE_STREAM, request).await;
    let mut chunks = Chunks::default();
    while let Some(chunk) = chunk(&mut stream).await? {
        assert!(chunks.last.is_none(), "a chunk behind the last one");
        chunks.sizes.push(chunk.kvs.len());
        if chunk.header.is_none() {
            assert_eq!((chunk.more, chunk.count), (false, 0), "not the last");
        } else {
            chunks.last = Some(chunk.clone());
        }
        for pair in chunk.kvs {
            assert!(chunks.keys.last() < Some(&pair.key), "out of order");
            chunks.keys.push(pair.key);
            chunks.value_bytes += pair.value.len();
        }
    }
    Ok(chunks)
}

#[derive(Default)]
struct Chunks {
    sizes: Vec<usize>,
    keys: Vec<Bytes>,
    value_bytes: usize,
    last: Option<RangeResponse>,
}

impl Chunks {
    /// `more`, `count` and revision of the header.
    fn end(&self) -> (bool, i64, i64) {
        let last = self.last.as_ref().expect("a last chunk");
        let header = last.header.as_ref().expect("header");
        assert_ne!(
            (header.cluster_id, header.member_id, header.raft_term),
            (0, 0, 0)
        );
        (last.more, last.count, header.revision)
    }
}

fn small_keys_come_in_growing_chunks(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let limited = |limit| RangeRequest { limit, ..all() };
    let counted = |limit| RangeRequest {
        count_only: true,
        ..limited(limit)
    };
    let empty = RangeRequest {
        key: "nothing".into(),
        ..RangeRequest::default()
    };
    let single = RangeRequest {
        key: "key-0007".into(),
        ..RangeRequest::default()
    };
    let earlier = |revision| RangeRequest { revision, ..all() };
    let cases: Vec<(RangeRequest, &[usize], (bool, i64))> = vec![
        (all(), &[10, 20, 40, 30], (false, 100)),
        (
            RangeRequest {
                serializable: true,
                ..all()
            },
            &[10, 20, 40, 30],
            (false, 100),
        ),
        (limited(5), &[5], (true, 100)),
        (limited(10), &[10], (true, 100)),
        (limited(12), &[10, 2], (true, 100)),
        (limited(30), &[10, 20], (true, 100)),
        (limited(99), &[10, 20, 40, 29], (true, 100)),
        (limited(100), &[10, 20, 40, 30], (false, 100)),
        (limited(1000), &[10, 20, 40, 30], (false, 100)),
        (counted(0), &[0], (false, 100)),
        (counted(3), &[0], (false, 100)),
        (empty, &[0], (false, 0)),
        (single, &[1], (false, 1)),
        (earlier(13), &[10, 2], (false, 12)),
        (earlier(11), &[10], (false, 10)),
        (earlier(1), &[0], (false, 0)),
    ];
    block_on(async {
        let connection = connect(&server).await;
        fill(&connection, 100, 10).await;
        for (request, sizes, (more, count)) in cases {
            let chunks = chunks(&connection, &request).await.expect("chunks");
            assert_eq!(chunks.sizes, sizes, "{request:?}");
            assert_eq!(chunks.end(), (more, count, 101), "{request:?}");
        }
        let bare = RangeRequest {
            keys_only: true,
            ..all()
        };
        let chunks = chunks(&connection, &bare).await.expect("chunks");
        assert_eq!((chunks.sizes.len(), chunks.keys.len()), (4, 100));
        assert_eq!(chunks.value_bytes, 0);
    });
}

fn large_values_make_small_chunks(subject: Subject) {
    let Some(server) = Server::start(subject, &["--max-request-bytes", "65536"]) else {
        return;
    };
    const VALUE_BYTES: usize = 16 << 10;
    block_on(async {
        let connection = connect(&server).await;
        // Ten values are more than twice a request; five are not, and stay.
        fill(&connection, 24, VALUE_BYTES).await;
        let chunks = chunks(&connection, &all()).await.expect("chunks");
        assert_eq!(chunks.sizes, [10, 5, 5, 4]);
        assert_eq!(chunks.end(), (false, 24, 25));
        assert_eq!(chunks.value_bytes, 24 * VALUE_BYTES);
    });
}

fn lists_that_cannot_be_streamed_are_refused(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let sorted = |target: SortTarget, order: SortOrder| RangeRequest {
        sort_target: target as i32,
        sort_order: order as i32,
        ..all()
    };
    let (none, up, down) = (SortOrder::None, SortOrder::Ascend, SortOrder::Descend);
    let order = || refused(12, "RangeStream does not support custom sort orders");
    let filter = || refused(12, "RangeStream does not support revision filters");
    let option = || refused(3, "etcdserver: invalid sort option");
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    let with = |change: &dyn Fn(&mut RangeRequest)| {
        let mut request = all();
        change(&mut request);
        request
    };
    let cases = vec![
        (sorted(SortTarget::Key, none), Ok(())),
        (sorted(SortTarget::Key, up), Ok(())),
        (sorted(SortTarget::Key, down), order()),
        // Without an order the target says nothing.
        (sorted(SortTarget::Mod, none), Ok(())),
        (sorted(SortTarget::Mod, up), order()),
        (sorted(SortTarget::Value, down), order()),
        (with(&|r| r.min_mod_revision = 2), filter()),
        (with(&|r| r.max_mod_revision = 2), filter()),
        (with(&|r| r.min_create_revision = 2), filter()),
        (with(&|r| r.max_create_revision = 2), filter()),
        (
            with(&|r| (r.min_mod_revision, r.sort_order) = (2, 2)),
            order(),
        ),
        (with(&|r| r.sort_order = 7), option()),
        (with(&|r| r.sort_target = 7), option()),
        (
            with(&|r| r.key = Bytes::new()),
            refused(3, "etcdserver: key is not provided"),
        ),
        (with(&|r| r.revision = 2), refused(11, compacted)),
        (with(&|r| r.revision = 3), Ok(())),
        (with(&|r| r.revision = 9), refused(11, future)),
    ];
    block_on(async {
        let connection = connect(&server).await;
        fill(&connection, 3, 10).await;
        let compact = CompactionRequest {
            revision: 3,
            physical: true,
        };
        let done = connection.call("etcdserverpb.KV/Compact", &compact).await;
        let _: CompactionResponse = done.expect("compact");
        for (request, expected) in cases {
            let told = chunks(&connection, &request).await.map(drop);
            assert_eq!(told, expected, "{request:?}");
        }
    });
}

/// Bytes that a server may send to a slow reader before they are read.
const SMALL_WINDOW: u32 = 65_535;
/// One value of the lists that slow readers ask for: more than that.
const LARGE_BYTES: usize = 128 << 10;

async fn slow_reader(server: &Server) -> (Connection, Stream) {
    let reader = Connection::open_with_window(server.port(), SMALL_WINDOW).await;
    let reader = reader.expect("connects");
    let mut stream = begin(&reader, RANGE_STREAM, &all()).await;
    let first = chunk(&mut stream).await.expect("a chunk");
    assert_eq!(first.expect("a chunk").kvs.len(), 10);
    (reader, stream)
}

fn a_list_stays_at_the_revision_where_it_began(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        const KEYS: u32 = 24;
        fill(&connection, KEYS, LARGE_BYTES).await;
        let (_reader, mut stream) = slow_reader(&server).await;
        let mut keys = 10;

        // What is left of the list changes under the eyes of its reader.
        let delete = DeleteRangeRequest {
            key: "key-0020".into(),
            range_end: "key-0022".into(),
            ..DeleteRangeRequest::default()
        };
        let deleted = connection.call("etcdserverpb.KV/DeleteRange", &delete);
        let deleted: DeleteRangeResponse = deleted.await.expect("delete");
        assert_eq!(deleted.deleted, 2);
        put(&connection, "key-0023", "short").await;
        put(&connection, "key-0024", "new").await;

        let began = i64::from(KEYS) + 1;
        let mut end = None;
        while let Some(chunk) = chunk(&mut stream).await.expect("a chunk") {
            for pair in &chunk.kvs {
                assert_eq!(pair.value.len(), LARGE_BYTES, "{:?}", pair.key);
                assert!(pair.mod_revision <= began, "{:?}", pair.key);
            }
            keys += chunk.kvs.len();
            end = chunk.header.map(|header| (header.revision, chunk.count));
        }
        assert_eq!(keys, KEYS as usize);
        assert_eq!(end, Some((began, i64::from(KEYS))));
    });
}

/// Memory of a process in bytes, without the files that it maps.
fn memory(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.expect("a size").trim().trim_end_matches(" kB");
    kibibytes.parse::<usize>().expect("a number") << 10
}

const READERS: usize = 8;
const READERS_KEYS: u32 = 160;
/// A reader that does not read costs its windows and a few chunks (3.5 MB have been seen), never its list of 20 MiB.
const READERS_BYTES_MAX: usize = READERS * LARGE_BYTES * READERS_KEYS as usize / 2;

/// Memory that a server takes while readers of the whole list wait, all of whom then get it.
async fn cost_of_readers(server: &Server, method: &str) -> usize {
    let connection = connect(server).await;
    fill(&connection, READERS_KEYS, LARGE_BYTES).await;
    let before = memory(server);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let reader = Connection::open_with_window(server.port(), SMALL_WINDOW).await;
        let reader = reader.expect("connects");
        let stream = begin(&reader, method, &all()).await;
        readers.push((reader, stream));
    }
    // The server has had time to send whatever it would.
    for number in 0..500 {
        put(&connection, "other", format!("{number}")).await;
    }
    let more = memory(server).saturating_sub(before);
    for (_, stream) in &mut readers {
        let mut pairs = 0;
        if method == RANGE_STREAM {
            while let Some(chunk) = chunk(stream).await.expect("a chunk") {
                pairs += chunk.kvs.len();
            }
        } else {
            let list: Option<RangeResponse> = stream.next().await.expect("a list");
            pairs += list.expect("a list").kvs.len();
        }
        assert_eq!(pairs, READERS_KEYS as usize);
    }
    more
}

#[test]
fn readers_that_do_not_read_cost_bounded_memory() {
    for method in [RANGE_STREAM, RANGE] {
        let server = Server::start(Subject::Kvorum, &[]).expect("ours is always there");
        let more = block_on(cost_of_readers(&server, method));
        assert!(
            more < READERS_BYTES_MAX,
            "{method}: {more} bytes more for {READERS} readers"
        );
    }
}
