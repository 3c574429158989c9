//! Watch streams, each on a connection of its own, all of whose watchers watch the same keys.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use prost::Message;

use crate::api;
use crate::fields::Fields;
use crate::http2::{Connection, Event};
use crate::keys;
use crate::load::Target;
use crate::poller::Poller;

/// How long the creation of the watchers, or a round of events, may go without any news.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The first key, and the end, which is not part of it.
pub(super) type KeyRange = (Vec<u8>, Vec<u8>);

/// All keys of all loads.
pub(super) fn all_keys() -> KeyRange {
    (keys::PREFIX.as_bytes().to_vec(), keys::range_end())
}

/// The streams, at their places in a poller.
pub(super) struct Streams {
    pub(super) poller: Poller,
    pub(super) all: Vec<Stream>,
}

/// One of them.
pub(super) struct Stream {
    pub(super) connection: Connection,
    /// Watchers that were asked for.
    asked: usize,
    created: usize,
    wanted: usize,
    writes: bool,
}

impl Streams {
    /// Creates `watchers` watchers of a range of keys on `streams` streams, evenly.
    pub(super) fn open(
        target: &Target,
        streams: usize,
        watchers: usize,
        range: KeyRange,
    ) -> Result<Self> {
        ensure!(
            streams > 0 && watchers >= streams,
            "at least one watcher per stream is needed"
        );
        let poller = Poller::new()?;
        let mut all = Vec::new();
        for place in 0..streams {
            let mut connection = Connection::open(target.of(place)?, &[api::WATCH])?;
            connection.outbox.begin_long_call();
            poller.add(connection.socket(), place)?;
            all.push(Stream {
                connection,
                asked: 0,
                created: 0,
                wanted: watchers / streams + usize::from(place < watchers % streams),
                writes: false,
            });
        }
        let mut opened = Self { poller, all };
        opened.create_watchers(range)?;
        Ok(opened)
    }

    fn create_watchers(&mut self, (key, range_end): KeyRange) -> Result<()> {
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let create = create.encode_to_vec();
        let mut ready: Vec<usize> = (0..self.all.len()).collect();
        let mut missing: usize = self.all.iter().map(|stream| stream.wanted).sum();
        let mut heard = Instant::now();
        while missing > 0 {
            for place in &ready {
                self.all[*place].create(&create);
                self.write(*place)?;
            }
            self.poller.wait(SILENCE_MAX, &mut ready)?;
            let now = Instant::now();
            ensure!(
                !ready.is_empty() || now < heard + SILENCE_MAX,
                "no answer to the creation of watchers"
            );
            heard = now;
            for place in &ready {
                missing -= self.all[*place].receive_created()?;
            }
        }
        Ok(())
    }

    /// Writes what waits on one of them.
    pub(super) fn write(&mut self, place: usize) -> Result<()> {
        let stream = &mut self.all[place];
        let blocked = !stream.connection.flush()?;
        if blocked != stream.writes {
            let socket = stream.connection.socket();
            self.poller.want_write(socket, place, blocked)?;
            stream.writes = blocked;
        }
        Ok(())
    }
}

impl Stream {
    /// How many watchers it has.
    pub(super) fn watchers(&self) -> usize {
        self.created
    }

    /// Asks for as many watchers as there is room for.
    fn create(&mut self, request: &[u8]) {
        while self.asked < self.wanted && self.connection.outbox.has_room(request.len()) {
            self.connection.outbox.send_long(request);
            self.asked += 1;
        }
    }

    fn receive_created(&mut self) -> Result<usize> {
        let before = self.created;
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
        })?;
        Ok(self.created - before)
    }
}

/// What one answer on a watch stream says.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) watch: usize,
    pub(super) created: bool,
    canceled: bool,
    pub(super) events: usize,
}

impl Answer {
    pub(super) fn read(event: Event<'_>) -> Result<Self> {
        const WATCH_ID: u64 = 2;
        const CREATED: u64 = 3;
        const CANCELED: u64 = 4;
        const EVENTS: u64 = 11;
        let message = match event {
            Event::Message { message, .. } => message,
            Event::End { end, .. } => bail!("a watch stream {end}"),
            Event::Goodbye { .. } => bail!("the server says goodbye"),
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
