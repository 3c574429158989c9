//! One connection with its requests.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::Turn;
use super::waiting::Waiting;
use crate::endpoint::Endpoint;
use crate::http2::{CallEnd, Connection, Event};
use crate::poller::Poller;
use crate::workload::{Step, Workload};

pub(super) struct Lane {
    connection: Connection,
    workload: Box<dyn Workload>,
    pub(super) in_flight_max: usize,
    request_bytes_max: usize,
    wanted: VecDeque<Wanted>,
    waiting: Waiting,
    writes: bool,
}

/// A request that is wanted and not made yet.
#[derive(Clone, Copy)]
struct Wanted {
    /// Since when its operation was due.
    since: Instant,
    /// The operation that it goes on with; none: a new one.
    follows: Option<u64>,
}

impl Lane {
    pub(super) fn open(
        endpoint: &Endpoint,
        workload: Box<dyn Workload>,
        in_flight: usize,
    ) -> Result<Self> {
        let mut connection = Connection::open(endpoint, workload.paths())?;
        let waiting = if workload.is_stream() {
            connection.outbox.begin_long_call();
            Waiting::in_order()
        } else {
            Waiting::by_stream()
        };
        Ok(Self {
            connection,
            request_bytes_max: workload.request_bytes_max(),
            workload,
            in_flight_max: in_flight,
            wanted: VecDeque::new(),
            waiting,
            writes: false,
        })
    }

    pub(super) fn register(&self, poller: &Poller, place: usize) -> Result<()> {
        poller.add(self.connection.socket(), place)
    }

    pub(super) fn want(&mut self, requests: usize, since: Instant) {
        let wanted = Wanted {
            since,
            follows: None,
        };
        self.wanted.extend(std::iter::repeat_n(wanted, requests));
    }

    /// Requests without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that are not made yet.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Makes the requests that are wanted and have room, and writes.
    pub(super) fn send(&mut self, place: usize, poller: &Poller, turn: &mut Turn) -> Result<()> {
        let outbox = &mut self.connection.outbox;
        let is_stream = self.waiting.is_in_order();
        while self.waiting.len() < self.in_flight_max
            && let Some(wanted) = self.wanted.front().copied()
            && (!turn.closed || wanted.follows.is_some() || turn.more_wanted())
            && outbox.has_room(self.request_bytes_max)
        {
            self.wanted.pop_front();
            let request = match wanted.follows {
                Some(number) => self.workload.follow(number),
                None => {
                    turn.made += 1;
                    self.workload.next()
                }
            };
            let number = request.number;
            let stream = if is_stream {
                outbox.send_long(request.message);
                0
            } else {
                outbox.call(request.path, request.message)
            };
            self.waiting.add(stream, number, wanted.since);
        }
        let blocked = !self.connection.flush()?;
        if blocked != self.writes {
            poller.want_write(self.connection.socket(), place, blocked)?;
            self.writes = blocked;
        }
        Ok(())
    }

    /// Takes the answers that came.
    pub(super) fn receive(&mut self, turn: &mut Turn) -> Result<()> {
        let Self {
            connection,
            workload,
            wanted,
            waiting,
            ..
        } = self;
        let in_order = waiting.is_in_order();
        connection.receive(|event, _| {
            let ended = match event {
                Event::Message { stream, message } => {
                    let request = waiting.front_or(stream)?;
                    request.step = Some(workload.check(request.number, message)?);
                    in_order.then_some(stream)
                }
                Event::End { stream, end } if end.code != 0 => {
                    ensure!(!in_order, "the stream {end}");
                    waiting.take(stream)?;
                    refused(turn, wanted, end);
                    None
                }
                Event::End { stream, .. } => Some(stream),
                Event::Goodbye { .. } => bail!("the server says goodbye"),
            };
            if let Some(stream) = ended {
                let request = waiting.take(stream)?;
                match request.step {
                    None => bail!("a call that succeeded without an answer"),
                    Some(Step::Done) => {
                        turn.answered(request.since);
                        if turn.closed {
                            wanted.push_back(Wanted {
                                since: turn.now,
                                follows: None,
                            });
                        }
                    }
                    Some(step) => {
                        turn.tally.conflicts += u64::from(step == Step::Again);
                        wanted.push_front(Wanted {
                            since: request.since,
                            follows: Some(request.number),
                        });
                    }
                }
            }
            Ok(())
        })
    }
}

/// A call that failed is counted, and in a closed loop another one takes its place.
fn refused(turn: &mut Turn, wanted: &mut VecDeque<Wanted>, end: CallEnd) {
    turn.tally.refuse(end);
    if turn.closed {
        wanted.push_back(Wanted {
            since: turn.now,
            follows: None,
        });
    }
}
