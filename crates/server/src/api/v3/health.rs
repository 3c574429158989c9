//! The health service of gRPC. It knows one name, the empty one, and that is serving while the process runs.

use std::collections::HashMap;

use bytes::Bytes;
use kvorum_proto::health::health_check_response::ServingStatus;
use kvorum_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};

use super::{body, decode, decode_or_answer};
use crate::transport::{Body, Code, Credit, ReplySink, RequestStream, Status, StreamSink};

pub(super) fn check(message: Bytes, reply: ReplySink) {
    let request: HealthCheckRequest = decode_or_answer!(message, reply);
    if request.service.is_empty() {
        reply.send(body(&answer(ServingStatus::Serving)));
    } else {
        reply.send(Err(Status::new(Code::NotFound, "unknown service")));
    }
}

pub(super) fn list(reply: ReplySink) {
    let statuses = HashMap::from([(String::new(), answer(ServingStatus::Serving))]);
    reply.send(body(&HealthListResponse { statuses }));
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}

/// Tells the status once; it never changes while the process runs.
pub(super) struct HealthWatch {
    replies: StreamSink,
}

impl HealthWatch {
    pub(super) fn new(replies: StreamSink) -> Self {
        Self { replies }
    }
}

impl RequestStream for HealthWatch {
    fn message(&mut self, message: Bytes, _credit: Credit) {
        let request: Result<HealthCheckRequest, Status> = decode(message);
        let status = match request {
            Ok(request) if request.service.is_empty() => ServingStatus::Serving,
            Ok(_) => ServingStatus::ServiceUnknown,
            Err(malformed) => return self.replies.finish(Err(malformed)),
        };
        self.replies.send(Body::from_message(&answer(status)));
    }

    fn finished(&mut self) {}

    fn room(&mut self) {}

    fn closed(&mut self) {}
}
