//! Requests, answers and watch messages on their way.

use std::time::Duration;

use kvorum_member::apply::{RequestError, Response};
use kvorum_member::check;
use kvorum_member::consensus::{Proposal, ReadToken, Role};
use kvorum_member::core::Input;
use kvorum_member::lease;
use kvorum_mvcc::watch::{self, Room, StreamId};
use kvorum_proto::etcdserverpb::{RangeResponse, ResponseHeader, WatchCreateRequest};
use kvorum_proto::ids::LeaseId;
use prost::Message as _;

use super::node::Place;
use super::process::{OperationId, Waiter};
use super::watcher::Stream;
use super::{Event, World, client, wire};
use crate::history::{Outcome, Refusal, Reply, Request};

/// How long a client waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a client waits before it tries a member again that is not there.
const RETRY: Duration = Duration::from_millis(100);

// Clients that write and read.
impl World {
    pub(super) fn plan_act(&mut self, client: usize) {
        let (low, high) = self.mix.think_micros;
        let delay = Duration::from_micros(self.traffic.between(low, high));
        self.plan(delay, Event::Act { client });
    }

    /// A message takes this long; most are fast.
    fn network_delay(&mut self) -> Duration {
        let micros = match self.traffic.below(20) {
            0 => self.traffic.between(2_000, 200_000),
            _ => self.traffic.between(20, 1_500),
        };
        Duration::from_micros(micros)
    }

    pub(super) fn act(&mut self, client: usize) {
        let known = &self.clients[client];
        if self.is_resting || !known.acts || known.waits_for.is_some() {
            return;
        }
        let Some(boot) = self.serving(self.clients[client].member) else {
            self.clients[client].member = self.any_member();
            return self.plan(RETRY, Event::Act { client });
        };
        let request = self.clients[client].choose(&mut self.traffic);
        let name = self.clients[client].kind.name();
        *self.by_workload.entry(name).or_default() += 1;
        self.send(client, boot, request);
    }

    /// The life of this member, if it takes requests now.
    pub(super) fn serving(&self, place: Place) -> Option<u64> {
        let process = self.nodes.get(place)?.process.as_ref()?;
        process.hub.as_ref().map(|_| process.boot)
    }

    /// A member to talk to next; it may be down.
    pub(super) fn any_member(&mut self) -> Place {
        self.traffic.below(self.nodes.len() as u64) as Place
    }

    pub(super) fn send(&mut self, client: usize, boot: u64, request: Request) -> OperationId {
        let operation = self.history.operations.len();
        self.log.line(self.now, || {
            format!("client {client} sends {operation}: {request:?}")
        });
        self.count("requests");
        self.history
            .operations
            .push(client::sent(client as u32, self.now, request));
        self.clients[client].waits_for = Some(operation);
        self.clients[client].boot = boot;
        let delay = self.network_delay();
        self.plan(
            delay,
            Event::Arrive {
                boot,
                operation,
                forwarded: false,
            },
        );
        self.plan(REQUEST_TIMEOUT, Event::GiveUp { operation });
        operation
    }

    pub(super) fn arrive(&mut self, boot: u64, operation: OperationId, forwarded: bool) {
        let request = self.history.operations[operation].request.clone();
        let Some(place) = self.place_of_boot(boot) else {
            return self.give_up(operation);
        };
        if !forwarded && matches!(request, Request::KeepAlive { .. }) && !self.leads(place) {
            return self.forward(place, operation);
        }
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        match &request {
            Request::Range {
                serializable: true, ..
            } => self.read(boot, operation),
            // A lone voter needs no round; both ways must be right.
            Request::Range { .. }
                if process.core.status().leadership.alone && operation.is_multiple_of(2) =>
            {
                self.read(boot, operation);
            }
            Request::Range { .. } => {
                let token = process.next_token();
                process.asked.insert(token, operation);
                process.core.input(Input::Read(ReadToken(token)));
            }
            Request::KeepAlive { lease } => {
                let token = process.next_token();
                process.asked.insert(token, operation);
                process.core.input(Input::KeepAlive {
                    token: lease::Token(token),
                    id: LeaseId(*lease),
                });
            }
            _ => self.arrive_for_the_log(place, operation, &request),
        }
    }

