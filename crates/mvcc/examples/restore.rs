//! How long a store takes to come back from its segments, and what its index costs in memory.
//!
//! `cargo run --release -p kvorum-mvcc --example restore -- KEYS` fills a store with so many pairs
//! of 64 + 256 bytes in an order that is not that of the keys, writes the segments to a temporary
//! directory in memory, and restores it beside the old one. A tool to measure with, not a test.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a tool that measures"
)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kvorum_mvcc::{Interval, Store, StoreJob};
use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::ids::LeaseId;
use kvorum_storage::segment::{MergeStep, SEGMENT_BYTES, Segment};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pairs put in one store revision.
const BATCH: usize = 100;

fn main() {
    let argument = std::env::args().nth(1);
    let keys: u64 = argument.map_or(1_000_000, |text| text.parse().expect("a number of keys"));
    let mut store = Store::new();
    store.set_segment_bytes(SEGMENT_BYTES);
    let mut segments: Vec<Segment> = Vec::new();

    let start = processor_time();
    fill(&mut store, keys, &mut segments);
    let took = processor_time() - start;
    println!("put {keys} keys, with segments: {took:.2?}");
    let files: u64 = segments.iter().map(Segment::file_bytes).sum();
    let grown = anonymous_bytes() - files as i64;
    let beside = grown / keys as i64 - 64;
    println!("with the active run: {grown} bytes, {beside} per key beside its 64 bytes");
    list(&store);

    let image = store.image();
    write(&mut store, &mut segments);
    // The old store stays, or its memory would be used again and not be seen to grow.
    let old = store;
    segments.sort_by_key(Segment::first);
    let before = anonymous_bytes();
    let start = processor_time();
    let store = Store::restore(&image, segments).expect("what was written opens");
    let took = processor_time() - start;
    let index = anonymous_bytes().saturating_sub(before);
    println!(
        "restored from {} segments: {took:.2?}",
        image.segments.len()
    );
    let beside = index / keys as i64 - 64;
    println!("index: {index} bytes, {beside} per key beside its 64 bytes");
    list(&store);
    drop(old);
}

fn fill(store: &mut Store, keys: u64, segments: &mut Vec<Segment>) {
    let value = [b'v'; 256];
    let mut number = 0;
    while number < keys {
        let mut txn = store.begin();
        for _ in 0..BATCH {
            // An odd factor: every number once, far from the one before.
            let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let key = format!(
                "/registry/pods/namespace-{:04}/{scattered:034x}",
                scattered >> 54
            );
            txn.put(&key.as_bytes()[..64], &value, LeaseId(0));
            number += 1;
        }
        txn.finish();
        write(store, segments);
    }
}

fn write(store: &mut Store, segments: &mut Vec<Segment>) {
    while let Some(StoreJob::Write(mut image)) = store.take_job() {
        let mut file = BytesMut::new();
        loop {
            match image.step(1 << 20).expect("undamaged") {
                MergeStep::Chunk(chunk) => file.extend_from_slice(&chunk),
                MergeStep::Last(chunk) => {
                    file.extend_from_slice(&chunk);
                    break;
                }
                MergeStep::Empty => return store.written(image.id(), None),
            }
        }
        // Without the room that the buffer grew ahead, so that files count for their length.
        let file = Bytes::copy_from_slice(&file);
        let segment = Segment::open(image.id(), file).expect("just made");
        segments.push(segment.clone());
        store.written(image.id(), Some(segment));
    }
}

fn list(store: &Store) {
    let view = store.view();
    let request = RangeRequest {
        key: Bytes::from_static(b"/registry/pods/namespace-0500"),
        range_end: Bytes::from_static(b"\0"),
        limit: 10_000,
        ..RangeRequest::default()
    };
    for keys_only in [false, true] {
        let request = RangeRequest {
            keys_only,
            ..request.clone()
        };
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let start = processor_time();
                let reply = view.range(&request).expect("readable");
                let bytes = reply.encode(None).len();
                (processor_time() - start, reply.records.len(), bytes)
            })
            .collect();
        times.sort();
        let (took, pairs, bytes) = times[times.len() / 2];
        println!("list of {pairs} (keys only: {keys_only}): {took:.2?}, {bytes} bytes");
    }
    let count = view.count(&Interval::all(), 0);
    println!("count: {count:?}");
}

/// Time on a processor so far: the machine may be busy with other things.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    let nanoseconds = text.split(' ').next().map(str::parse);
    Duration::from_nanos(nanoseconds.expect("a field").expect("a number"))
}

/// Anonymous memory of the process.
fn anonymous_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.map_or(0, |kib| kib.parse::<i64>().expect("a number") * 1024)
}
