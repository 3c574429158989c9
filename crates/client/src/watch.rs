//! Watches that outlive the connection.
//!
//! A [`Watcher`] knows the first revision that its user has not seen. When its stream breaks it
//! opens another one, on any endpoint, from that revision on: nothing is lost and nothing comes
//! twice. Only the server can end it: because the revision was compacted, or because the user may
//! not see the keys.
//!
//! The revision to resume at is
//! - the start revision that was asked for,
//! - if that was 0, the one after the store's revision in the answer to the creation,
//! - the one after the last event that was handed out,
//! - the one after the revision of a progress message, as no event up to it is still to come.

use std::time::Duration;

use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::time::sleep;

use crate::client::{Client, Method, NEW_TOKENS_MAX, Retry};
use crate::connection::Call;
use crate::error::{Code, Error, NO_LEADER, Status};

const WATCH: Method<WatchRequest, WatchResponse> =
    Method::new("/etcdserverpb.Watch/Watch", Retry::Repeatable);
/// Pause before a broken stream is replaced.
const RESUME_PAUSE: Duration = Duration::from_millis(100);

/// Events of a key or range, in order of their revisions.
pub struct Watcher {
    client: Client,
    /// As the user asked, with the revision to resume at as start revision.
    request: WatchCreateRequest,
    stream: Option<Stream>,
    /// Parts of a response that is not complete yet.
    parts: Option<WatchResponse>,
    /// The server ended the watch.
    ended: bool,
    /// How often in a row the server did not take the caller's token.
    refusals: u32,
}

struct Stream {
    call: Call,
    created: bool,
}

impl Client {
    /// Watches a key or range. The watch is registered on the server when this returns: whatever
    /// is written later is seen.
    ///
    /// A watch ID in the request is ignored, as each watcher has its own stream.
    ///
    /// # Errors
    /// [`Error::WatchCanceled`] when the server refuses it, or a status that is not temporary.
    pub async fn watch(&self, request: WatchCreateRequest) -> Result<Watcher, Error> {
        let mut watcher = Watcher {
            client: self.clone(),
            request: WatchCreateRequest {
                watch_id: 0,
                ..request
            },
            stream: None,
            parts: None,
            ended: false,
            refusals: 0,
        };
        watcher.ready().await?;
        Ok(watcher)
    }
}

