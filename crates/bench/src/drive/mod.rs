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

mod due;
mod lane;
mod waiting;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::endpoint::Endpoint;
use crate::latency::Latencies;
use crate::poller::{OnTime, Poller};
use crate::tally::{Tally, Window};
use crate::workload::Workload;
use due::Due;
use lane::Lane;

/// How long answers are waited for after the end. Large requests on many connections take long, and what is still under
/// way would disturb the next run.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

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
    slice: Option<Duration>,
}

impl Driver {
    /// Connects once per workload, to the endpoint beside it; each connection has up to `in_flight` requests in flight.
    pub(crate) fn open(
        workloads: Vec<(&Endpoint, Box<dyn Workload>)>,
        in_flight: usize,
        pace: Pace,
    ) -> Result<Self> {
        let poller = Poller::new()?;
        let mut lanes = Vec::new();
        for (endpoint, workload) in workloads {
            let lane = Lane::open(endpoint, workload, in_flight)?;
            lane.register(&poller, lanes.len())?;
            lanes.push(lane);
        }
        ensure!(!lanes.is_empty(), "at least one connection is needed");
        Ok(Self {
            lanes,
            poller,
            pace,
            slice: None,
        })
    }

    /// Also counts by slices of the window.
    pub(crate) fn slice(&mut self, length: Duration) -> Result<()> {
        ensure!(!length.is_zero(), "slices of nothing");
        self.slice = Some(length);
        Ok(())
    }

    /// Runs to the end; answers are added to `progress`.
    pub(crate) fn run(mut self, extent: Extent, progress: &AtomicU64) -> Result<Tally> {
        let _on_time = match self.pace {
            Pace::Open(_) => Some(OnTime::begin()?),
            Pace::Closed => None,
        };
        let mut turn = Turn::new(extent, self.pace);
        turn.slice = self.slice;
        let mut due = Due::from(self.pace, Instant::now());
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
        let late = |lane: &Lane| if turn.closed { 0 } else { lane.wanted() };
        let waiting = |lane: &Lane| lane.waiting() + late(lane);
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
        let idle = |lane: &Lane| lane.waiting() == 0 && (lane.wanted() == 0 || turn.closed);
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
    slice: Option<Duration>,
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
            slice: None,
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
        let Extent::Time(window) = self.extent else {
            return self.tally.latencies.add(self.now - since);
        };
        let moment = if self.closed { self.now } else { since };
        if !window.holds(moment) {
            return;
        }
        self.tally.latencies.add(self.now - since);
        if let Some(length) = self.slice {
            let place = (moment - window.from).div_duration_f64(length) as usize;
            let slices = &mut self.tally.slices;
            if slices.len() <= place {
                slices.resize_with(place + 1, Latencies::default);
            }
            slices[place].add(self.now - since);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::due::Due;
    use super::{Extent, Pace, Turn};
    use crate::tally::Window;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A server that answers after a millisecond, but not at all between 300 and 700 ms. What a second looks like to a
    /// user with one request in flight.
    fn a_second_with_a_stall(pace: Pace) -> Turn {
        let start = Instant::now();
        let window = Window {
            from: start,
            until: start + SECOND,
        };
        let (stalls, goes_on) = (start + 300 * MILLISECOND, start + 700 * MILLISECOND);
        let answer = |asked: Instant| {
            let answered = asked + MILLISECOND;
            let late = answered > stalls && answered < goes_on;
            if late {
                goes_on + MILLISECOND
            } else {
                answered
            }
        };
        let mut turn = Turn::new(Extent::Time(window), pace);
        let mut due = Due::from(pace, start);
        let mut free = start;
        loop {
            let since = match pace {
                Pace::Closed => free,
                Pace::Open(_) => due.next(window.until).unwrap(),
            };
            if since >= window.until {
                return turn;
            }
            free = answer(since.max(free));
            turn.now = free;
            turn.answered(since);
        }
    }

    #[test]
    fn an_open_loop_tells_of_every_request_that_was_due_in_a_stall() {
        let found = a_second_with_a_stall(Pace::Open(2 * MILLISECOND)).tally;
        // 500 were due; those of 400 ms waited, and those behind them while the line got shorter.
        assert_eq!(found.latencies.total(), 500);
        let found = found.latencies.percentiles();
        assert!(found.p50 > 50_000.0, "{found:?}");
        assert!(found.p99 > 380_000.0, "{found:?}");
    }

    #[test]
    fn a_closed_loop_asks_less_while_the_server_stalls() {
        let found = a_second_with_a_stall(Pace::Closed).tally;
        let found = found.latencies.percentiles();
        assert!(found.p99 < 1_100.0, "{found:?}");
        assert!(found.max > 390_000.0, "{found:?}");
    }
}
