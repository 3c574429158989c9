//! The state of a member on its way to a follower that fell behind: one request, whose body is the length of the
//! message (8 bytes, big-endian), the message, and then the state as etcd's database file.
//!
//! The sender encodes while the peer reads, a few pieces ahead, and not faster than [`BYTES_PER_SECOND_MAX`]: clients
//! go first. The receiver keeps the file beside its own state and hands it on when it is whole; one at a time, see
//! [`intake`](super::intake). Neither side waits long for one that went silent, so a host that vanished holds up no
//! other; the sender finds out how long the file is before it dials, as that may take a while.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/snapshot_sender.go`, `http.go` (`snapshotHandler`).

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kvorum_member::backend::{Backend, BackendError, Encoding, Sizing};
use kvorum_member::consensus::SnapshotNumber;
use kvorum_member::core;
use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb;
use kvorum_storage::checkpoint::RECEIVING_NAME;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::handler::{check_message, check_sender, empty, of_cluster};
use super::intake::Claim;
use super::link::Link;
use super::wire::{self, MESSAGE_BYTES_MAX};
use super::{Peers, contact, pipeline};
use crate::api::http::reply;
use crate::transport::{
    AnswerBody, BodyPieces, HttpBody, HttpRequest, HttpResponse, OutgoingRequest,
};

/// Most bytes of a state that are sent in a second.
const BYTES_PER_SECOND_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of a piece, and how many pieces are encoded ahead of what the peer has read.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_AHEAD: usize = 8;

/// Pairs that are sized in one step.
const SIZING_PAIRS: usize = 10_000;

/// Longest silence within a transfer: of a sender that has more to send, and of a receiver that has more to take.
/// Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/peer.go`, `ConnReadTimeout` and `ConnWriteTimeout`.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Time that a peer gets to make a snapshot its state, after its last byte. TCP finds out earlier that its host is gone.
const CONFIRMATION: Duration = Duration::from_secs(600);

/// Longest text of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Makes a received file the state of the member.
pub(crate) trait TakeSnapshot: Send + Sync + 'static {
    /// Where files are received.
    fn directory(&self) -> &Path;

    /// Reads a whole file, makes its state durable and tells the machines; blocks meanwhile. False when it is not
    /// needed any more.
    ///
    /// # Errors
    /// The file is damaged, or is not the state that the message names.
    fn take(&self, file: &Path, message: Box<raftpb::Message>) -> Result<bool, String>;
}

/// Pieces that another task makes.
struct Pieces {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Bytes>,
    /// Changes with each piece that is taken; true when all are.
    taken: watch::Sender<bool>,
}

impl BodyPieces for Pieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(self.rest.poll_recv(cx)),
        };
        self.taken.send_replace(piece.is_none());
        Poll::Ready(piece)
    }
}

/// Ends when a peer took no piece for too long, or does not confirm what it took.
async fn silence(mut taken: watch::Receiver<bool>) {
    while !*taken.borrow_and_update() {
        match timeout(SILENCE_MAX, taken.changed()).await {
            Ok(Ok(())) => {}
            // The connection is gone, and with it the pieces: the request tells why.
            Ok(Err(_)) => break,
            Err(_) => return,
        }
    }
    sleep(CONFIRMATION).await;
}

/// Sends a snapshot in the background; consensus hears how it ended.
pub(super) fn send(
    link: Arc<Link>,
    number: SnapshotNumber,
    message: Box<raftpb::Message>,
    state: Backend,
) {
    let runtime = link.local().runtime.clone();
    runtime.spawn(async move {
        let to = link.id;
        let started = Instant::now();
        let label = to.to_string();
        let metrics = link.local().member.metrics();
        let inflight = metrics.snapshot_send_inflights.with(&[&label]);
        inflight.add(1.0);
        info!("remote-peer-id" = %to, "sending database snapshot");
        let sent = post(&link, &message, state).await;
        inflight.add(-1.0);
        let took = started.elapsed();
        match &sent {
            Ok(bytes) => {
                info!("remote-peer-id" = %to, bytes, took = %format_args!("{took:?}"), "sent database snapshot");
                link.status.activate();
                metrics.snapshot_send_success.with(&[&label]).increment();
                metrics
                    .snapshot_send_duration
                    .with(&[&label])
                    .observe_duration(took);
            }
            Err(error) => {
                warn!("remote-peer-id" = %to, %error, "failed to send database snapshot");
                metrics.snapshot_send_failures.with(&[&label]).increment();
                link.status.deactivate("send snapshot", error);
            }
        }
        let received = sent.is_ok();
        let news = core::Input::SnapshotSent { number, received };
        link.local().member.peer_news(news);
    });
}

