//! The whole state of the member as etcd's database file, sent at the pace of its reader.
//!
//! The state is taken once, from the apply machine between two inputs; writes go on beside it. A thread
//! walks it twice, to learn the length of the file and to make its bytes. It is a thread of its own, of
//! low priority, because requests that share one with it would wait for its steps; what it made is
//! written to the socket by the connection meanwhile. It never makes more than the stream has room for
//! and then waits to be told of new room, so a reader that does not read costs the queue of a stream, some
//! chunks and a page per level of a tree. It rests between its steps while somebody writes. What it pins of
//! the state is let go when the file is sent, when the caller goes away, and when the caller takes too long:
//! see [`STALL_MAX`] and [`TRANSFER_MAX`].

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kvorum_member::apply::RequestError;
use kvorum_member::backend::{Backend, BackendError, Encoding, Sizing};
use kvorum_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use kvorum_storage::bolt::{Layout, WriteError};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use super::{Api, decode, status};
use crate::runtime::{Courtesy, lower_priority};
use crate::transport::completion;
use crate::transport::{Body, Code, Credit, RequestStream, Status, StreamSink};

/// Length of the pieces of the file, in bytes; the last one may be shorter.
///
/// Source: etcd v3.7.1, `server/etcdserver/api/v3rpc/maintenance.go` (`snapshotSendBufferSize`).
const BLOB_BYTES: usize = 32 * 1024;
/// Bytes that are made at once and given away as pieces, while somebody writes.
const CHUNK_BYTES: usize = 4 * BLOB_BYTES;
/// The same while nobody writes: the connection and its reader are woken once for each chunk.
const LARGE_CHUNK_BYTES: usize = 2 * CHUNK_BYTES;
/// Bytes from which on chunks are hashed, in one go: the thread that does it is woken so much more rarely. As many may
/// wait for it.
const HASHED_TOGETHER_BYTES: usize = 4 * CHUNK_BYTES;
/// Number of the field of a [`SnapshotResponse`] that holds the piece.
const BLOB_FIELD: u32 = 3;
/// Tag and length of a field take at most so many bytes.
const FIELD_HEAD_BYTES: usize = 6;
/// Pairs of which the lengths are looked at before it is asked whether anybody reads.
const SIZED_ITEMS_MAX: usize = 1024;
/// How long a reader may take for half of what waits for it
/// ([`STREAM_QUEUED_BYTES_MAX`](crate::transport::STREAM_QUEUED_BYTES_MAX)).
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long a reader may take for the whole file. What was overwritten and compacted meanwhile stays
/// in memory for it.
const TRANSFER_MAX: Duration = Duration::from_secs(60 * 60);
/// Pause between two looks at a stream of which nothing is heard any more.
const SILENCE: Duration = Duration::from_millis(10);
/// Snapshots that are sent at the same time; a further one is refused.
pub(super) const AT_ONCE_MAX: usize = 16;

/// One call.
pub(super) struct SnapshotStream {
    api: Arc<Api>,
    replies: StreamSink,
    requested: bool,
    /// Rung when the stream has room again, and when it is over. One ring waits until it is heard.
    bell: SyncSender<()>,
    heard: Option<Receiver<()>>,
}

impl SnapshotStream {
    pub(super) fn new(api: &Arc<Api>, replies: StreamSink) -> Self {
        let (bell, heard) = sync_channel(1);
        Self {
            api: Arc::clone(api),
            replies,
            requested: false,
            bell,
            heard: Some(heard),
        }
    }

    fn ring(&self) {
        // Full: it was rung and not heard yet.
        let _ = self.bell.try_send(());
    }
}

impl RequestStream for SnapshotStream {
    fn message(&mut self, message: Bytes, _credit: Credit) {
        match decode::<SnapshotRequest>(message) {
            Ok(SnapshotRequest {}) => self.requested = true,
            Err(malformed) => self.replies.finish(Err(malformed)),
        }
    }

