//! One put, many watchers.
//!
//! Every watcher watches all keys. A round is one put; the next begins when the put is answered and every watcher has
//! its event. Each event is one operation, and its latency is from the put's request to the event's arrival. A
//! watcher that gets none, two or the wrong one ends the run.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use prost::Message;

use crate::fields::Fields;
use crate::h2c::{Connection, Event};
use crate::keys;
use crate::poller::Poller;
use crate::tally::{Tally, Window};
use crate::workload::{Put, Workload};

/// How long the last round, and the creation of the watchers, may take without any news.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Streams with watchers, and a connection that puts.
pub(crate) struct FanOut {
    poller: Poller,
    streams: Vec<Stream>,
    writer: Connection,
    put: Put,
    /// Watchers of all streams.
    watchers: usize,
}

struct Stream {
    connection: Connection,
    /// By watch id: the round of the last event.
    rounds: Vec<u64>,
    created: usize,
    wanted: usize,
    writes: bool,
}

/// What one answer on a watch stream says.
#[derive(Default)]
struct Answer {
    watch: usize,
    created: bool,
    canceled: bool,
    events: usize,
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
    pub(crate) fn open(
        address: SocketAddr,
        streams: usize,
        watchers: usize,
        put: Put,
    ) -> Result<Self> {
        ensure!(
            streams > 0 && watchers >= streams,
            "at least one watcher per stream is needed"
        );
        let poller = Poller::new()?;
        let mut opened = Vec::new();
        for place in 0..streams {
            let mut connection = Connection::open(address, "/etcdserverpb.Watch/Watch")?;
            connection.outbox.begin_long_call();
            poller.add(connection.socket(), place)?;
            opened.push(Stream {
                connection,
                rounds: Vec::new(),
                created: 0,
                wanted: watchers / streams + usize::from(place < watchers % streams),
                writes: false,
            });
        }
        let writer = Connection::open(address, put.path())?;
        poller.add(writer.socket(), streams)?;
        let mut fan_out = Self {
            poller,
            streams: opened,
            writer,
            put,
            watchers,
        };
        fan_out.create_watchers()?;
        Ok(fan_out)
    }

    fn create_watchers(&mut self) -> Result<()> {
        let create = WatchCreateRequest {
            key: keys::PREFIX.as_bytes().to_vec().into(),
            range_end: keys::range_end().into(),
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let create = create.encode_to_vec();
        let mut ready: Vec<usize> = (0..self.streams.len()).collect();
        let mut heard = Instant::now();
        while self
            .streams
            .iter()
            .any(|stream| stream.created < stream.wanted)
        {
            for place in &ready {
                let Some(stream) = self.streams.get_mut(*place) else {
                    continue;
                };
                stream.create(&create)?;
                stream.write(*place, &self.poller)?;
            }
            self.poller.wait(SILENCE_MAX, &mut ready)?;
            let now = Instant::now();
            ensure!(
                !ready.is_empty() || now < heard + SILENCE_MAX,
                "no answer to the creation of watchers"
            );
            heard = now;
            for place in &ready {
                if let Some(stream) = self.streams.get_mut(*place) {
                    stream.receive_created()?;
                }
            }
        }
        Ok(())
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
                self.poller.wait(SILENCE_MAX, &mut ready)?;
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
        let (_, request) = self.put.next();
        ensure!(
            self.writer.outbox.has_room(request.len()),
            "a value larger than the server's window"
        );
        self.writer.outbox.call(request);
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
        let Some(stream) = self.streams.get_mut(place) else {
            let put = &mut self.put;
            self.writer.receive(|event, _| match event {
                Event::Message { message, .. } => put.check(0, message),
                Event::End { end, .. } if end.code != 0 => {
                    bail!("a put failed: code {}: {}", end.code, end.text)
                }
                Event::End { .. } => {
                    round.put_answered = true;
                    Ok(())
                }
            })?;
            // Acknowledgements of the server's pings.
            self.writer.flush()?;
            return Ok(());
        };
        let now = Instant::now();
        let rounds = &mut stream.rounds;
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
        stream.write(place, &self.poller)
    }
}

impl Stream {
    /// Asks for as many watchers as there is room for.
    fn create(&mut self, request: &[u8]) -> Result<()> {
        while self.rounds.len() < self.wanted && self.connection.outbox.has_room(request.len()) {
            self.connection.outbox.send_long(request);
            self.rounds.push(0);
        }
        Ok(())
    }

    fn write(&mut self, place: usize, poller: &Poller) -> Result<()> {
        let blocked = !self.connection.flush()?;
        if blocked != self.writes {
            poller.want_write(self.connection.socket(), place, blocked)?;
            self.writes = blocked;
        }
        Ok(())
    }

    fn receive_created(&mut self) -> Result<()> {
        let created = &mut self.created;
        self.connection.receive(|event, _| {
            let answer = Answer::read(event)?;
            ensure!(answer.created, "an event before any put");
            ensure!(
                answer.watch == *created,
                "watcher {} was created as {}",
                *created,
                answer.watch
            );
            *created += 1;
            Ok(())
        })
    }
}

impl Answer {
    fn read(event: Event<'_>) -> Result<Self> {
        const WATCH_ID: u64 = 2;
        const CREATED: u64 = 3;
        const CANCELED: u64 = 4;
        const EVENTS: u64 = 11;
        let message = match event {
            Event::Message { message, .. } => message,
            Event::End { end, .. } => {
                bail!("a watch stream ended: code {}: {}", end.code, end.text)
            }
        };
        let mut answer = Self::default();
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                WATCH_ID => answer.watch = usize::try_from(value.number())?,
                CREATED => answer.created = value.number() != 0,
                CANCELED => answer.canceled = value.number() != 0,
                EVENTS => answer.events += 1,
                _ => {}
            }
        }
        ensure!(!answer.canceled, "watcher {} was cancelled", answer.watch);
        Ok(answer)
    }
}
