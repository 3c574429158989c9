//! Waiting for sockets.

use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};

/// Sockets told of in one call.
const READY_MAX: usize = 256;

/// Waits shorter than this end on time; longer ones up to a millisecond late.
const EXACT_MAX: Duration = Duration::from_millis(100);

/// Tells which of its sockets can be read, or written if that was asked for.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    /// Watches a socket for something to read; `place` is what [`Poller::wait`] tells.
    pub(crate) fn add(&self, socket: &TcpStream, place: usize) -> Result<()> {
        let data = epoll::EventData::new_u64(place as u64);
        Ok(epoll::add(
            &self.epoll,
            socket,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Also wakes, or no longer wakes, when the socket takes more.
    pub(crate) fn want_write(&self, socket: &TcpStream, place: usize, wanted: bool) -> Result<()> {
        let data = epoll::EventData::new_u64(place as u64);
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, wanted);
        Ok(epoll::modify(&self.epoll, socket, data, flags)?)
    }

    /// Waits for sockets, at most so long. Their places are added to `places`, which is emptied first.
    pub(crate) fn wait(&self, at_most: Duration, places: &mut Vec<usize>) -> Result<()> {
        let mut timeout = Timespec::try_from(at_most)?;
        places.clear();
        if !at_most.is_zero() && at_most < EXACT_MAX {
            // An epoll counts milliseconds, and a request of an open loop that leaves a half of one late would be
            // told as a slow answer.
            let mut any = [PollFd::new(&self.epoll, PollFlags::IN)];
            match rustix::event::poll(&mut any, Some(&timeout)) {
                Ok(_) => timeout = Timespec::default(),
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let mut space = [MaybeUninit::uninit(); READY_MAX];
        let ready = match epoll::wait(&self.epoll, &mut space[..], Some(&timeout)) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        places.extend(ready.iter().map(|event| {
            // The event is packed: its data is copied before it is used.
            let data = event.data;
            data.u64() as usize
        }));
        Ok(())
    }
}

/// While it lives, waits of the thread that began it end when they are over. Otherwise the kernel may end them up to 50 µs
/// later, to wake up less often, and a request of an open loop that leaves late is told as a slow answer.
pub(crate) struct OnTime(());

impl OnTime {
    pub(crate) fn begin() -> Result<Self> {
        rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN))?;
        Ok(Self(()))
    }
}

impl Drop for OnTime {
    fn drop(&mut self) {
        // Back to what the thread began with; processes that it starts later would inherit the other.
        let _ = rustix::thread::set_current_timer_slack(None);
    }
}

#[cfg(test)]
mod tests {
    use super::OnTime;

    #[test]
    fn waits_are_exact_until_it_is_dropped() {
        let slack = || rustix::thread::current_timer_slack().unwrap();
        let usual = slack();
        let on_time = OnTime::begin().unwrap();
        assert_eq!(slack(), 1);
        drop(on_time);
        assert_eq!(slack(), usual);
    }
}
