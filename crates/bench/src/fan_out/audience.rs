//! Watchers that only listen, while somebody else is measured.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::stream::{Answer, Streams, all_keys};
use crate::load::Target;
use crate::tally::{Tally, Window};

/// The longest wait for sockets, so that the end is not missed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Watchers that all watch the same.
pub(crate) struct Audience(Streams);

impl Audience {
    /// Creates `watchers` watchers on `streams` streams, each on its own connection, evenly.
    pub(crate) fn open(target: &Target, streams: usize, watchers: usize) -> Result<Self> {
        Self::of_range(target, streams, watchers, all_keys())
    }

    /// The same for a range: its first key, and its end, which is not part of it.
    pub(crate) fn of_range(
        target: &Target,
        streams: usize,
        watchers: usize,
        range: (Vec<u8>, Vec<u8>),
    ) -> Result<Self> {
        Ok(Self(Streams::open(target, streams, watchers, range)?))
    }

    /// Takes events until the window ends; counts those that come within it.
    pub(crate) fn listen(mut self, window: Window) -> Result<Tally> {
        let mut tally = Tally::default();
        while Instant::now() < window.until {
            let came = self.take()?;
            if window.holds(Instant::now()) {
                tally.events += came;
            }
        }
        Ok(tally)
    }

    /// Takes what has come, or waits a moment for something. Returns the number of events.
    pub(crate) fn take(&mut self) -> Result<u64> {
        let mut ready = Vec::new();
        self.0.poller.wait(WAIT_MAX, &mut ready)?;
        let mut came = 0;
        for place in ready {
            let stream = &mut self.0.all[place];
            let watchers = stream.watchers();
            stream.connection.receive(|event, _| {
                let answer = Answer::read(event)?;
                ensure!(answer.watch < watchers, "an event for an unknown watcher");
                came += answer.events as u64;
                Ok(())
            })?;
            self.0.write(place)?;
        }
        Ok(came)
    }
}
