//! Reads and writes of the store.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use kvorum_member::apply::Response;
use kvorum_member::check::{self, Route};
use kvorum_member::spare::SpareTxn;
use kvorum_mvcc::View;
use kvorum_mvcc::range::{Pages, RangeError, StreamError};
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use prost::Message;
use prost::encoding::WireType;

use super::{Api, decode, decode_or_answer, malformed, status};
use crate::runtime::{Member, requested};
use crate::transport::{
    Body, Code, Credit, REPLY_BYTES_MAX, ReplySink, RequestStream, Status, StreamSink,
};

pub(super) fn range(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: RangeRequest = decode_or_answer!(message, reply);
    if let Err(error) = check::range(&request) {
        return reply.send(Err(status(error)));
    }
    let serializable = request.serializable;
    let is_short = request.range_end.is_empty();
    let member = api.member.clone();
    let since = Instant::now();
    let run = move || {
        let result = member.look(|view| execute(&member, &view.keys, &request));
        member.range_answered(since);
        result
    };
    // The read itself runs where the connection lives, not on the core thread, and when its answer has room there.
    if serializable {
        return reply.run(run);
    }
    // One key is read here and now. All reads of a turn share the view that the first one took: here after it saw that
    // they need no round, so what needs none runs elsewhere. A list runs behind all requests of its turn: a put must not
    // wait for it.
    if is_short && api.member.reads_at_once() {
        return reply.run_here(run);
    }
    api.member.read_index(move |confirmed| match confirmed {
        Ok(()) => reply.run(run),
        Err(error) => reply.send(Err(status(error))),
    });
}

/// Longer lists are encoded while they are sent, so that one that nobody takes costs no copy of it.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// More bytes than a header takes: four numbers with a key each.
const HEADER_BYTES_MAX: usize = 4 * (1 + 10);

fn execute(member: &Member, view: &View, request: &RangeRequest) -> Result<Body, Status> {
    let started = Instant::now();
    let result = view.range_within(request, REPLY_BYTES_MAX);
    member.range_executed(started, result.is_ok());
    let found = result.map_err(|error| match error {
        RangeError::Read(error) => status(error.into()),
        RangeError::TooLarge { bytes } => Body::too_large(bytes),
    })?;
    let header = member.header(view.current_revision());
    let (mut room, bytes) = ([0; HEADER_BYTES_MAX], header.encoded_len());
    // There is room for the longest numbers.
    let _ = header.encode(&mut &mut room[..]);
    let header = Some(&room[..bytes]);
    let length = found.encoded_len(header);
    if length > WHOLE_BYTES_MAX {
        return Ok(Body::in_pieces(length, found.into_pieces(header)));
    }
    Ok(Body::answer(length, |out| {
        found.encode_into(header, out);
    }))
}

/// Whether a range asks for no more than the state of this member.
pub(super) fn is_serializable(message: &Bytes) -> bool {
    RangeRequest::decode(message.clone()).is_ok_and(|request| request.serializable)
}

pub(super) fn put(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: PutRequest = decode_or_answer!(message.clone(), reply);
    match check::put(&request) {
        Ok(()) => api.member.propose_message(
            &Payload::Put(request),
            &message,
            api.limits.request_bytes_max,
            reply,
        ),
        Err(error) => reply.send(Err(status(error))),
    }
}

pub(super) fn delete_range(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: DeleteRangeRequest = decode_or_answer!(message.clone(), reply);
    match check::delete_range(&request) {
        Ok(()) => {
            let limit = api.limits.request_bytes_max;
            api.member
                .propose_message(&Payload::DeleteRange(request), &message, limit, reply);
        }
        Err(error) => reply.send(Err(status(error))),
    }
}

thread_local! {
    /// For the next transaction that is only checked here and then proposed as its bytes.
    static SPARE_TXN: RefCell<SpareTxn> = RefCell::default();
}

pub(super) fn txn(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let mut request = SPARE_TXN.with_borrow_mut(SpareTxn::take);
    if let Err(error) = request.merge(message.clone()) {
        return reply.send(Err(malformed(&error)));
    }
    if let Err(error) = check::txn(&request, api.limits.txn_ops_max) {
        return reply.send(Err(status(error)));
    }
    let route = check::txn_route(&request);
    if route == Route::Propose {
        let (payload, limit) = (Payload::Txn(request), api.limits.request_bytes_max);
        api.member.propose_message(&payload, &message, limit, reply);
        if let Payload::Txn(request) = payload {
            SPARE_TXN.with_borrow_mut(|spare| spare.put_back(request));
        }
        return;
    }
    let member = api.member.clone();
    let since = Instant::now();
    let run = move || {
        let started = Instant::now();
        let result = member.look(|view| kvorum_member::apply::read_txn(&view.keys, &request));
        member.range_executed(started, result.is_ok());
        requested(member.metrics(), "ReadonlyTxn", true, since.elapsed());
        Ok(member.encode(&Response::Txn(result.map_err(status)?)))
    };
    if route == Route::Local {
        return reply.run(run);
    }
    api.member.read_index(move |confirmed| match confirmed {
        Ok(()) => reply.run(run),
        Err(error) => reply.send(Err(status(error))),
    });
}