    fn finished(&mut self) {
        if !std::mem::take(&mut self.requested) {
            return;
        }
        let Some(heard) = self.heard.take() else {
            return;
        };
        let Ok(permit) = Arc::clone(&self.api.snapshots).try_acquire_owned() else {
            let refused = status(RequestError::TooManyRequests);
            return self.replies.finish(Err(refused));
        };
        let reader = Reader {
            replies: self.replies.clone(),
            wait: move |longest: Duration| {
                // With the stream its bell is gone; a moment later it counts as closed.
                if heard.recv_timeout(longest) == Err(RecvTimeoutError::Disconnected) {
                    std::thread::sleep(longest.min(SILENCE));
                }
            },
            stall_max: STALL_MAX,
            end: Instant::now() + TRANSFER_MAX,
            courtesy: Courtesy::new(&self.api.metrics),
        };
        let api = Arc::clone(&self.api);
        let started = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                lower_priority();
                serve(&api, reader, permit);
            });
        if let Err(error) = started {
            self.replies.finish(Err(no_thread(&error)));
        }
    }

    fn room(&mut self) {
        self.ring();
    }

    fn closed(&mut self) {
        self.ring();
    }
}

/// Why a file is not sent to its end.
#[derive(Debug)]
enum Halt {
    /// Nobody reads any more.
    Gone,
    /// The reader is told.
    Failed(Status),
}

impl From<BackendError> for Halt {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Write(error) => error.into(),
            BackendError::Damaged(damage) => Self::Failed(status(damage.into())),
        }
    }
}

impl From<WriteError> for Halt {
    fn from(error: WriteError) -> Self {
        let text = format!("etcdserver: the state does not fit into a database file: {error}");
        Self::Failed(Status::new(Code::Internal, text))
    }
}

fn serve(api: &Api, mut reader: Reader<impl FnMut(Duration)>, permit: OwnedSemaphorePermit) {
    let started = Instant::now();
    let (give, taken) = mpsc::channel();
    api.member.inspect(move |core, _| {
        // Whoever asked may be gone already.
        let _ = give.send(Backend::new(core.apply()));
    });
    let sent = match taken.recv() {
        Ok(backend) => send(&backend, &mut reader),
        Err(_) => Err(Halt::Failed(status(RequestError::Stopped))),
    };
    // Given back before the caller hears of the end, so that it may call again at once.
    drop(permit);
    let took = started.elapsed();
    api.metrics.backend_snapshot.observe_duration(took);
    match sent {
        Ok(total_bytes) => {
            info!(total_bytes, took = %format_args!("{took:?}"), "successfully sent database snapshot to client");
            reader.replies.finish(Ok(()));
        }
        Err(Halt::Gone) => {
            info!(took = %format_args!("{took:?}"), "the client went away before it had the whole snapshot");
        }
        Err(Halt::Failed(failure)) => {
            warn!(took = %format_args!("{took:?}"), error = failure.message(), "failed to send database snapshot to client");
            reader.replies.finish(Err(failure));
        }
    }
}

/// Sends the file and the hash of its bytes; returns its length in bytes.
fn send(backend: &Backend, reader: &mut Reader<impl FnMut(Duration)>) -> Result<u64, Halt> {
    let layout = measure(backend, reader)?;
    let (total_bytes, version) = (layout.file_bytes(), backend.version());
    info!(
        total_bytes,
        storage_version = version,
        revision = backend.revision(),
        "sending database snapshot to client"
    );
    let mut remaining_bytes = total_bytes;
    let mut hash = Hashing::start()?;
    let buffers = Arc::new(Buffers::default());
    let mut encoding = Encoding::new(backend, layout)?;
    let mut chunk_bytes = CHUNK_BYTES;
    loop {
        reader.room()?;
        let Some(chunk) = encoding.blob_for(chunk_bytes, buffers.take())? else {
            break;
        };
        let mut chunk = buffers.lend(chunk);
        hash.update(&chunk);
        completion::together(|| {
            while !chunk.is_empty() {
                let blob = chunk.split_to(chunk.len().min(BLOB_BYTES));
                remaining_bytes -= blob.len() as u64;
                reader
                    .replies
                    .send(message(remaining_bytes, &version, blob));
            }
        });
        let is_writing = reader.courtesy.rest();
        chunk_bytes = if is_writing {
            CHUNK_BYTES
        } else {
            LARGE_CHUNK_BYTES
        };
    }
    let trailer = Bytes::copy_from_slice(&hash.finish()?);
    reader.replies.send(message(0, &version, trailer));
    Ok(total_bytes)
}

