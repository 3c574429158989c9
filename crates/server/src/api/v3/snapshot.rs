//! The whole state of the member as etcd's database file, sent at the pace of its reader.
//!
//! The state is taken once, from the apply machine between two inputs; writes go on beside it. A thread
//! walks it twice, to learn the length of the file and to make its bytes. It is a thread of its own, of
//! low priority, because requests that share one with it would wait for its steps; what it made is
//! written to the socket by the connection meanwhile. It never makes more than the stream has room for
//! and then waits to be told of new room, so a reader that does not read costs the queue of a stream, a
//! blob and a page per level of a tree. What it pins of the state is let go when the file is sent, when
//! the caller goes away, and when the caller takes too long: see [`STALL_MAX`] and [`TRANSFER_MAX`].

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_member::backend::{Backend, BackendError, Encoding, Sizing};
use kvorum_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use kvorum_storage::bolt::{Layout, WriteError};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use super::{Api, decode, status};
use crate::runtime::lower_priority;
use crate::transport::{Body, Code, Credit, RequestStream, Status, StreamSink};

/// Length of the pieces of the file, in bytes; the last one may be shorter.
///
/// Source: etcd v3.7.1, `server/etcdserver/api/v3rpc/maintenance.go` (`snapshotSendBufferSize`).
const BLOB_BYTES: usize = 32 * 1024;
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
        };
        let api = Arc::clone(&self.api);
        let started = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                lower_priority();
                serve(&api, reader, permit);
            });
        if let Err(error) = started {
            let text = format!("etcdserver: no thread for the snapshot: {error}");
            self.replies
                .finish(Err(Status::new(Code::Unavailable, text)));
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
    let layout = measure(backend, &reader.replies)?;
    let (total_bytes, version) = (layout.file_bytes(), backend.version());
    info!(
        total_bytes,
        storage_version = version,
        revision = backend.revision(),
        "sending database snapshot to client"
    );
    let message = |remaining_bytes, blob| {
        Body::from_message(&SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version: version.clone(),
        })
    };
    let mut remaining_bytes = total_bytes;
    let mut hash = Sha256::new();
    let mut encoding = Encoding::new(backend, layout)?;
    loop {
        reader.room()?;
        let Some(blob) = encoding.blob(BLOB_BYTES)? else {
            break;
        };
        hash.update(&blob);
        remaining_bytes -= blob.len() as u64;
        reader.replies.send(message(remaining_bytes, blob));
    }
    let trailer = Bytes::copy_from_slice(&hash.finalize());
    reader.replies.send(message(0, trailer));
    Ok(total_bytes)
}

fn measure(backend: &Backend, replies: &StreamSink) -> Result<Layout, Halt> {
    let mut sizing = Sizing::new(backend);
    while sizing.step(SIZED_ITEMS_MAX)? {
        if replies.is_closed() {
            return Err(Halt::Gone);
        }
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
    use prost::Message as _;

    use super::*;
    use crate::transport::{STREAM_QUEUED_BYTES_MAX, StreamOutput};

    const VALUE_BYTES: usize = 100_000;
    const VALUES: usize = 50;

    fn reader<W: FnMut(Duration)>(replies: StreamSink, stall_max: Duration, wait: W) -> Reader<W> {
        Reader {
            replies,
            wait,
            stall_max,
            end: Instant::now() + TRANSFER_MAX,
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
            assert!(taken <= STREAM_QUEUED_BYTES_MAX + BLOB_BYTES);
            read += taken;
            waits += 1;
        });
        let length = send(&backend(), &mut reader).expect("sent") as usize;
        drop(reader);
        read += drain(&output);
        assert!(length > VALUES * VALUE_BYTES);
        assert_eq!(read, length + Sha256::output_size());
        assert!(waits >= VALUES * VALUE_BYTES / (STREAM_QUEUED_BYTES_MAX + BLOB_BYTES));
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
        assert!(drain(&output) >= STREAM_QUEUED_BYTES_MAX - 2 * BLOB_BYTES);
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