    pub(super) fn leads(&self, place: Place) -> bool {
        let process = self.nodes[place].process.as_ref();
        process.is_some_and(|it| it.core.status().leadership.role == Role::Leader)
    }

    /// What only a leader can answer goes to it, as the server's transport does it.
    fn forward(&mut self, place: Place, operation: OperationId) {
        let known = self.nodes[place].process.as_ref();
        let leader = known.map(|process| process.core.status().leadership.leader);
        let to = leader.and_then(|leader| self.place_of(leader));
        let reached = to.filter(|to| !self.is_cut(place, *to) && !self.is_cut(*to, place));
        match reached.and_then(|to| self.serving(to)) {
            Some(boot) => {
                self.count("keep-alives forwarded to a leader");
                let delay = self.network_delay();
                self.plan(
                    delay,
                    Event::Arrive {
                        boot,
                        operation,
                        forwarded: true,
                    },
                );
            }
            None => self.answer(operation, Err(Refusal::Other("no leader".to_owned()))),
        }
    }

    fn arrive_for_the_log(&mut self, place: Place, operation: OperationId, request: &Request) {
        let physical = self.traffic.chance(1, 2);
        let proposal = wire::proposal(request, physical);
        if let Ok(payload) = &proposal
            && !self.has_room_for(place, payload)
        {
            let refusal = wire::refusal(&RequestError::NoSpace);
            return self.answer(operation, Err(refusal));
        }
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let id = process.next_request();
        let checked = proposal.and_then(|payload| {
            let data = wire::entry(id.0, payload);
            check::proposal(data.len(), check::REQUEST_BYTES_MAX_DEFAULT).map(|()| data)
        });
        match checked {
            Ok(data) => {
                process.proposed.insert(id, Waiter::Client(operation));
                let proposal = Proposal { id, data };
                process.core.input(Input::Propose(vec![proposal]));
            }
            Err(error) => self.answer(operation, Err(wire::refusal(&error))),
        }
    }