pub(super) fn compact(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: CompactionRequest = decode_or_answer!(message, reply);
    let limit = api.limits.request_bytes_max;
    api.member
        .propose(Payload::Compaction(request), limit, reply);
}

/// A range sent in chunks, all read at the revision of the first, at the pace of its reader.
pub(super) struct RangeStream {
    shared: Arc<Sending>,
    request: Option<RangeRequest>,
}

/// What the task that sends and the callbacks of the stream share.
struct Sending {
    api: Arc<Api>,
    replies: StreamSink,
    pages: Mutex<Option<(i64, Pages)>>,
}

impl RangeStream {
    pub(super) fn new(api: &Arc<Api>, replies: StreamSink) -> Self {
        let pages = Mutex::new(None);
        Self {
            shared: Arc::new(Sending {
                api: Arc::clone(api),
                replies,
                pages,
            }),
            request: None,
        }
    }

    fn accept(&mut self, message: Bytes) -> Result<(), Status> {
        let request: RangeRequest = decode(message)?;
        check::range(&request).map_err(status)?;
        self.request = Some(request);
        Ok(())
    }
}

impl RequestStream for RangeStream {
    fn message(&mut self, message: Bytes, _credit: Credit) {
        if let Err(refused) = self.accept(message) {
            self.shared.replies.finish(Err(refused));
        }
    }

    fn finished(&mut self) {
        let Some(request) = self.request.take() else {
            let text = "a server stream needs exactly one request";
            return self
                .shared
                .replies
                .finish(Err(Status::new(Code::Internal, text)));
        };
        let shared = Arc::clone(&self.shared);
        if request.serializable {
            return shared.begin(&request);
        }
        self.shared
            .api
            .member
            .read_index(move |confirmed| match confirmed {
                Ok(()) => shared.begin(&request),
                Err(error) => shared.replies.finish(Err(status(error))),
            });
    }

    fn room(&mut self) {
        self.shared.send();
    }

    fn closed(&mut self) {
        self.shared.lock().take();
    }
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, Option<(i64, Pages)>> {
        // A poisoned lock means that reading a page panicked; what is left of it is not used again.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, request: &RangeRequest) {
        let view = self.api.member.view();
        let revision = view.current_revision();
        match Pages::new(view, request, self.api.limits.request_bytes_max) {
            Ok(pages) => {
                *self.lock() = Some((revision, pages));
                self.send();
            }
            Err(error) => self.replies.finish(Err(stream_status(error))),
        }
    }

    /// Sends as much as there is room for, in a task: reading a long list holds nobody up.
    fn send(self: &Arc<Self>) {
        let sending = Arc::clone(self);
        self.api.runtime.spawn(async move { sending.send_pages() });
    }

    fn send_pages(&self) {
        let mut held = self.lock();
        while let Some((revision, pages)) = held.as_mut()
            && !self.replies.room().is_empty()
        {
            let Some(page) = pages.next() else {
                *held = None;
                return self.replies.finish(Ok(()));
            };
            let page = match page {
                Ok(page) => page,
                Err(damage) => return self.replies.finish(Err(status(damage.into()))),
            };
            let header = page
                .last
                .then(|| self.api.member.header(*revision).encode_to_vec());
            let reply = page.reply.encode(header.as_deref());
            // RangeStreamResponse has one field, the response, with number 1.
            self.replies.send(Body::encode(
                reply.len() + RESPONSE_FRAME_BYTES_MAX,
                |out| {
                    prost::encoding::encode_key(1, WireType::LengthDelimited, out);
                    prost::encoding::encode_varint(reply.len() as u64, out);
                    out.extend_from_slice(&reply);
                },
            ));
        }
    }
}

/// The most that key and length of a field take before its bytes.
const RESPONSE_FRAME_BYTES_MAX: usize = 11;

fn stream_status(error: StreamError) -> Status {
    match error {
        StreamError::Read(error) => status(error.into()),
        other => Status::new(Code::Unimplemented, other.to_string()),
    }
}
