//! One thread that keeps connections busy.
//!
//! **Closed loop:** each connection has a number of requests in flight; an answer makes the next request. Latency is
//! from the request to its answer, and counts when the answer falls into the window. A server that stalls is asked
//! less in that time: such numbers tell what it can do, not what users of a steady load feel.
//!
//! **Open loop:** requests are due at fixed times, whatever the server does. Latency is from the moment the request
//! was due, also when it had to wait for a place, and it counts when that moment falls into the window: a stall of a
//! second is seen by every request that was due in it. Requests still without an answer some seconds after the
//! end are reported.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::h2c::{Connection, Event, Outbox};
use crate::poller::Poller;
use crate::tally::{Tally, Window};
use crate::workload::Workload;

/// How long answers are waited for after the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for sockets, so that the end is not missed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// When requests are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Whenever an answer came.
    Closed,
    /// One after each interval, over all connections of the thread.
    Open(Duration),
}

/// When it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// At the end of a window.
    Time(Window),
    /// After so many requests, all of which must succeed.
    Count(u64),
}

/// The connections of one thread.
pub(crate) struct Driver {
    lanes: Vec<Lane>,
    poller: Poller,
    pace: Pace,
}

impl Driver {
    /// Connects once per workload; each connection has up to `in_flight` requests in flight.
    pub(crate) fn open(
        address: SocketAddr,
        workloads: Vec<Box<dyn Workload>>,
        in_flight: usize,
        pace: Pace,
    ) -> Result<Self> {
        let poller = Poller::new()?;
        let mut lanes = Vec::new();
        for workload in workloads {
            let lane = Lane::open(address, workload, in_flight)?;
            poller.add(lane.connection.socket(), lanes.len())?;
            lanes.push(lane);
        }
        ensure!(!lanes.is_empty(), "at least one connection is needed");
        Ok(Self {
            lanes,
            poller,
            pace,
        })
    }

    /// Runs to the end; answers are added to `progress`.
    pub(crate) fn run(mut self, extent: Extent, progress: &AtomicU64) -> Result<Tally> {
        let mut turn = Turn::new(extent, self.pace);
        let mut due = Due::new(self.pace);
        let mut ready = Vec::new();
        if matches!(self.pace, Pace::Closed) {
            for lane in &mut self.lanes {
                lane.want(lane.in_flight_max, turn.now);
            }
        }
        let all: Vec<usize> = (0..self.lanes.len()).collect();
        self.send(&all, &mut turn)?;
        while !self.is_done(&turn) {
            self.poller
                .wait(due.wait(turn.now).min(WAIT_MAX), &mut ready)?;
            turn.now = Instant::now();
            turn.answers = 0;
            for place in &ready {
                self.lanes[*place].receive(&mut turn)?;
            }
            while let Some(since) = due.next(turn.last_due()) {
                let place = due.place(self.lanes.len());
                self.lanes[place].want(1, since);
                ready.push(place);
            }
            self.send(&ready, &mut turn)?;
            progress.fetch_add(turn.answers, Ordering::Relaxed);
        }
        let late = |lane: &Lane| if turn.closed { 0 } else { lane.wanted.len() };
        let waiting = |lane: &Lane| lane.waiting.len() + late(lane);
        turn.tally.unanswered = self.lanes.iter().map(|lane| waiting(lane) as u64).sum();
        if let Extent::Count(count) = extent {
            let tally = &turn.tally;
            ensure!(
                tally.latencies.total() == count,
                "{} of {count} requests succeeded; refused: {:?}",
                tally.latencies.total(),
                tally.refusal
            );
        }
        Ok(turn.tally)
    }

    fn send(&mut self, places: &[usize], turn: &mut Turn) -> Result<()> {
        for place in places {
            self.lanes[*place].send(*place, &self.poller, turn)?;
        }
        Ok(())
    }

    fn is_done(&self, turn: &Turn) -> bool {
        if turn.more_wanted() {
            return false;
        }
        let idle = |lane: &Lane| lane.waiting.len() == 0 && (lane.wanted.is_empty() || turn.closed);
        match turn.extent {
            Extent::Time(window) if turn.now >= window.until + DRAIN_TIMEOUT => true,
            _ => self.lanes.iter().all(idle),
        }
    }
}

/// What the lanes share while one batch of answers is taken.
struct Turn {
    now: Instant,
    extent: Extent,
    closed: bool,
    /// Requests made so far.
    made: u64,
    answers: u64,
    tally: Tally,
}

