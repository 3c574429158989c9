//! The queue of messages behind one outgoing stream, and the stream's body.
//!
//! The core thread pushes and never waits; the connection's task takes all that is there and writes it at once. What
//! does not fit is refused, and consensus hears that the peer is unreachable: it then sends less.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kvorum_proto::raftpb;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::wire::{Encoder, StreamKind};
use crate::metrics::Counter;
use crate::transport::BodyPieces;

/// Messages that may wait for one stream. Source: etcd v3.7.1 `rafthttp/peer.go`, `streamBufSize`.
const QUEUED_MESSAGES_MAX: usize = 4096;

/// Bytes of entries that may wait for one stream.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes after which a piece of the body is given away; the rest follows in the next.
const PIECE_BYTES: usize = 256 * 1024;

/// The sending side; clones are the same queue.
#[derive(Clone, Debug)]
pub(super) struct Outbox(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Box<raftpb::Message>>,
    bytes: usize,
    reader: Option<Waker>,
    closed: bool,
}

impl Outbox {
    /// An empty queue and the body that empties it. A sign of life is sent each `heartbeat`.
    pub(super) fn new(
        kind: StreamKind,
        heartbeat: Duration,
        sent_bytes: Arc<Counter>,
    ) -> (Self, StreamBody) {
        let outbox = Self(Arc::default());
        let mut ticks = interval(heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let body = StreamBody {
            outbox: outbox.clone(),
            encoder: Encoder::new(kind),
            taken: VecDeque::new(),
            ticks,
            sent_bytes,
        };
        (outbox, body)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the stream is still there.
    pub(super) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Queues a message, or gives it back when the stream has ended or is full.
    pub(super) fn push(
        &self,
        message: Box<raftpb::Message>,
    ) -> Result<(), (Box<raftpb::Message>, Refused)> {
        let mut queue = self.lock();
        if queue.closed {
            return Err((message, Refused::Closed));
        }
        let full = queue.messages.len() >= QUEUED_MESSAGES_MAX || queue.bytes >= QUEUED_BYTES_MAX;
        if full {
            return Err((message, Refused::Full));
        }
        queue.bytes += bytes_of(&message);
        queue.messages.push_back(message);
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Ends the stream; what waits is dropped.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.messages.clear();
        if let Some(reader) = queue.reader.take() {
            drop(queue);
            reader.wake();
        }
    }
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The stream has ended.
    Closed,
    /// The peer does not read fast enough.
    Full,
}

fn bytes_of(message: &raftpb::Message) -> usize {
    let data = message.entries.iter().map(|entry| entry.data().len());
    data.sum()
}

/// The body of the stream.
pub(super) struct StreamBody {
    outbox: Outbox,
    encoder: Encoder,
    /// Taken from the queue and not encoded yet.
    taken: VecDeque<Box<raftpb::Message>>,
    ticks: Interval,
    sent_bytes: Arc<Counter>,
}

impl BodyPieces for StreamBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut piece = BytesMut::new();
        // A tick is looked at first: a stream that is busy still has to show that it lives to who counts ticks.
        if self.ticks.poll_tick(cx).is_ready() {
            self.encoder.heartbeat(&mut piece);
            // Asked again, so that the next tick wakes this task.
            let _ = self.ticks.poll_tick(cx);
        }
        if self.taken.is_empty() {
            let mut queue = self.outbox.lock();
            if queue.closed {
                return Poll::Ready(None);
            }
            if queue.messages.is_empty() && piece.is_empty() {
                queue.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            queue.bytes = 0;
            std::mem::swap(&mut queue.messages, &mut self.taken);
        }
        // Encoded outside the lock: the core thread must not wait for it.
        while piece.len() < PIECE_BYTES
            && let Some(message) = self.taken.pop_front()
        {
            self.encoder.message(&message, &mut piece);
        }
        self.sent_bytes.add(piece.len() as u64);
        Poll::Ready(Some(piece.freeze()))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use kvorum_proto::raftpb;

    use super::{Outbox, QUEUED_MESSAGES_MAX, Refused};
    use crate::peer::wire::{Decoder, StreamKind};
    use crate::transport::BodyPieces as _;

    fn message(index: u64) -> Box<raftpb::Message> {
        Box::new(raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgVote as i32),
            from: Some(1),
            index: Some(index),
            ..raftpb::Message::default()
        })
    }

    #[tokio::test]
    async fn what_waits_leaves_in_one_piece_and_in_order() {
        let (outbox, mut body) = Outbox::new(
            StreamKind::Messages,
            Duration::from_secs(3600),
            Default::default(),
        );
        for index in 0..10 {
            outbox.push(message(index)).expect("room");
        }
        let piece = poll_fn(|cx| body.poll_piece(cx)).await.expect("a piece");
        let mut decoder = Decoder::new(StreamKind::Messages, 1, 2);
        decoder.push(&piece);
        let mut count = 0;
        while decoder.frame().expect("a sound stream").is_some() {
            count += 1;
        }
        assert_eq!(count, 10);
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_costs_a_bounded_queue() {
        let (outbox, body) = Outbox::new(
            StreamKind::Messages,
            Duration::from_secs(3600),
            Default::default(),
        );
        for index in 0..QUEUED_MESSAGES_MAX as u64 {
            outbox.push(message(index)).expect("room");
        }
        let refused = |outbox: &Outbox| outbox.push(message(0)).map_err(|(_, why)| why);
        assert_eq!(refused(&outbox), Err(Refused::Full));
        drop(body);
        assert_eq!(refused(&outbox), Err(Refused::Closed));
    }
}
