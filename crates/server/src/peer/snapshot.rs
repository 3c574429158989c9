//! The state of a member on its way to a follower that fell behind: one request, whose body is the length of the
//! message (8 bytes, big-endian), the message, and then the state.
//!
//! The state has one of two forms ([`Form`]): etcd's database file, which every member takes, and the files of the state
//! as they are, which a member of ours takes faster. The sender asks before each transfer: who sits behind an address
//! may have changed. An official member does not know the question and gets the database file.
//!
//! The sender encodes while the peer reads, a few pieces ahead, not faster than [`Throttle`] says, and on threads that
//! give way to others: clients go first. The receiver keeps what comes beside its own state and hands it on when it is whole; one at a time, see
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
use kvorum_member::backend::{Backend, Encoding, Sizing};
use kvorum_member::checkpoint::stream::{self, SendStep, Sending};
use kvorum_member::consensus::SnapshotNumber;
use kvorum_member::{core, disk_space};
use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb;
use kvorum_storage::checkpoint::RECEIVING_NAME;
use kvorum_storage::vfs::{OsVfs, Vfs as _};
use prost::Message as _;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::handler::{check_message, check_sender, empty, of_cluster};
use super::intake::Claim;
use super::link::Link;
use super::throttle::Throttle;
use super::wire;
use super::{Peers, contact, pipeline};
use crate::api::http::reply;
use crate::metrics::Metrics;
use crate::runtime::lower_priority;
use crate::transport::{
    AnswerBody, BodyPieces, HttpBody, HttpRequest, HttpResponse, OutgoingRequest,
};

/// Bytes of a piece, and how many pieces are encoded ahead of what the peer has read.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_AHEAD: usize = 8;

/// Longest message before a state, in bytes.
/// Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/http.go`, `snapshotLimitByte`, as its server answers.
const HEAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where the files of a state are sent to, and where a member says in which form it takes them.
pub(super) const FILES_PATH: &str = "/kvorum/snapshot";

/// Pairs that are sized in one step.
const SIZING_PAIRS: usize = 10_000;

/// Longest silence within a transfer: of a sender that has more to send, and of a receiver that has more to take.
/// Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/peer.go`, `ConnReadTimeout` and `ConnWriteTimeout`.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Time that a peer gets to make a snapshot its state, after its last byte. TCP finds out earlier that its host is gone.
const CONFIRMATION: Duration = Duration::from_secs(600);

/// The answer of a member whose disk has no room for the state ("Insufficient Storage"; Go clients take it as any failure).
const NO_ROOM_STATUS: u16 = 507;

/// Pause after such an answer, before the same is tried again: it takes an operator to make room.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);

/// Longest text of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// What the state is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// etcd's database file.
    Database,
    /// The files of the state; see [`stream`].
    Files,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Database => "database",
            Form::Files => "files",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Form::Database => "/raft/snapshot",
            Form::Files => FILES_PATH,
        }
    }
}

/// The next bytes of a stream, `None` at its end. A channel that closes without an end was given up.
pub(crate) type Piece = Option<Bytes>;

/// Why what was received did not become the state of the member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The disk has no room for it.
    NoRoom(String),
    /// Anything else.
    Refused(String),
}

impl NotTaken {
    /// Status and text for the sender.
    fn answer(&self) -> (u16, &str) {
        match self {
            NotTaken::NoRoom(text) => (NO_ROOM_STATUS, text),
            NotTaken::Refused(text) => (500, text),
        }
    }
}

impl From<String> for NotTaken {
    fn from(text: String) -> Self {
        NotTaken::Refused(text)
    }
}

