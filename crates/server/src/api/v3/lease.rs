//! Leases: granted and revoked through the log, kept alive by the leader's deadlines.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_member::core::Input;
use kvorum_member::{check, lease};
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use kvorum_proto::ids::LeaseId;

use super::{Api, body, decode, decode_or_answer, status};
use crate::runtime::{LeaseAnswer, LeaseStream, LeaseWaiter, leader};
use crate::transport::{Body, Credit, ReplySink, RequestStream, Status, StreamSink};

pub(super) fn grant(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let mut request: LeaseGrantRequest = decode_or_answer!(message, reply);
    if let Err(error) = check::lease_grant(&mut request, api.limits.election_timeout) {
        return reply.send(Err(status(error)));
    }
    if request.id == 0 {
        request.id = api.member.next_lease_id().0;
    }
    api.member.propose(
        Payload::LeaseGrant(request),
        api.limits.request_bytes_max,
        reply,
    );
}

pub(super) fn revoke(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: LeaseRevokeRequest = decode_or_answer!(message, reply);
    api.member.propose(
        Payload::LeaseRevoke(request),
        api.limits.request_bytes_max,
        reply,
    );
}

pub(super) fn time_to_live(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: LeaseTimeToLiveRequest = decode_or_answer!(message, reply);
    let id = LeaseId(request.id);
    if !api.member.is_leader() {
        return time_to_live_there(api, request, reply);
    }
    let member = api.member.clone();
    let answer = move |ttl: Result<lease::Output, RequestError>, keys: Vec<Bytes>| {
        let (ttl, granted) = match ttl {
            Ok(lease::Output::TimeToLive {
                ttl_seconds,
                granted_seconds,
                ..
            }) => (ttl_seconds, granted_seconds),
            Ok(_) => return Err(status(RequestError::NotPrimary)),
            Err(error) => return Err(status(error)),
        };
        body(&LeaseTimeToLiveResponse {
            header: Some(member.header(member.view().current_revision())),
            id: id.0,
            ttl,
            granted_ttl: granted,
            keys,
        })
    };
    let member = api.member.clone();
    let ask = |token, id| Input::TimeToLive { token, id };
    api.member.ask_lease(id, ask, move |ttl| {
        if !request.keys {
            return reply.send(answer(ttl, Vec::new()));
        }
        member.inspect(move |core, _| {
            let grant = core.apply().grants().lease(id);
            let keys = grant
                .map(|grant| grant.keys().cloned().collect())
                .unwrap_or_default();
            reply.send(answer(ttl, keys));
        });
    });
}

/// Only the leader knows: it is asked by this member, whoever it is by then.
fn time_to_live_there(api: &Arc<Api>, request: LeaseTimeToLiveRequest, reply: ReplySink) {
    let member = api.member.clone();
    api.answer_by_task(reply, async move {
        let mut found = leader::time_to_live(&member, request)
            .await
            .map_err(status)?;
        found.header = Some(member.header(member.view().current_revision()));
        body(&found)
    });
}

pub(super) fn leases(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let _request: LeaseLeasesRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    api.member.inspect(move |core, _| {
        let leases = core.leases().list();
        let header = member.header(core.apply().read_view().keys.current_revision());
        reply.run(move || {
            let leases = leases.iter().map(|id| LeaseStatus { id: id.0 }).collect();
            body(&LeaseLeasesResponse {
                header: Some(header),
                leases,
            })
        });
    });
}

/// Requests of one keep-alive stream. They are asked as they come and answered in that order.
pub(super) struct KeepAliveStream {
    shared: Arc<Shared>,
}

struct Shared {
    api: Arc<Api>,
    replies: StreamSink,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(LeaseId, Credit)>,
    /// Questions that are asked, in order, with the answers that came before those of earlier ones.
    asked: VecDeque<Option<LeaseAnswer>>,
    /// The number of the first of them.
    first: u64,
    /// The client will send no more.
    finished: bool,
    /// The stream has ended with an error.
    failed: bool,
}

impl State {
    /// The next question and its number. One at a time is passed on to another member that leads.
    fn next(&mut self, is_leader: bool) -> Option<(LeaseId, Credit, u64)> {
        if self.failed || !is_leader && !self.asked.is_empty() {
            return None;
        }
        let (id, credit) = self.waiting.pop_front()?;
        let number = self.first + self.asked.len() as u64;
        self.asked.push_back(None);
        Some((id, credit, number))
    }

    /// Keeps an answer until its turn has come.
    fn keep(&mut self, number: u64, answer: LeaseAnswer) {
        let place = (number - self.first) as usize;
        if let Some(kept) = self.asked.get_mut(place) {
            *kept = Some(answer);
        }
    }