/// A [`SnapshotResponse`] with the blob behind all else, where it is sent from without being copied.
fn message(remaining_bytes: u64, version: &str, blob: Bytes) -> Body {
    let front = SnapshotResponse {
        header: None,
        remaining_bytes,
        blob: Bytes::new(),
        version: version.to_owned(),
    };
    let write = |buffer: &mut BytesMut| {
        front.encode_raw(buffer);
        encode_key(BLOB_FIELD, WireType::LengthDelimited, buffer);
        encode_varint(blob.len() as u64, buffer);
    };
    Body::encode_before(front.encoded_len() + FIELD_HEAD_BYTES, write, blob.clone())
}

/// Memory of chunks that were sent. To use it again costs less than to ask the operating system for new one with each
/// chunk, which comes page by page.
#[derive(Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u8> {
        self.lock().pop().unwrap_or_default()
    }

    /// The bytes, whose memory comes back when they are sent and hashed.
    fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        let home = Arc::clone(self);
        Bytes::from_owner(Lent { bytes, home })
    }
}

struct Lent {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.lock().push(std::mem::take(&mut self.bytes));
    }
}

/// The hash of the file, made by a thread beside the one that makes the file: it takes as long as all else together.
struct Hashing {
    /// Not given to the thread yet.
    chunks: Vec<Bytes>,
    give: SyncSender<Vec<Bytes>>,
    thread: JoinHandle<Digest>,
}

type Digest = [u8; 32];

impl Hashing {
    fn start() -> Result<Self, Halt> {
        let (give, given) = sync_channel::<Vec<Bytes>>(1);
        let thread = std::thread::Builder::new().name("snapshot-hash".to_owned());
        let thread = thread.spawn(move || {
            lower_priority();
            let mut hash = Sha256::new();
            for chunks in given {
                chunks.iter().for_each(|chunk| hash.update(chunk));
            }
            hash.finalize().into()
        });
        Ok(Self {
            chunks: Vec::new(),
            give,
            thread: thread.map_err(|error| Halt::Failed(no_thread(&error)))?,
        })
    }

    /// Takes the next bytes of the file; waits while the thread is far behind.
    fn update(&mut self, chunk: &Bytes) {
        self.chunks.push(chunk.clone());
        if self.chunks.iter().map(Bytes::len).sum::<usize>() >= HASHED_TOGETHER_BYTES {
            self.give();
        }
    }

    fn give(&mut self) {
        // A thread that is gone has panicked, which ends the process.
        let _ = self.give.send(std::mem::take(&mut self.chunks));
    }

    fn finish(mut self) -> Result<Digest, Halt> {
        self.give();
        drop(self.give);
        let lost = || {
            Status::new(
                Code::Internal,
                "etcdserver: the snapshot has no hash".to_owned(),
            )
        };
        self.thread.join().map_err(|_| Halt::Failed(lost()))
    }
}

fn no_thread(error: &io::Error) -> Status {
    let text = format!("etcdserver: no thread for the snapshot: {error}");
    Status::new(Code::Unavailable, text)
}

fn measure(backend: &Backend, reader: &mut Reader<impl FnMut(Duration)>) -> Result<Layout, Halt> {
    let mut sizing = Sizing::new(backend);
    while sizing.step(SIZED_ITEMS_MAX)? {
        if reader.replies.is_closed() {
            return Err(Halt::Gone);
        }
        reader.courtesy.rest();
    }
    Ok(sizing.finish()?)
}

/// Who reads, and how slowly they may.
struct Reader<W> {
    replies: StreamSink,
    /// Waits until there may be room, or as long as it is told. What was rung before is still heard.
    wait: W,
    stall_max: Duration,
    end: Instant,
    /// Those who write go first.
    courtesy: Courtesy,
}

impl<W: FnMut(Duration)> Reader<W> {
    /// Returns when the stream takes something.
    fn room(&mut self) -> Result<(), Halt> {
        let patience = Instant::now() + self.stall_max;
        loop {
            if self.replies.is_closed() {
                return Err(Halt::Gone);
            }
            let now = Instant::now();
            if now >= self.end {
                return Err(too_slow("the whole snapshot", TRANSFER_MAX));
            }
            if !self.replies.room().is_empty() {
                return Ok(());
            }
            if now >= patience {
                return Err(too_slow("what was sent", self.stall_max));
            }
            (self.wait)(patience.min(self.end) - now);
        }
    }
}

fn too_slow(what: &str, limit: Duration) -> Halt {
    let seconds = limit.as_secs();
    let text =
        format!("etcdserver: snapshot given up: the client did not read {what} in {seconds} s");
    Halt::Failed(Status::new(Code::Unavailable, text))
}

