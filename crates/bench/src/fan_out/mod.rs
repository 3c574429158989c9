//! One put, many watchers.
//!
//! Every watcher watches all keys. A round is one put; the next begins when the put is answered and every watcher has
//! its event. Each event is one operation, and its latency is from the put's request to the event's arrival. A
//! watcher that gets none, two or the wrong one ends the run.

mod audience;
mod stream;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::http2::{Connection, Event};
use crate::load::Target;
use crate::tally::{Tally, Window};
use crate::workload::{Put, Workload};
pub(crate) use audience::Audience;
use stream::{Answer, SILENCE_MAX, Streams, all_keys};

/// Streams with watchers, and a connection that puts.
pub(crate) struct FanOut {
    streams: Streams,
    /// By stream and watch id: the round of the last event.
    rounds: Vec<Vec<u64>>,
    writer: Connection,
    put: Put,
    /// Watchers of all streams.
    watchers: usize,
}

/// The put that is under way.
struct Round {
    number: u64,
    since: Instant,
    events: usize,
    put_answered: bool,
}

impl FanOut {
    /// Creates `watchers` watchers on `streams` streams, each on its own connection, evenly.
    pub(crate) fn open(target: &Target, streams: usize, watchers: usize, put: Put) -> Result<Self> {
        let streams = Streams::open(target, streams, watchers, all_keys())?;
        let writer = Connection::open(target.first()?, put.paths())?;
        streams.poller.add(writer.socket(), streams.all.len())?;
        let of_each = streams.all.iter().map(|stream| vec![0; stream.watchers()]);
        Ok(Self {
            rounds: of_each.collect(),
            streams,
            writer,
            put,
            watchers,
        })
    }

    /// Puts until the window ends. Returns one latency per event.
    pub(crate) fn run(mut self, window: Window, progress: &AtomicU64) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut ready = Vec::new();
        let mut number = 0;
        while Instant::now() < window.until {
            number += 1;
            let mut round = self.begin(number)?;
            while round.events < self.watchers || !round.put_answered {
                self.streams.poller.wait(SILENCE_MAX, &mut ready)?;
                ensure!(
                    !ready.is_empty(),
                    "round {number}: {} of {} events came, then silence",
                    round.events,
                    self.watchers
                );
                let before = round.events;
                for place in &ready {
                    self.receive(*place, &mut round, window, &mut tally)?;
                }
                progress.fetch_add((round.events - before) as u64, Ordering::Relaxed);
            }
        }
        Ok(tally)
    }

    fn begin(&mut self, number: u64) -> Result<Round> {
        let request = self.put.next();
        self.writer.outbox.call(request.path, request.message);
        let since = Instant::now();
        ensure!(self.writer.flush()?, "the server does not take a put");
        Ok(Round {
            number,
            since,
            events: 0,
            put_answered: false,
        })
    }

    fn receive(
        &mut self,
        place: usize,
        round: &mut Round,
        window: Window,
        tally: &mut Tally,
    ) -> Result<()> {
        let Some(stream) = self.streams.all.get_mut(place) else {
            return self.receive_put(round);
        };
        let now = Instant::now();
        let rounds = &mut self.rounds[place];
        stream.connection.receive(|event, _| {
            let answer = Answer::read(event)?;
            let last = rounds
                .get_mut(answer.watch)
                .context("an event for an unknown watcher")?;
            ensure!(answer.events == 1, "{} events in one round", answer.events);
            ensure!(
                *last + 1 == round.number,
                "watcher {} got an event of round {} after that of {last}",
                answer.watch,
                round.number
            );
            *last = round.number;
            round.events += 1;
            if window.holds(now) {
                tally.latencies.add(now - round.since);
            }
            Ok(())
        })?;
        self.streams.write(place)
    }

    fn receive_put(&mut self, round: &mut Round) -> Result<()> {
        let put = &mut self.put;
        self.writer.receive(|event, _| match event {
            Event::Message { message, .. } => {
                put.check(0, message)?;
                Ok(())
            }
            Event::End { end, .. } if end.code != 0 => bail!("a put {end}"),
            Event::End { .. } => {
                round.put_answered = true;
                Ok(())
            }
            Event::Goodbye { .. } => bail!("the server says goodbye"),
        })?;
        // Acknowledgements of the server's pings, the rest of a large put.
        self.writer.flush()?;
        Ok(())
    }
}