impl Watcher {
    /// The next events or progress message; none after the server has ended the watch.
    ///
    /// Nothing is lost when the future is dropped before it is done.
    ///
    /// # Errors
    /// [`Error::WatchCanceled`] once, when the server ends the watch; or a status that is not
    /// temporary, such as no leader where one is required.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, Error> {
        while !self.ended {
            self.ready().await?;
            let Some(response) = self.receive().await? else {
                continue;
            };
            if response.canceled {
                self.ended = true;
                return Err(Error::WatchCanceled(Box::new(response)));
            }
            if let Some(response) = self.complete(response) {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Asks the server for a progress message, which [`Watcher::next`] then returns.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn request_progress(&mut self) -> Result<(), Error> {
        let request = WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
        };
        while !self.ended {
            self.ready().await?;
            match self
                .stream
                .as_mut()
                .map(|stream| stream.call.send(&request))
            {
                Some(Ok(())) => break,
                // The stream is dead; the next one is asked.
                _ => self.stream = None,
            }
        }
        Ok(())
    }

    /// Makes sure of a stream on which the watch is registered.
    async fn ready(&mut self) -> Result<(), Error> {
        while !self.ended && !self.stream.as_ref().is_some_and(|stream| stream.created) {
            if self.stream.is_none() {
                let request = WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(self.request.clone())),
                };
                let call = self.client.open(&WATCH, &request).await?;
                let created = false;
                self.stream = Some(Stream { call, created });
                self.parts = None;
            }
            let Some(response) = self.receive().await? else {
                continue;
            };
            if response.canceled {
                // The reason may be a whole status in text.
                let reason = response.cancel_reason.rsplit("desc = ").next();
                let refusal = Status::new(Code::UNAUTHENTICATED, reason.unwrap_or_default());
                if self.is_worth_another(&refusal).await {
                    self.stream = None;
                    sleep(RESUME_PAUSE).await;
                    continue;
                }
                self.ended = true;
                return Err(Error::WatchCanceled(Box::new(response)));
            }
            if !response.created {
                return Err(Error::Protocol("an event before the watch was created"));
            }
            if self.request.start_revision == 0 {
                self.request.start_revision = revision(&response) + 1;
            }
            self.refusals = 0;
            if let Some(stream) = &mut self.stream {
                stream.created = true;
            }
        }
        Ok(())
    }

    /// The next message of the stream; none when the stream broke and is to be replaced.
    async fn receive(&mut self) -> Result<Option<WatchResponse>, Error> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        let status = match stream.call.receive().await {
            Ok(Some(response)) => return Ok(Some(response)),
            Ok(None) => None,
            Err(failure) => Some(failure.into_status()),
        };
        if let Some(status) = status {
            let temporary = [Code::UNAVAILABLE, Code::INTERNAL].contains(&status.code)
                || self.is_worth_another(&status).await;
            let leaderless = status.message == NO_LEADER && self.client.requires_leader();
            if !temporary || leaderless {
                self.stream = None;
                self.ended = true;
                return Err(status.into());
            }
        }
        self.stream = None;
        sleep(RESUME_PAUSE).await;
        Ok(None)
    }

    /// Whether the watch may be taken with a new token after this refusal.
    async fn is_worth_another(&mut self, status: &Status) -> bool {
        let used = self
            .stream
            .as_ref()
            .and_then(|stream| stream.call.token.clone());
        self.refusals += 1;
        self.refusals <= NEW_TOKENS_MAX && self.client.is_worth_another(used.as_ref(), status).await
    }

    /// Puts parts together, drops what was seen before, and remembers where to resume.
    fn complete(&mut self, response: WatchResponse) -> Option<WatchResponse> {
        let mut response = match self.parts.take() {
            None => response,
            Some(mut parts) => {
                parts.events.extend(response.events);
                parts.fragment = response.fragment;
                parts
            }
        };
        if response.fragment {
            self.parts = Some(response);
            return None;
        }
        let events_before = response.events.len();
        let first = self.request.start_revision;
        let mod_revision =
            |event: &kvorum_proto::mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        response.events.retain(|event| mod_revision(event) >= first);
        let seen = match response.events.last() {
            Some(event) => mod_revision(event),
            // All of it was seen before.
            None if events_before > 0 => return None,
            None => revision(&response),
        };
        self.request.start_revision = first.max(seen + 1);
        Some(response)
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kvorum_proto::etcdserverpb::ResponseHeader;
    use kvorum_proto::mvccpb::{Event, KeyValue};

    use super::*;
    use crate::client::Config;

    fn watcher(start_revision: i64) -> Watcher {
        let client = Client::new(&Config::new(["127.0.0.1:1"])).expect("a client");
        let request = WatchCreateRequest {
            key: Bytes::from_static(b"k"),
            start_revision,
            ..WatchCreateRequest::default()
        };
        Watcher {
            client,
            request,
            stream: None,
            parts: None,
            ended: false,
            refusals: 0,
        }
    }

    fn response(revision: i64, events: &[i64], fragment: bool) -> WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue {
                mod_revision,
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader {
                revision,
                ..ResponseHeader::default()
            }),
            events: events.iter().map(event).collect(),
            fragment,
            ..WatchResponse::default()
        }
    }

    /// Revisions of the events handed out, and where the watcher would resume.
    fn check(watcher: &mut Watcher, response: WatchResponse, handed: Option<&[i64]>, resumes: i64) {
        let complete = watcher.complete(response);
        let revisions = complete.map(|response| {
            let kvs = response.events.into_iter().filter_map(|event| event.kv);
            kvs.map(|kv| kv.mod_revision).collect::<Vec<_>>()
        });
        assert_eq!(revisions.as_deref(), handed);
        assert_eq!(watcher.request.start_revision, resumes);
    }

    #[test]
    fn resumes_after_the_last_event_and_never_repeats_one() {
        let mut watcher = watcher(5);
        // The store is ahead of the events: what lies between is still to come.
        check(&mut watcher, response(20, &[5, 6], false), Some(&[5, 6]), 7);
        check(&mut watcher, response(20, &[5, 6], false), None, 7);
        check(
            &mut watcher,
            response(20, &[6, 7, 9], false),
            Some(&[7, 9]),
            10,
        );
    }

    #[test]
    fn progress_moves_the_point_of_resumption() {
        let mut watcher = watcher(5);
        check(&mut watcher, response(30, &[], false), Some(&[]), 31);
        // An older one does not move it back.
        check(&mut watcher, response(8, &[], false), Some(&[]), 31);
    }

    #[test]
    fn parts_are_handed_out_together_or_not_at_all() {
        let mut watcher = watcher(5);
        check(&mut watcher, response(9, &[8], true), None, 5);
        check(&mut watcher, response(9, &[8, 8], true), None, 5);
        check(
            &mut watcher,
            response(9, &[8], false),
            Some(&[8, 8, 8, 8]),
            9,
        );
    }
}