async fn post(link: &Link, message: &raftpb::Message, state: Backend) -> io::Result<u64> {
    let mut head = BytesMut::new();
    head.put_u64(message.encoded_len() as u64);
    message.encode_raw(&mut head);
    let (pieces, mut rest) = mpsc::channel(PIECES_AHEAD);
    let encoded = tokio::task::spawn_blocking(move || encode(&state, head.freeze(), &pieces));
    // None when the state cannot be read: that is told in the end, and the peer refuses what is cut short.
    let first = rest.recv().await;
    let mut connection = link.contact.dial().await?;
    let (taken, progress) = watch::channel(false);
    let body = Pieces { first, rest, taken };
    let mut headers = contact::headers(link.local(), None);
    headers.push(("Content-Type", "application/octet-stream".to_owned()));
    let request = OutgoingRequest {
        method: "POST",
        path: "/raft/snapshot".to_owned(),
        headers,
        body: AnswerBody::Pieces(Box::new(body)),
    };
    let answered = async {
        let response = connection.send(request).await?;
        let status = response.status;
        let text = response.body.whole(ANSWER_BYTES_MAX).await;
        io::Result::Ok((status, text.unwrap_or_default()))
    };
    let (status, text) = tokio::select! {
        answer = answered => answer?,
        () = silence(progress) => return Err(io::ErrorKind::TimedOut.into()),
    };
    pipeline::check(link, status, &text)?;
    let bytes = encoded.await.map_err(io::Error::other)?;
    let bytes = bytes.map_err(|error| io::Error::other(error.to_string()))?;
    link.sent_bytes.add(bytes);
    Ok(bytes)
}

/// Makes the file piece by piece behind its head, as the peer takes it; ends early when nobody does.
fn encode(state: &Backend, head: Bytes, pieces: &mpsc::Sender<Bytes>) -> Result<u64, BackendError> {
    let mut sizing = Sizing::new(state);
    while sizing.step(SIZING_PAIRS)? {
        if pieces.is_closed() {
            return Ok(0);
        }
    }
    let mut encoding = Encoding::new(state, sizing.finish()?)?;
    if pieces.blocking_send(head).is_err() {
        return Ok(0);
    }
    let started = Instant::now();
    let mut sent = 0;
    while let Some(piece) = encoding.blob(PIECE_BYTES)? {
        sent += piece.len() as u64;
        if pieces.blocking_send(piece).is_err() {
            return Ok(sent);
        }
        let earliest = Duration::from_micros(sent * 1_000_000 / BYTES_PER_SECOND_MAX);
        let ahead = earliest.saturating_sub(started.elapsed());
        if ahead > Duration::from_millis(1) {
            std::thread::sleep(ahead);
        }
    }
    Ok(sent)
}

/// Takes a snapshot in.
pub(super) async fn receive(
    peers: &Peers,
    request: &HttpRequest,
    mut body: HttpBody,
) -> HttpResponse {
    if request.method != "POST" {
        return reply::method_not_allowed("POST");
    }
    if let Err(refused) = check_sender(peers, request) {
        return refused;
    }
    let refuse = |status, text: String| of_cluster(peers, reply::error(status, &text));
    let (message, rest) = match head(&mut body).await {
        Ok(head) => head,
        Err(error) => return refuse(400, format!("failed to decode raft message ({error})")),
    };
    if !wire::is(&message, raftpb::MessageType::MsgSnap) {
        return refuse(400, "wrong raft message type".to_owned());
    }
    if let Err(refused) = check_message(peers, &message) {
        return refused;
    }
    let Some(taker) = peers.local().snapshots.clone() else {
        return refuse(500, "failed to save KV snapshot (not supported)".to_owned());
    };
    let Some(claim) = peers.0.intake.claim(message.term()).await else {
        return refuse(
            500,
            "failed to save KV snapshot (another one is being received)".to_owned(),
        );
    };
    let from = MemberId(message.from());
    let counted = Counted::begin(peers, from);
    let outcome = take(claim, taker, message, rest, body).await;
    counted.end(outcome.is_ok());
    match outcome {
        Ok(true) => {
            info!("remote-snapshot-sender-id" = %from, "received and saved database snapshot");
            of_cluster(peers, empty(204))
        }
        Ok(false) => of_cluster(peers, empty(204)),
        Err(error) => {
            warn!("remote-snapshot-sender-id" = %from, error, "failed to save incoming database snapshot");
            refuse(500, format!("failed to save KV snapshot ({error})"))
        }
    }
}