#[cfg(test)]
mod tests {
    use kvorum_member::apply::{Apply, Input, Local};
    use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
    use kvorum_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
    use kvorum_proto::ids::{MemberId, RequestId};
    use kvorum_proto::raftpb;

    use super::*;
    use crate::metrics::Metrics;
    use crate::transport::{STREAM_QUEUED_BYTES_MAX, StreamOutput};

    const VALUE_BYTES: usize = 100_000;
    const VALUES: usize = 50;

    fn reader<W: FnMut(Duration)>(replies: StreamSink, stall_max: Duration, wait: W) -> Reader<W> {
        Reader {
            replies,
            wait,
            stall_max,
            end: Instant::now() + TRANSFER_MAX,
            courtesy: Courtesy::new(&Arc::new(Metrics::new(false))),
        }
    }

    fn nobody_reads(_: Duration) {}

    fn backend() -> Backend {
        let mut apply = Apply::new(Local {
            member: MemberId(1),
            first_request: RequestId(1),
        });
        let put = PutRequest {
            key: "k".into(),
            value: vec![7; VALUE_BYTES].into(),
            ..PutRequest::default()
        };
        let request = InternalRaftRequest {
            payload: Some(Payload::Put(put)),
            ..InternalRaftRequest::default()
        };
        let data = Bytes::from(request.encode_to_vec());
        let entry = |index| raftpb::Entry {
            term: Some(1),
            index: Some(index),
            data: Some(data.clone()),
            ..raftpb::Entry::default()
        };
        apply.input(Input::Committed((1..=VALUES as u64).map(entry).collect()));
        Backend::new(&apply)
    }

    /// Bytes of blobs that wait in the queue; takes them out.
    fn drain(output: &StreamOutput) -> usize {
        let mut bytes = 0;
        while let Some(Ok(message)) = output.take() {
            let message = SnapshotResponse::decode(message).expect("our message");
            bytes += message.blob.len();
        }
        bytes
    }

    #[test]
    fn no_more_is_made_than_the_stream_has_room_for() {
        let (replies, output) = StreamSink::detached();
        let (mut read, mut waits) = (0, 0);
        let mut reader = reader(replies, STALL_MAX, |_| {
            let taken = drain(&output);
            assert!(taken <= STREAM_QUEUED_BYTES_MAX + LARGE_CHUNK_BYTES);
            read += taken;
            waits += 1;
        });
        let length = send(&backend(), &mut reader).expect("sent") as usize;
        drop(reader);
        read += drain(&output);
        assert!(length > VALUES * VALUE_BYTES);
        assert_eq!(read, length + Sha256::output_size());
        assert!(waits >= VALUES * VALUE_BYTES / (STREAM_QUEUED_BYTES_MAX + LARGE_CHUNK_BYTES));
    }

    #[test]
    fn a_reader_that_does_not_read_is_given_up() {
        let (replies, output) = StreamSink::detached();
        let mut reader = reader(replies, Duration::ZERO, nobody_reads);
        let Err(Halt::Failed(failure)) = send(&backend(), &mut reader) else {
            panic!("not given up");
        };
        assert_eq!(failure.code(), Code::Unavailable);
        let text = "etcdserver: snapshot given up: the client did not read what was sent in 0 s";
        assert_eq!(failure.message(), text);
        assert!(drain(&output) >= STREAM_QUEUED_BYTES_MAX - 2 * LARGE_CHUNK_BYTES);
    }

    #[test]
    fn a_reader_that_takes_too_long_for_all_of_it_is_given_up() {
        let (replies, _output) = StreamSink::detached();
        let mut reader = reader(replies, STALL_MAX, nobody_reads);
        reader.end = Instant::now();
        let halted = send(&backend(), &mut reader);
        let too_slow =
            matches!(&halted, Err(Halt::Failed(failure)) if failure.code() == Code::Unavailable);
        assert!(too_slow, "{halted:?}");
    }

    #[test]
    fn a_caller_that_went_away_ends_it() {
        let (replies, output) = StreamSink::detached();
        let mut reader = reader(replies, STALL_MAX, nobody_reads);
        output.close();
        let halted = send(&backend(), &mut reader);
        assert!(matches!(halted, Err(Halt::Gone)), "{halted:?}");
    }
}