impl Turn {
    fn new(extent: Extent, pace: Pace) -> Self {
        Self {
            now: Instant::now(),
            extent,
            closed: matches!(pace, Pace::Closed),
            made: 0,
            answers: 0,
            tally: Tally::default(),
        }
    }

    /// Whether new requests are to be made.
    fn more_wanted(&self) -> bool {
        match self.extent {
            Extent::Time(window) => self.now < window.until,
            Extent::Count(count) => self.made < count,
        }
    }

    /// Requests of an open loop that are due until then are to be made.
    fn last_due(&self) -> Instant {
        match self.extent {
            Extent::Time(window) => self.now.min(window.until),
            Extent::Count(_) => self.now,
        }
    }

    fn answered(&mut self, since: Instant) {
        self.answers += 1;
        let counts = match self.extent {
            Extent::Time(window) if self.closed => window.holds(self.now),
            Extent::Time(window) => window.holds(since),
            Extent::Count(_) => true,
        };
        if counts {
            self.tally.latencies.add(self.now - since);
        }
    }
}

/// The times at which requests of an open loop are due.
struct Due {
    interval: Option<Duration>,
    next: Instant,
    lane: usize,
}

impl Due {
    fn new(pace: Pace) -> Self {
        Self {
            interval: match pace {
                Pace::Closed => None,
                Pace::Open(interval) => Some(interval),
            },
            next: Instant::now(),
            lane: 0,
        }
    }

    /// The time until the next is due.
    fn wait(&self, now: Instant) -> Duration {
        match self.interval {
            Some(_) => self.next.saturating_duration_since(now),
            None => Duration::MAX,
        }
    }

    /// The moment of the next one that is due.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let due = self.next;
        (due <= now).then(|| {
            self.next += interval;
            due
        })
    }

    /// The connections take turns.
    fn place(&mut self, lanes: usize) -> usize {
        self.lane = (self.lane + 1) % lanes;
        self.lane
    }
}

/// One connection with its requests.
struct Lane {
    connection: Connection,
    workload: Box<dyn Workload>,
    in_flight_max: usize,
    request_bytes_max: usize,
    /// Since when requests are wanted that are not made yet.
    wanted: VecDeque<Instant>,
    waiting: Waiting,
    writes: bool,
}

impl Lane {
    fn open(address: SocketAddr, workload: Box<dyn Workload>, in_flight: usize) -> Result<Self> {
        let mut connection = Connection::open(address, workload.path())?;
        let waiting = if workload.is_stream() {
            connection.outbox.begin_long_call();
            Waiting::in_order()
        } else {
            Waiting::by_stream()
        };
        let request_bytes_max = workload.request_bytes_max();
        let allowed = connection.outbox.message_bytes_max();
        ensure!(
            request_bytes_max <= allowed,
            "requests of {request_bytes_max} bytes: this tool sends at most {allowed}, the server's first window"
        );
        Ok(Self {
            connection,
            workload,
            in_flight_max: in_flight,
            request_bytes_max,
            wanted: VecDeque::new(),
            waiting,
            writes: false,
        })
    }

    fn want(&mut self, requests: usize, since: Instant) {
        self.wanted.extend(std::iter::repeat_n(since, requests));
    }

    /// Makes the requests that are wanted and have room, and writes.
    fn send(&mut self, place: usize, poller: &Poller, turn: &mut Turn) -> Result<()> {
        let outbox = &mut self.connection.outbox;
        let is_stream = self.waiting.is_in_order();
        while self.waiting.len() < self.in_flight_max
            && (!turn.closed || turn.more_wanted())
            && outbox.has_room(self.request_bytes_max)
            && let Some(since) = self.wanted.pop_front()
        {
            let (number, request) = self.workload.next();
            let stream = if is_stream {
                outbox.send_long(request);
                0
            } else {
                outbox.call(request)
            };
            self.waiting.add(stream, number, since);
            turn.made += 1;
        }
        let blocked = !self.connection.flush()?;
        if blocked != self.writes {
            poller.want_write(self.connection.socket(), place, blocked)?;
            self.writes = blocked;
        }
        Ok(())
    }

