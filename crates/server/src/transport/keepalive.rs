//! Pings from the server to find dead clients.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use super::Settings;

/// Pings a client that was silent for an interval and gives up when nothing comes in time.
///
/// The clock is read only when the timer fires, so a busy connection pays nothing; a client is found dead after at
/// most two intervals and the time-out.
pub(super) struct Keepalive {
    /// `None`: switched off.
    active: Option<Active>,
}

struct Active {
    timer: Pin<Box<Sleep>>,
    interval: Duration,
    timeout: Duration,
    /// Something arrived since the timer was set.
    heard: bool,
    /// A ping is on its way and nothing arrived since.
    waits: bool,
    /// The timer wakes the task when it ends.
    armed: bool,
}

impl Keepalive {
    pub(super) fn new(settings: &Settings) -> Self {
        let (interval, timeout) = (settings.keepalive_interval, settings.keepalive_timeout);
        if interval.is_zero() || timeout.is_zero() {
            return Self { active: None };
        }
        let active = Active {
            timer: Box::pin(tokio::time::sleep(interval)),
            interval,
            timeout,
            heard: false,
            waits: false,
            armed: false,
        };
        Self {
            active: Some(active),
        }
    }

    /// Ready: the client is dead. `heard` says whether it sent anything since the last call; `ping` asks it to.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        heard: bool,
        mut ping: impl FnMut(),
    ) -> Poll<()> {
        let Some(active) = &mut self.active else {
            return Poll::Pending;
        };
        active.heard |= heard;
        if active.heard && active.waits {
            active.waits = false;
            active.armed = false;
            active
                .timer
                .as_mut()
                .reset(Instant::now() + active.interval);
        }
        // To ask whether it has ended costs less than to ask it to wake the task, which it will anyway.
        if active.armed && !active.timer.is_elapsed() {
            return Poll::Pending;
        }
        // A task that has used up its budget would not be woken by the timer, and would not ask again.
        while Pin::new(&mut unconstrained(active.timer.as_mut()))
            .poll(cx)
            .is_ready()
        {
            if active.waits {
                return Poll::Ready(());
            }
            let heard = std::mem::take(&mut active.heard);
            let pause = if heard {
                active.interval
            } else {
                active.timeout
            };
            active.timer.as_mut().reset(Instant::now() + pause);
            if !heard {
                ping();
                active.waits = true;
            }
        }
        active.armed = true;
        Poll::Pending
    }
}