    pub(super) fn read_ready(&mut self, place: Place, token: u64) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let boot = process.boot;
        let Some(operation) = process.asked.remove(&token) else {
            return self.violated("one answer for each request", format!("read {token}"));
        };
        // The read runs in a task of its own, on whatever is published then.
        let delay = Duration::from_micros(self.schedule.between(0, 500));
        self.plan(delay, Event::Read { boot, operation });
    }

    pub(super) fn read(&mut self, boot: u64, operation: OperationId) {
        let Request::Range {
            keys,
            revision,
            serializable,
            limit,
        } = &self.history.operations[operation].request
        else {
            return;
        };
        let request = wire::range(keys, *revision, *serializable, *limit);
        let place = self.place_of_boot(boot);
        let Some(process) = place.and_then(|place| self.nodes[place].process.as_ref()) else {
            return self.give_up(operation);
        };
        let view = &process.view.keys;
        let header = ResponseHeader {
            revision: view.current_revision(),
            ..Default::default()
        };
        let answer = check::range(&request)
            .and_then(|()| view.range(&request).map_err(RequestError::from))
            .map(|reply| reply.encode(Some(&header.encode_to_vec())));
        match answer.map(RangeResponse::decode) {
            Ok(Ok(message)) => {
                let pairs = message.kvs.iter().map(wire::pair).collect();
                self.answer(
                    operation,
                    Ok(Reply::Pairs {
                        revision: header.revision,
                        pairs,
                        count: message.count,
                    }),
                );
            }
            Ok(Err(error)) => self.violated("answers decode", error.to_string()),
            Err(error) => self.answer(operation, Err(wire::refusal(&error))),
        }
    }

    pub(super) fn reply(&mut self, operation: OperationId, result: Result<Response, RequestError>) {
        let request = &self.history.operations[operation].request;
        match result.map(|response| wire::reply(request, &response)) {
            Ok(Ok(reply)) => self.answer(operation, Ok(reply)),
            Ok(Err(story)) => self.violated("answers decode", story),
            Err(error) => self.answer(operation, Err(wire::refusal(&error))),
        }
    }

    /// Sends an answer; it reaches its client even if the member dies meanwhile.
    pub(super) fn answer(&mut self, operation: OperationId, result: Result<Reply, Refusal>) {
        let delay = self.network_delay();
        self.plan(delay, Event::Answer { operation, result });
    }

    pub(super) fn answered(&mut self, operation: OperationId, result: Result<Reply, Refusal>) {
        let now = self.now;
        let entry = &mut self.history.operations[operation];
        let client = entry.client as usize;
        if self.clients[client].waits_for != Some(operation) {
            return;
        }
        self.log.line(now, || {
            format!("client {client} hears {operation}: {result:?}")
        });
        entry.returned = Some(now);
        entry.outcome = match result {
            Ok(reply) => Outcome::Replied(reply),
            Err(refusal) => Outcome::Refused(refusal),
        };
        let counted = match (&entry.request, &entry.outcome) {
            (_, Outcome::Refused(Refusal::Compacted)) => "reads of compacted revisions",
            (Request::Compact { .. }, Outcome::Replied(_)) => "compactions",
            (Request::Revoke { .. }, Outcome::Replied(_)) => "leases revoked",
            (Request::KeepAlive { .. }, Outcome::Replied(_)) => "leases kept alive",
            (Request::Range { .. }, Outcome::Replied(_)) => "reads",
            (_, Outcome::Replied(_)) => "writes",
            (_, _) => "refusals",
        };
        self.clients[client].waits_for = None;
        self.clients[client].learn(&self.history.operations[operation]);
        self.count(counted);
        if counted == "refusals" && self.traffic.chance(1, 2) {
            self.clients[client].member = self.any_member();
        }
        self.plan_act(client);
    }

    pub(super) fn give_up(&mut self, operation: OperationId) {
        let client = self.history.operations[operation].client as usize;
        if self.clients[client].waits_for == Some(operation) {
            self.log
                .line(self.now, || format!("client {client} gives {operation} up"));
            self.clients[client].waits_for = None;
            self.clients[client].learn(&self.history.operations[operation]);
            self.clients[client].member = self.any_member();
            self.count("requests without an answer");
            self.plan_act(client);
        }
    }
}

// Clients that watch.
impl World {
    pub(super) fn watch_act(&mut self, client: usize) {
        let pause = Duration::from_millis(self.traffic.between(50, 1_500));
        self.plan(pause, Event::WatchAct { client });
        let member = self.any_member();
        let Some(boot) = self.serving(member) else {
            return;
        };
        match &self.watch_clients[client].stream {
            None => self.open_stream(client, boot),
            Some(stream) => {
                let stream = stream.id;
                let leaves = if self.watch_clients[client].storms {
                    4
                } else {
                    1
                };
                if !self.is_resting && self.traffic.chance(leaves, 12) {
                    self.log
                        .line(self.now, || format!("watch client {client} leaves"));
                    self.count("watch streams left");
                    self.post(client, watch::Input::StreamClosed { stream });
                    self.watch_clients[client].stream = None;
                } else if self.traffic.chance(1, 3) {
                    self.post(client, watch::Input::Progress { stream });
                }
            }
        }
    }

    fn open_stream(&mut self, client: usize, boot: u64) {
        self.streams += 1;
        let stream = StreamId(self.streams);
        self.log.line(self.now, || {
            format!("watch client {client} opens stream {stream}")
        });
        self.watch_clients[client].stream = Some(Stream {
            id: stream,
            boot,
            to_member: self.now,
            to_client: self.now,
        });
        let (messages, bytes) = self.mix.window;
        let window = Room { messages, bytes };
        self.post(
            client,
            watch::Input::StreamOpened {
                stream,
                window,
                requires_leader: self.watch_clients[client].requires_leader,
            },
        );
        for request in self.watch_clients[client].begin() {
            self.create(client, stream, request);
        }
    }