/// Makes what was received the state of the member.
pub(crate) trait TakeSnapshot: Send + Sync + 'static {
    /// Where files are received.
    fn directory(&self) -> &Path;

    /// Reads a whole database file, makes its state durable and tells the machines; blocks meanwhile. False when it is
    /// not needed any more.
    ///
    /// # Errors
    /// The file is damaged, or is not the state that the message names, or there is no room for it.
    fn take(&self, file: &Path, message: Box<raftpb::Message>) -> Result<bool, NotTaken>;

    /// The same with a stream of files, written down as they come.
    ///
    /// # Errors
    /// It was given up, is damaged, is not the state that the message names, or there is no room for it.
    fn take_files(
        &self,
        pieces: mpsc::Receiver<Piece>,
        message: Box<raftpb::Message>,
    ) -> Result<bool, NotTaken>;
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
///
/// It has a thread of its own that gives way to others, the connection included: where clients' calls are served, a
/// connection that always has more to send and a peer that always takes more would hold them up for milliseconds.
pub(super) fn send(
    link: &Arc<Link>,
    number: SnapshotNumber,
    message: Box<raftpb::Message>,
    state: Backend,
) {
    let started = Instant::now();
    let label = link.id.to_string();
    let metrics = link.local().member.metrics();
    metrics.snapshot_send_inflights.with(&[&label]).add(1.0);
    info!("remote-peer-id" = %link.id, "sending database snapshot");
    let own = Arc::clone(link);
    let send = move || {
        lower_priority();
        let runtime = Builder::new_current_thread().enable_all().build();
        let sent = runtime.and_then(|runtime| runtime.block_on(post(&own, &message, state)));
        tell(&own, number, sent, started);
    };
    if let Err(error) = on_thread("snapshot-send", send) {
        tell(link, number, Err(error), started);
    }
}

/// Tells everybody how it ended.
fn tell(link: &Link, number: SnapshotNumber, sent: io::Result<(Form, u64)>, started: Instant) {
    let (to, took) = (link.id, started.elapsed());
    let label = to.to_string();
    let metrics = link.local().member.metrics();
    metrics.snapshot_send_inflights.with(&[&label]).add(-1.0);
    match &sent {
        Ok((form, bytes)) => {
            let form = form.name();
            info!("remote-peer-id" = %to, form, bytes, took = %format_args!("{took:?}"), "sent database snapshot");
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
            if error.kind() == io::ErrorKind::StorageFull {
                std::thread::sleep(NO_ROOM_PAUSE);
            }
        }
    }
    let received = sent.is_ok();
    let news = core::Input::SnapshotSent { number, received };
    link.local().member.peer_news(news);
}

