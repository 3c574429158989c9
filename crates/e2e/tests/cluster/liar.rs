//! A peer that speaks the protocol and means no good: too long frames, rubbish, messages of somebody else.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

on_each_server!(a_peer_that_lies_harms_nobody);

/// Ids of the two true members, once they are known.
#[derive(Default)]
struct Truth {
    members: [AtomicU64; 2],
    told: AtomicUsize,
}

/// Types of raft messages.
const HEARTBEAT: u8 = 8;
pub(crate) const SNAPSHOT: u8 = 7;

/// A raft message with nothing more than its type demands, as the length and the message.
pub(crate) fn message(kind: u8, term: u64, from: u64, to: u64) -> Vec<u8> {
    let mut body = vec![0x08, kind];
    for (tag, value) in [(0x10, to), (0x18, from), (0x20, term)] {
        body.push(tag);
        varint(value, &mut body);
    }
    if kind == SNAPSHOT {
        // Its metadata: that of the first entry.
        body.extend([0x4a, 6, 0x12, 4, 0x10, 1, 0x18, 1]);
    }
    let mut frame = (body.len() as u64).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What comes on a stream, in turn.
fn lie(truth: &Truth, turn: usize) -> Vec<u8> {
    let [first, second] = truth
        .members
        .each_ref()
        .map(|id| id.load(Ordering::Relaxed));
    match turn % 7 {
        // Longer than anything.
        0 => u64::MAX.to_be_bytes().to_vec(),
        1 => [(1_u64 << 40).to_be_bytes().as_slice(), b"abc"].concat(),
        // No message.
        2 => [5_u64.to_be_bytes().as_slice(), b"\xff\xff\xff\xff\xff"].concat(),
        // Of another member, of nobody, to somebody else.
        3 => message(HEARTBEAT, 1, first, second),
        4 => message(HEARTBEAT, 1, 77, first),
        5 => message(HEARTBEAT, 1, first, 78),
        _ => b"\0\0\0".to_vec(),
    }
}

fn answer(mut stream: TcpStream, truth: &Truth) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let length = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    let body = if head.starts_with("GET /raft/stream/") {
        lie(truth, truth.told.fetch_add(1, Ordering::Relaxed))
    } else if head.starts_with("GET /version") {
        br#"{"etcdserver":"99.0.0","etcdcluster":"99.0.0"}"#.to_vec()
    } else {
        b"[{\"id\":1".to_vec()
    };
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\n\r\n",
    )?;
    stream.write_all(&body)
}

fn a_peer_that_lies_harms_nobody(subject: Subject) {
    let Some(mut cluster) = Cluster::prepare(&[subject; 3], &[]) else {
        return;
    };
    let truth = Arc::new(Truth::default());
    let liar = TcpListener::bind(("127.0.0.1", cluster.peer_port(2))).expect("the port is free");
    let told = Arc::clone(&truth);
    thread::spawn(move || {
        for stream in liar.incoming().map_while(Result::ok) {
            // Whoever hangs up hears nothing more.
            let _ = answer(stream, &told);
        }
    });
    for place in 0..2 {
        cluster.launch(place);
    }
    for place in 0..2 {
        cluster.wait_ready(place);
        let member = cluster.standing(place).expect("it answers").member;
        truth.members[place].store(member, Ordering::Relaxed);
    }
    let from = truth.told.load(Ordering::Relaxed);
    cluster.wait("all lies told", || {
        cluster.put("k", "v");
        (truth.told.load(Ordering::Relaxed) >= from + 28).then_some(())
    });
    cluster.same_hash();
    assert_eq!(cluster.endpoints().len(), 2);
    let health = cluster.must(&["endpoint", "health"]);
    assert!(!health.contains("unhealthy"), "{health}");
}