    fn create(&mut self, client: usize, stream: StreamId, request: WatchCreateRequest) {
        // The view is the one at the request's arrival.
        let view = kvorum_mvcc::View::default();
        self.post(
            client,
            watch::Input::Create {
                stream,
                request,
                view,
                denied: None,
            },
        );
    }

    /// Sends something on the client's stream, behind what was sent before.
    fn post(&mut self, client: usize, request: watch::Input) {
        let delay = self.network_delay();
        let Some(stream) = &mut self.watch_clients[client].stream else {
            return;
        };
        stream.to_member = stream.to_member.max(self.now + delay);
        let (at, boot) = (stream.to_member, stream.boot);
        self.plan_at(at, Event::ToHub { boot, request });
    }

    pub(super) fn reach_hub(&mut self, boot: u64, mut request: watch::Input) {
        let Some(process) = self.process_of(boot) else {
            return;
        };
        if let watch::Input::Create { view, .. } = &mut request {
            *view = process.view.keys.clone();
        }
        process.hub_inputs.push_back(request);
    }

    /// A message leaves the hub; one for a stream that its client has left leads nowhere.
    pub(super) fn send_message(&mut self, message: watch::Message) {
        let delay = self.network_delay();
        let now = self.now;
        let mut streams = self.watch_clients.iter_mut().enumerate();
        let found = streams.find_map(|(client, watch_client)| {
            let stream = watch_client
                .stream
                .as_mut()
                .filter(|stream| stream.id == message.stream)?;
            stream.to_client = stream.to_client.max(now + delay);
            Some((client, stream.to_client))
        });
        if let Some((client, at)) = found {
            self.plan_at(at, Event::Message { client, message });
        }
    }

    pub(super) fn message(&mut self, client: usize, message: &watch::Message) {
        let Some(stream) = &self.watch_clients[client].stream else {
            return;
        };
        let (id, boot) = (stream.id, stream.boot);
        if id != message.stream {
            return;
        }
        self.log.line(self.now, || {
            format!(
                "watch client {client} gets {:?} with {}",
                message.kind, message.events
            )
        });
        self.count(match message.kind {
            watch::MessageKind::Control => "watches confirmed",
            watch::MessageKind::Events => "watch messages",
            watch::MessageKind::Compacted => "watches ended by a compaction",
            watch::MessageKind::Progress => "watch bookmarks",
        });
        let gone = Room {
            messages: 1,
            bytes: message.bytes(),
        };
        self.reach_hub(boot, watch::Input::Room { stream: id, gone });
        let bytes = [&message.head[..], &message.body[..]].concat().into();
        match self.watch_clients[client].take(&bytes, &mut self.history) {
            Ok(Some(again)) => self.create(client, id, again),
            Ok(None) => {}
            Err(story) => self.violated("watch messages make sense", story),
        }
    }

    /// Every stream to this life of a member broke.
    pub(super) fn break_streams(&mut self, boot: u64) {
        let mut broken = 0;
        for client in &mut self.watch_clients {
            if client
                .stream
                .take_if(|stream| stream.boot == boot)
                .is_some()
            {
                broken += 1;
            }
        }
        *self.counts.entry("watch streams lost").or_default() += broken;
    }

    /// The member ends a stream because there is no leader; the client comes again, to whomever.
    pub(super) fn cancel_stream(&mut self, id: StreamId) {
        self.count("watch streams ended without a leader");
        for client in &mut self.watch_clients {
            let asked = client.requires_leader;
            if client.stream.take_if(|stream| stream.id == id).is_some() && !asked {
                return self.violated("streams that need no leader go on", format!("stream {id}"));
            }
        }
    }
}
