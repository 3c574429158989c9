//! What clients feel when a leader goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::endpoint::Endpoint;
use crate::http2::{CallEnd, Connection, Event};
use crate::keys::KeySpace;
use crate::poller::Poller;
use crate::workload::{Put, Workload};

/// Until the first put, or the whole look at an orderly end, may take this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time between puts.
const PROBE_EVERY: Duration = Duration::from_millis(5);
const USER_EVERY: Duration = Duration::from_millis(2);

/// Users look on for so long before and after the leader is asked to end.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(4);

/// One connection of a client, and the puts on it that have no answer.
struct Lane {
    address: SocketAddr,
    /// None: it broke.
    connection: Option<Connection>,
    /// By stream.
    waiting: BTreeMap<u32, Instant>,
    /// The server takes no more calls here.
    is_closing: bool,
}

/// What happened on a lane.
#[derive(Default)]
struct News {
    /// When puts that are now acknowledged were made.
    acknowledged: Vec<Instant>,
    /// Puts that failed, or whose outcome nobody knows.
    errors: Vec<String>,
    /// Puts that the server has not looked at: a client makes them again elsewhere.
    again: usize,
}

impl Lane {
    fn open(endpoint: &Endpoint, put: &Put) -> Result<Self> {
        Ok(Self {
            address: endpoint.address,
            connection: Some(Connection::open(endpoint, put.paths())?),
            waiting: BTreeMap::new(),
            is_closing: false,
        })
    }

    fn is_usable(&self) -> bool {
        self.connection.is_some() && !self.is_closing
    }

    fn put(&mut self, put: &mut Put, since: Instant) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let request = put.next();
        let stream = connection.outbox.call(request.path, request.message);
        self.waiting.insert(stream, since);
        // A connection that cannot be written to is found broken when it is read.
        let _ = connection.flush();
    }

    /// Takes what came.
    fn receive(&mut self, put: &mut Put) -> Result<News> {
        let mut news = News::default();
        let Some(connection) = &mut self.connection else {
            return Ok(news);
        };
        let (waiting, is_closing) = (&mut self.waiting, &mut self.is_closing);
        let mut wrong = None;
        let received = connection.receive(|event, _| {
            match event {
                Event::Message { message, .. } => {
                    wrong = put.check(0, message).err();
                }
                Event::End { stream, end } => {
                    let since = waiting.remove(&stream);
                    match end {
                        CallEnd { code: 0, .. } => news.acknowledged.extend(since),
                        failed => news.errors.push(failed.to_string()),
                    }
                }
                Event::Goodbye { last_stream } => {
                    *is_closing = true;
                    // Two of them may come; the last one says which calls were not looked at.
                    let unseen = waiting.split_off(&last_stream.saturating_add(1));
                    news.again += unseen.len();
                }
            }
            Ok(())
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let _ = connection.flush();
        if let Err(error) = received {
            let lost = std::mem::take(&mut self.waiting).len();
            news.errors.extend(vec![format!("{error:#}"); lost]);
            self.connection = None;
        }
        Ok(news)
    }
}

fn put() -> Put {
    Put::random(KeySpace::short(100, 256), 1)
}

/// Clients of the members that stay: who gets through first?
pub(super) struct Probe {
    lanes: Vec<Lane>,
    poller: Poller,
    put: Put,
}

impl Probe {
    /// Connects before anything happens, as clients have.
    pub(super) fn open(survivors: &[Endpoint]) -> Result<Self> {
        let (put, poller) = (put(), Poller::new()?);
        let mut lanes = Vec::new();
        for endpoint in survivors {
            let lane = Lane::open(endpoint, &put)?;
            if let Some(connection) = &lane.connection {
                poller.add(connection.socket(), lanes.len())?;
            }
            lanes.push(lane);
        }
        Ok(Self { lanes, poller, put })
    }

    /// Makes a put every few milliseconds on each connection until one is acknowledged. Puts that fail, and puts that
    /// wait for the old leader, do not matter.
    pub(super) fn until_first_put(mut self) -> Result<Duration> {
        let started = Instant::now();
        let mut due = started;
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            ensure!(now < started + TIMEOUT, "no put within {TIMEOUT:?}");
            if now >= due {
                due = now + PROBE_EVERY;
                for lane in &mut self.lanes {
                    lane.put(&mut self.put, now);
                }
            }
            self.poller
                .wait(due.saturating_duration_since(now), &mut ready)?;
            for place in &ready {
                let news = self.lanes[*place].receive(&mut self.put)?;
                if !news.acknowledged.is_empty() {
                    return Ok(started.elapsed());
                }
            }
            ensure!(
                self.lanes.iter().any(|lane| lane.connection.is_some()),
                "all connections broke"
            );
        }
    }
}

/// A client that puts all the time, through one endpoint until that goes, then through the next. Like etcd's own client
/// it makes a put again only where it is sure that no server has seen it.
pub(super) struct User {
    lanes: Vec<Lane>,
    put: Put,
}

/// What it felt.
#[derive(Debug)]
pub(super) struct Seen {
    /// Between two acknowledged puts.
    pub(super) longest_gap: Duration,
    /// Puts that failed or whose outcome is not known.
    pub(super) errors: usize,
}

impl User {
    /// The first endpoint is the one that will go.
    pub(super) fn open(endpoints: &[Endpoint]) -> Result<Self> {
        let put = put();
        let lanes = endpoints.iter().map(|one| Lane::open(one, &put));
        Ok(Self {
            lanes: lanes.collect::<Result<_>>()?,
            put,
        })
    }

    /// Puts for a while, has something done to the first endpoint, and puts on.
    pub(super) fn through(mut self, act: impl FnOnce() -> Result<()>) -> Result<Seen> {
        let started = Instant::now();
        let mut act = Some(act);
        let (mut due, mut last) = (started, started);
        let mut seen = Seen {
            longest_gap: Duration::ZERO,
            errors: 0,
        };
        let mut again = 0;
        while last < started + BEFORE + AFTER {
            let now = Instant::now();
            ensure!(now < started + TIMEOUT, "no put for a long time: {seen:?}");
            if now >= started + BEFORE
                && let Some(act) = act.take()
            {
                act()?;
            }
            if now >= due {
                due += USER_EVERY;
                again += 1;
            }
            for _ in 0..std::mem::take(&mut again) {
                self.put_somewhere(now)?;
            }
            for lane in &mut self.lanes {
                let news = lane.receive(&mut self.put)?;
                again += news.again;
                seen.errors += news.errors.len();
                if !news.acknowledged.is_empty() {
                    let now = Instant::now();
                    seen.longest_gap = seen.longest_gap.max(now - last);
                    last = now;
                }
            }
            std::thread::sleep(USER_EVERY / 8);
        }
        Ok(seen)
    }

    fn put_somewhere(&mut self, now: Instant) -> Result<()> {
        let usable = self.lanes.iter_mut().find(|lane| lane.is_usable());
        let Some(lane) = usable else {
            let tried: Vec<_> = self.lanes.iter().map(|lane| lane.address).collect();
            anyhow::bail!("none of {tried:?} takes a put");
        };
        lane.put(&mut self.put, now);
        Ok(())
    }
}
