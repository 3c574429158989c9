//! The watch service: requests in, and the hub's messages out.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::watch::{Input, StreamId};
use kvorum_proto::etcdserverpb::WatchRequest;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;

use super::{Api, decode, requires_leader};
use crate::runtime::Target;
use crate::transport::{Call, Credit, RequestStream, Status, StreamSink};

/// One watch stream. A client that will send no more still reads: its watchers live on until the call ends.
pub(super) struct WatchStream {
    api: Arc<Api>,
    replies: StreamSink,
    stream: StreamId,
}

impl WatchStream {
    pub(super) fn new(api: &Arc<Api>, call: &Call, replies: StreamSink) -> Self {
        let target = Target::Client(replies.clone());
        let stream = api
            .member
            .watch()
            .open(target, requires_leader(&call.metadata), || {
                api.member.view()
            });
        Self {
            api: Arc::clone(api),
            replies,
            stream,
        }
    }
}

impl RequestStream for WatchStream {
    fn message(&mut self, message: Bytes, credit: Credit) {
        let request: Result<WatchRequest, Status> = decode(message);
        let union = match request {
            Ok(request) => request.request_union,
            Err(malformed) => return self.replies.finish(Err(malformed)),
        };
        let stream = self.stream;
        let input = match union {
            Some(RequestUnion::CreateRequest(request)) => {
                let view = self.api.member.view();
                Input::Create {
                    stream,
                    request,
                    view,
                    denied: None,
                }
            }
            Some(RequestUnion::CancelRequest(request)) => Input::Cancel {
                stream,
                watch_id: request.watch_id,
            },
            Some(RequestUnion::ProgressRequest(_)) => Input::Progress { stream },
            // A kind of request that a newer client may know is ignored, as official servers do.
            None => return,
        };
        self.api.member.watch().input(input, Some(credit));
    }

    fn finished(&mut self) {}

    fn room(&mut self) {
        self.api.member.watch().room(self.stream);
    }

    fn closed(&mut self) {
        self.api.member.watch().close(self.stream);
    }
}
