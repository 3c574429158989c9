//! The states of a unary call before its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::framing::MessageDecoder;
use super::head::Head;
use super::{Code, Status};
use crate::metrics::Started;

/// A call whose request is not all there.
pub(super) struct Gathering {
    /// What its headers say; always a call.
    pub(super) head: Arc<Head>,
    pub(super) index: usize,
    pub(super) deadline: Option<Instant>,
    pub(super) started: Started,
    /// `None` until it is seen that the request comes in pieces.
    decoder: Option<Box<MessageDecoder>>,
}

/// A call that is with the service.
pub(super) struct Answering {
    pub(super) index: usize,
    pub(super) started: Started,
    pub(super) deadline: Option<Instant>,
    /// Who wants to know when the call is over: however it ends, with an answer or with its connection, these go.
    pub(super) kept: Vec<oneshot::Sender<Infallible>>,
}

impl Gathering {
    pub(super) fn new(
        head: Arc<Head>,
        index: usize,
        deadline: Option<Instant>,
        started: Started,
    ) -> Self {
        Self {
            head,
            index,
            deadline,
            started,
            decoder: None,
        }
    }

    /// Takes data that arrived; `ended`: it was the last. Returns the request or a refusal, once there is one.
    pub(super) fn take(
        &mut self,
        data: &[u8],
        ended: bool,
        message_bytes_max: usize,
    ) -> Option<Result<Bytes, Status>> {
        if self.decoder.is_none()
            && let Some(message) = MessageDecoder::only_message(data, message_bytes_max)
        {
            return Some(Ok(message));
        }
        let decoder = self
            .decoder
            .get_or_insert_with(|| Box::new(MessageDecoder::new(message_bytes_max)));
        decoder.push(data);
        match decoder.next() {
            Ok(Some(message)) => Some(Ok(message)),
            Err(status) => Some(Err(status)),
            Ok(None) if !ended => None,
            Ok(None) => {
                // Unknown, since official servers pass the bare error of the reader on here.
                let text = if decoder.is_torn() {
                    "unexpected EOF"
                } else {
                    "EOF"
                };
                Some(Err(Status::new(Code::Unknown, text)))
            }
        }
    }

    /// What stays behind while the service works.
    pub(super) fn answering(&self) -> Answering {
        Answering {
            index: self.index,
            started: self.started,
            deadline: self.deadline,
            kept: Vec::new(),
        }
    }
}