/// The metrics of one snapshot.
struct Counted<'a> {
    peers: &'a Peers,
    label: String,
    started: Instant,
}

impl<'a> Counted<'a> {
    fn begin(peers: &'a Peers, from: MemberId) -> Self {
        let label = from.to_string();
        let metrics = peers.local().member.metrics();
        metrics.snapshot_receive_inflights.with(&[&label]).add(1.0);
        Self {
            peers,
            label,
            started: Instant::now(),
        }
    }

    fn end(self, good: bool) {
        let metrics = self.peers.local().member.metrics();
        let label = [self.label.as_str()];
        metrics.snapshot_receive_inflights.with(&label).add(-1.0);
        if good {
            metrics.snapshot_receive_success.with(&label).increment();
            let took = self.started.elapsed();
            metrics.snap_db_save.observe_duration(took);
            metrics
                .snapshot_receive_duration
                .with(&label)
                .observe_duration(took);
        } else {
            metrics.snapshot_receive_failures.with(&label).increment();
        }
    }
}

/// Reads length and message, and what of the state came with them.
async fn head(body: &mut HttpBody) -> Result<(Box<raftpb::Message>, BytesMut), String> {
    let mut buffer = BytesMut::new();
    let mut wanted = size_of::<u64>();
    loop {
        if buffer.len() >= size_of::<u64>() && wanted == size_of::<u64>() {
            let length = buffer.get_u64();
            if length > MESSAGE_BYTES_MAX {
                return Err("error limit exceeded".to_owned());
            }
            wanted = length as usize;
            break;
        }
        buffer.extend_from_slice(&next(body).await?);
    }
    while buffer.len() < wanted {
        buffer.extend_from_slice(&next(body).await?);
    }
    let message = raftpb::Message::decode(buffer.split_to(wanted).freeze());
    let message = message.map_err(|error| error.to_string())?;
    Ok((Box::new(message), buffer))
}

async fn next(body: &mut HttpBody) -> Result<Bytes, String> {
    piece(body)
        .await?
        .ok_or_else(|| "unexpected EOF".to_owned())
}

/// What comes next; `None` at the end.
async fn piece(body: &mut HttpBody) -> Result<Option<Bytes>, String> {
    let piece = timeout(SILENCE_MAX, body.piece()).await;
    let piece = piece.map_err(|_| "i/o timeout".to_owned())?;
    piece.map_err(|error| error.to_string())
}

/// Writes the state to a file and hands it on.
async fn take(
    claim: Claim,
    taker: Arc<dyn TakeSnapshot>,
    message: Box<raftpb::Message>,
    first: BytesMut,
    body: HttpBody,
) -> Result<bool, String> {
    let path = taker.directory().join(RECEIVING_NAME);
    let file = Cleaned(path.clone());
    tokio::select! {
        saved = save(&path, first, body) => saved?,
        () = claim.replaced() => return Err("another one follows".to_owned()),
    }
    claim.arrived();
    // Claim and file go along: when the sender leaves now, nobody waits for this any more, and it goes on.
    let taken = tokio::task::spawn_blocking(move || {
        let taken = taker.take(&path, message);
        drop(file);
        if taken == Ok(true) {
            claim.hand_over();
        }
        taken
    });
    taken.await.map_err(|error| error.to_string())?
}

/// Writes what arrives to a file.
async fn save(path: &Path, first: BytesMut, mut body: HttpBody) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut file = File::create(path).map_err(text)?;
    file.write_all(&first).map_err(text)?;
    while let Some(piece) = piece(&mut body).await? {
        // Page-cache writes of small pieces: the sender is paced.
        file.write_all(&piece).map_err(text)?;
    }
    Ok(())
}

/// Removes a file that is no longer needed, however its use ended.
struct Cleaned(PathBuf);

impl Drop for Cleaned {
    fn drop(&mut self) {
        // It may not be there; nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}