    /// The next answer whose turn has come.
    fn next_answer(&mut self) -> Option<LeaseAnswer> {
        let answer = self.asked.front_mut()?.take()?;
        self.asked.pop_front();
        self.first += 1;
        Some(answer)
    }
}

impl KeepAliveStream {
    pub(super) fn new(api: &Arc<Api>, replies: StreamSink) -> Self {
        let state = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                api: Arc::clone(api),
                replies,
                state,
            }),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks what waits.
    fn advance(self: &Arc<Self>) {
        let is_leader = self.api.member.is_leader();
        loop {
            let mut state = self.lock();
            let next = state.next(is_leader);
            let is_over = state.finished && !state.failed && state.asked.is_empty();
            drop(state);
            match next {
                Some((id, credit, number)) if is_leader => self.ask(id, credit, number),
                Some((id, credit, number)) => self.pass_on(id, credit, number),
                None if is_over => return self.replies.finish(Ok(())),
                None => return,
            }
        }
    }

    fn ask(self: &Arc<Self>, id: LeaseId, credit: Credit, number: u64) {
        let ask = |token, id| Input::KeepAlive { token, id };
        let waiter = LeaseWaiter::Stream {
            stream: Arc::clone(self) as Arc<dyn LeaseStream>,
            number,
            credit,
        };
        self.api.member.ask_lease_for(id, ask, waiter);
    }

    /// Asks the member that leads.
    fn pass_on(self: &Arc<Self>, id: LeaseId, credit: Credit, number: u64) {
        let shared = Arc::clone(self);
        self.api.runtime.spawn(async move {
            let answer = leader::keep_alive(&shared.api.member, id).await;
            drop(credit);
            let answer = answer.map(|ttl_seconds| lease::Output::KeptAlive {
                token: lease::Token(0),
                id,
                ttl_seconds,
            });
            shared.answer(number, answer);
        });
    }

    /// Sends an answer; false: the stream has ended with it.
    fn send(&self, answer: LeaseAnswer) -> bool {
        let member = &self.api.member;
        let failure = match answer {
            Ok(lease::Output::KeptAlive {
                id, ttl_seconds, ..
            }) => {
                if ttl_seconds > 0 {
                    member.metrics().lease_renewed.increment();
                }
                let answer = LeaseKeepAliveResponse {
                    header: Some(member.header(member.current_revision())),
                    id: id.0,
                    ttl: ttl_seconds,
                };
                self.replies.send(Body::answer_of(&answer));
                return true;
            }
            Ok(_) => RequestError::NotPrimary,
            Err(error) => error,
        };
        self.replies.finish(Err(status(failure)));
        false
    }
}

impl LeaseStream for Shared {
    fn answer(self: Arc<Self>, number: u64, answer: LeaseAnswer) {
        let mut state = self.lock();
        state.keep(number, answer);
        // Sent under the lock, so that no later answer overtakes.
        while !state.failed
            && let Some(answer) = state.next_answer()
        {
            state.failed = !self.send(answer);
        }
        drop(state);
        self.advance();
    }
}

impl RequestStream for KeepAliveStream {
    fn message(&mut self, message: Bytes, credit: Credit) {
        let request: Result<LeaseKeepAliveRequest, Status> = decode(message);
        match request {
            Ok(request) => {
                self.shared
                    .lock()
                    .waiting
                    .push_back((LeaseId(request.id), credit));
                self.shared.advance();
            }
            Err(malformed) => self.shared.replies.finish(Err(malformed)),
        }
    }

    fn finished(&mut self) {
        self.shared.lock().finished = true;
        self.shared.advance();
    }

    fn room(&mut self) {}

    fn closed(&mut self) {
        self.shared.lock().waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use kvorum_member::apply::RequestError;

    use super::State;

    #[test]
    fn answers_leave_in_the_order_of_their_questions() {
        let mut state = State::default();
        state.asked.extend([None, None, None]);
        state.keep(2, Err(RequestError::Timeout));
        state.keep(1, Err(RequestError::NotPrimary));
        assert_eq!(state.next_answer(), None);
        state.keep(0, Err(RequestError::Stopped));
        let left: Vec<_> = std::iter::from_fn(|| state.next_answer()).collect();
        assert_eq!(
            left,
            [
                Err(RequestError::Stopped),
                Err(RequestError::NotPrimary),
                Err(RequestError::Timeout)
            ]
        );
        assert_eq!(state.first, 3);
    }
}