async fn post(link: &Link, message: &raftpb::Message, state: Backend) -> io::Result<(Form, u64)> {
    let form = form_for(link).await?;
    let mut head = BytesMut::new();
    head.put_u64(message.encoded_len() as u64);
    message.encode_raw(&mut head);
    let (pieces, mut rest) = mpsc::channel(PIECES_AHEAD);
    let throttle = Throttle::new(link.local().latency.clone());
    let encoded = on_thread("snapshot", move || {
        let out = Out {
            pieces,
            throttle,
            sent: 0,
        };
        match form {
            Form::Database => encode_database(&state, head.freeze(), out),
            Form::Files => encode_files(&state, head.freeze(), out),
        }
    })?;
    // None when the state cannot be read: that is told in the end, and the peer refuses what is cut short.
    let first = rest.recv().await;
    let mut connection = link.dial().await?;
    let (taken, progress) = watch::channel(false);
    let body = Pieces { first, rest, taken };
    let mut headers = contact::headers(link.local(), None);
    headers.push(("Content-Type", "application/octet-stream".to_owned()));
    let request = OutgoingRequest {
        method: "POST",
        path: form.path().to_owned(),
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
    if status == NO_ROOM_STATUS {
        let text = String::from_utf8_lossy(&text);
        return Err(io::Error::new(io::ErrorKind::StorageFull, text.trim()));
    }
    pipeline::check(link, status, &text)?;
    let bytes = encoded.await.map_err(io::Error::other)??;
    link.sent_bytes.add(bytes);
    Ok((form, bytes))
}

/// Asks the peer in which form it takes a state.
async fn form_for(link: &Link) -> io::Result<Form> {
    let asked = async {
        let mut connection = link.dial().await?;
        let request = OutgoingRequest {
            method: "GET",
            path: FILES_PATH.to_owned(),
            headers: contact::headers(link.local(), None),
            body: AnswerBody::Whole(Bytes::new()),
        };
        let response = connection.send(request).await?;
        let status = response.status;
        let text = response.body.whole(ANSWER_BYTES_MAX).await;
        io::Result::Ok((status, text.unwrap_or_default()))
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (status, text) = timeout(SILENCE_MAX, asked).await.map_err(late)??;
    Ok(form_of(status, &text))
}

/// What the answer to that question means.
fn form_of(status: u16, text: &[u8]) -> Form {
    let newest = std::str::from_utf8(text).ok();
    let newest = newest.and_then(|text| text.trim().parse::<u32>().ok());
    match newest {
        Some(newest) if status == 200 && newest >= stream::FORM => Form::Files,
        _ => Form::Database,
    }
}

/// Answers it.
pub(super) fn forms(peers: &Peers) -> HttpResponse {
    let text = format!("{}\n", stream::FORM);
    of_cluster(peers, reply::ok("text/plain", text))
}

/// Runs work that takes long on a thread of its own, of the priority of who asks.
fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (tell, told) = oneshot::channel();
    let work = move || {
        let _ = tell.send(work());
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)?;
    Ok(told)
}

/// Where an encoded state goes.
struct Out {
    pieces: mpsc::Sender<Bytes>,
    throttle: Throttle,
    /// Bytes of the state so far.
    sent: u64,
}

impl Out {
    /// Passes bytes on, as soon as they may go; false when nobody takes them.
    fn send(&mut self, bytes: Bytes) -> bool {
        self.sent += bytes.len() as u64;
        let pause = self.throttle.pause(bytes.len() as u64);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        self.pieces.blocking_send(bytes).is_ok()
    }
}

/// Makes the database file piece by piece behind its head, as the peer takes it; ends early when nobody does.
fn encode_database(state: &Backend, head: Bytes, mut out: Out) -> io::Result<u64> {
    let mut sizing = Sizing::new(state);
    while sizing.step(SIZING_PAIRS).map_err(io::Error::other)? {
        if out.pieces.is_closed() {
            return Ok(0);
        }
    }
    let layout = sizing.finish().map_err(io::Error::other)?;
    let mut encoding = Encoding::new(state, layout).map_err(io::Error::other)?;
    if out.pieces.blocking_send(head).is_err() {
        return Ok(0);
    }
    while let Some(piece) = encoding.blob(PIECE_BYTES).map_err(io::Error::other)? {
        if !out.send(piece) {
            break;
        }
    }
    Ok(out.sent)
}

/// The same with the files of the state.
fn encode_files(state: &Backend, head: Bytes, mut out: Out) -> io::Result<u64> {
    let mut sending = Sending::new(state);
    if out.pieces.blocking_send(head).is_err() {
        return Ok(0);
    }
    loop {
        let is_taken = match sending.step().map_err(io::Error::other)? {
            SendStep::Read(_) => !out.pieces.is_closed(),
            SendStep::Bytes(bytes) => out.send(bytes),
            SendStep::End => false,
        };
        if !is_taken {
            break;
        }
    }
    Ok(out.sent)
}

/// Takes a snapshot in.
pub(super) async fn receive(
    peers: &Peers,
    request: &HttpRequest,
    mut body: HttpBody,
    form: Form,
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
    let counted = Counted::begin(Arc::clone(peers.local().member.shared_metrics()), from);
    let outcome = match form {
        Form::Database => {
            let taken = take(claim, taker, message, rest, body).await;
            counted.end(taken)
        }
        Form::Files => {
            // When the sender leaves, whoever calls this is gone: what has arrived goes its way, and of the rest nothing
            // stays.
            let taken = take_files(claim, taker, message, rest, body);
            let taken = tokio::spawn(async move { counted.end(taken.await) });
            taken
                .await
                .unwrap_or_else(|error| Err(error.to_string().into()))
        }
    };
    match outcome {
        Ok(true) => {
            info!("remote-snapshot-sender-id" = %from, "received and saved database snapshot");
            of_cluster(peers, empty(204))
        }
        Ok(false) => of_cluster(peers, empty(204)),
        Err(why) => {
            let (status, error) = why.answer();
            warn!("remote-snapshot-sender-id" = %from, error, "failed to save incoming database snapshot");
            refuse(status, format!("failed to save KV snapshot ({error})"))
        }
    }
}

/// The metrics of one snapshot. It is under way until this is dropped, which may be for want of a caller.
struct Counted {
    metrics: Arc<Metrics>,
    label: String,
    started: Instant,
    is_good: bool,
}

impl Counted {
    fn begin(metrics: Arc<Metrics>, from: MemberId) -> Self {
        let label = from.to_string();
        metrics.snapshot_receive_inflights.with(&[&label]).add(1.0);
        Self {
            metrics,
            label,
            started: Instant::now(),
            is_good: false,
        }
    }

    /// What came of it.
    fn end<T, E>(mut self, outcome: Result<T, E>) -> Result<T, E> {
        self.is_good = outcome.is_ok();
        outcome
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        let label = [self.label.as_str()];
        metrics.snapshot_receive_inflights.with(&label).add(-1.0);
        if self.is_good {
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
            if length > HEAD_BYTES_MAX {
                return Err("rafthttp: error limit exceeded".to_owned());
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
) -> Result<bool, NotTaken> {
    let path = taker.directory().join(RECEIVING_NAME);
    let file = Cleaned(path.clone());
    tokio::select! {
        saved = save(&path, first, body) => saved?,
        () = claim.replaced() => return Err("another one follows".to_owned().into()),
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

/// Hands the files of a state on as they arrive.
async fn take_files(
    claim: Claim,
    taker: Arc<dyn TakeSnapshot>,
    message: Box<raftpb::Message>,
    first: BytesMut,
    body: HttpBody,
) -> Result<bool, NotTaken> {
    let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
    let taken = on_thread("receive", move || {
        lower_priority();
        taker.take_files(arriving, message)
    });
    let taken = taken.map_err(|error| error.to_string())?;
    let fed = tokio::select! {
        fed = feed(&pieces, first, body) => fed,
        () = claim.replaced() => Err("another one follows".to_owned().into()),
    };
    if fed.is_ok() {
        claim.arrived();
        // Who takes them may have refused already.
        let _ = pieces.send(None).await;
    }
    drop(pieces);
    // Also when it is given up: files and place go together.
    let taken = taken.await.map_err(|error| error.to_string())?;
    if taken == Ok(true) {
        claim.hand_over();
    }
    fed.and(taken)
}

/// Passes on what arrives, until the end of the body or until nobody takes it: who does not, says why.
async fn feed(
    pieces: &mpsc::Sender<Piece>,
    first: BytesMut,
    mut body: HttpBody,
) -> Result<(), NotTaken> {
    let mut next = Some(first.freeze());
    while let Some(bytes) = next {
        if pieces.send(Some(bytes)).await.is_err() {
            return Ok(());
        }
        next = piece(&mut body).await?;
    }
    Ok(())
}

/// Writes what arrives to a file.
async fn save(path: &Path, first: BytesMut, mut body: HttpBody) -> Result<(), NotTaken> {
    let text = |error: io::Error| error.to_string();
    let directory = path.parent().unwrap_or(path);
    let mut file = File::create(path).map_err(text)?;
    file.write_all(&first).map_err(text)?;
    while let Some(piece) = piece(&mut body).await? {
        let disk = OsVfs::default().space(directory).map_err(text)?;
        disk_space::room(disk, piece.len() as u64)
            .map_err(|error| NotTaken::NoRoom(error.to_string()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_came_or_broke_off_is_under_way_no_more() {
        let metrics = Arc::new(Metrics::new(false));
        let begin = || Counted::begin(Arc::clone(&metrics), MemberId(0xab));
        let told = |name: &str| {
            let line = format!("etcd_network_snapshot_receive_{name}{{From=\"ab\"}} ");
            let page = metrics.render();
            let value = page.lines().find_map(|it| it.strip_prefix(&line));
            value.map_or(0, |value| value.parse().expect("a count"))
        };
        let all = || ["inflights_total", "success", "failures"].map(told);
        let counted = begin();
        assert_eq!(all(), [1, 0, 0]);
        assert!(counted.end(Ok::<_, NotTaken>(true)).is_ok());
        assert_eq!(all(), [0, 1, 0]);
        let refused = NotTaken::Refused("given up".to_owned());
        assert!(begin().end(Err::<bool, _>(refused)).is_err());
        assert_eq!(all(), [0, 1, 1]);
        // Whoever called for it is gone.
        drop(begin());
        assert_eq!(all(), [0, 1, 2]);
    }

    #[test]
    fn files_go_to_those_alone_who_say_that_they_take_them() {
        for (status, text, form) in [
            (200, "1\n", Form::Files),
            (200, "2", Form::Files),
            (200, "0", Form::Database),
            (200, "", Form::Database),
            (200, "<html>", Form::Database),
            (404, "404 page not found\n", Form::Database),
            (404, "1", Form::Database),
            (405, "Method Not Allowed\n", Form::Database),
        ] {
            assert_eq!(form_of(status, text.as_bytes()), form, "{status} {text:?}");
        }
    }
}