    fn receive(&mut self, turn: &mut Turn) -> Result<()> {
        let Self {
            connection,
            workload,
            wanted,
            waiting,
            ..
        } = self;
        connection.receive(|event, _: &mut Outbox| {
            let done = match event {
                Event::Message { stream, message } => {
                    let request = waiting.front_or(stream)?;
                    workload.check(request.number, message)?;
                    request.answered = true;
                    let since = request.since;
                    waiting.is_in_order().then_some((stream, since))
                }
                Event::End { stream, end } if end.code != 0 => {
                    ensure!(
                        !waiting.is_in_order(),
                        "the stream ended: code {}: {}",
                        end.code,
                        end.text
                    );
                    waiting.take(stream)?;
                    turn.tally.refuse(end);
                    if turn.closed {
                        wanted.push_back(turn.now);
                    }
                    None
                }
                Event::End { stream, .. } => {
                    let request = waiting.front_or(stream)?;
                    ensure!(request.answered, "a call that succeeded without an answer");
                    Some((stream, request.since))
                }
            };
            if let Some((stream, since)) = done {
                waiting.take(stream)?;
                turn.answered(since);
                if turn.closed {
                    wanted.push_back(turn.now);
                }
            }
            Ok(())
        })
    }
}

/// A request without an answer.
#[derive(Clone, Copy)]
struct Request {
    number: u64,
    since: Instant,
    answered: bool,
}

/// The requests of a connection that have no answer yet.
///
/// Streams of calls are numbered 1, 3, 5, …: a queue with holes finds each without searching. On one stream, answers
/// come in order.
struct Waiting {
    requests: VecDeque<Option<Request>>,
    /// Stream of the first of them; `None` if they are answered in order.
    first: Option<u32>,
    open: usize,
}

impl Waiting {
    fn by_stream() -> Self {
        Self {
            requests: VecDeque::new(),
            first: Some(1),
            open: 0,
        }
    }

    fn in_order() -> Self {
        Self {
            first: None,
            ..Self::by_stream()
        }
    }

    fn is_in_order(&self) -> bool {
        self.first.is_none()
    }

    fn len(&self) -> usize {
        self.open
    }

    fn add(&mut self, stream: u32, number: u64, since: Instant) {
        let next = self
            .first
            .map(|first| first + 2 * self.requests.len() as u32);
        debug_assert!(
            next.is_none_or(|next| next == stream),
            "streams are numbered in order"
        );
        self.requests.push_back(Some(Request {
            number,
            since,
            answered: false,
        }));
        self.open += 1;
    }

    fn place(&self, stream: u32) -> usize {
        match self.first {
            None => 0,
            Some(first) => (stream.wrapping_sub(first) / 2) as usize,
        }
    }

    /// The request that this stream answers.
    fn front_or(&mut self, stream: u32) -> Result<&mut Request> {
        let place = self.place(stream);
        let request = self.requests.get_mut(place).and_then(Option::as_mut);
        request.context("an answer that nobody asked for")
    }

    /// Forgets it.
    fn take(&mut self, stream: u32) -> Result<Request> {
        let place = self.place(stream);
        let request = self.requests.get_mut(place).and_then(Option::take);
        self.open -= usize::from(request.is_some());
        while let Some(None) = self.requests.front() {
            self.requests.pop_front();
            self.first = self.first.map(|first| first + 2);
        }
        request.context("an answer that nobody asked for")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Due, Pace, Waiting};

    #[test]
    fn calls_are_found_in_any_order() {
        let now = Instant::now();
        let mut waiting = Waiting::by_stream();
        for (stream, number) in [(1, 10), (3, 30), (5, 50)] {
            waiting.add(stream, number, now);
        }
        assert_eq!(waiting.take(3).unwrap().number, 30);
        assert!(waiting.take(3).is_err());
        assert_eq!(waiting.take(1).unwrap().number, 10);
        waiting.add(7, 70, now);
        assert_eq!(waiting.front_or(5).unwrap().number, 50);
        assert_eq!(waiting.take(7).unwrap().number, 70);
        assert!(waiting.take(1).is_err());
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn open_loop_keeps_its_times_however_late_it_is_asked() {
        let mut due = Due::new(Pace::Open(Duration::from_millis(10)));
        let start = due.next;
        let late = start + Duration::from_millis(25);
        let times: Vec<_> = std::iter::from_fn(|| due.next(late))
            .map(|time| time - start)
            .collect();
        assert_eq!(times, [0, 10, 20].map(Duration::from_millis));
        assert_eq!(due.wait(late), Duration::from_millis(5));
    }
}
