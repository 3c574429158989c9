//! Automatic compaction: when history has been kept long enough, and up to which revision it goes.
//!
//! Two rules, of which an operator chooses one:
//!
//! - *By time* (`periodic`). The machine notes the current revision in intervals of a tenth of the
//!   period, at most six minutes, and remembers those of one period: the oldest is that of a period
//!   ago when a new one is noted, and of an interval more when it is looked at next. When a whole
//!   period has passed since the start, history before that revision goes; then again after each
//!   period, but at least once an hour. A compaction that failed is tried again an interval later.
//!   Example: with a period of 24 h the first compaction comes after a day, the next ones every
//!   hour, each up to the revision of a day and six minutes before.
//! - *By number* (`revision`). Every five minutes history before the last so many revisions goes.
//!
//! The machine runs on every member, so that a new leader knows the revisions of the past, and acts
//! on the leader alone; a compaction is a request like a client's and goes through the log.
//!
//! # Invariants
//!
//! - At most one compaction is under way: between [`AutoCompaction::step`] that returned one and
//!   [`AutoCompaction::done`] there is no deadline.
//! - No revision is asked for twice in a row, and none that was current less than a period ago.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/v3compactor/periodic.go` and `revision.go`.

use std::collections::VecDeque;
use std::time::Duration;

use kvorum_proto::ids::Moment;

/// Longest time between two compactions by time.
const COMPACT_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Into so many intervals the time between two compactions is divided.
const INTERVALS: u32 = 10;
/// Shortest interval; a period of some nanoseconds must not keep a core busy.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Interval of compactions by number.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// That of so much time, above 0.
    Time(Duration),
    /// So many revisions, above 0.
    Revisions(u64),
}

impl Retention {
    /// The pause between two looks, which is also the one before a failed compaction is tried again.
    #[must_use]
    pub fn interval(self) -> Duration {
        match self {
            Self::Time(period) => (period.min(COMPACT_INTERVAL_MAX) / INTERVALS).max(INTERVAL_MIN),
            Self::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// How many noted revisions reach one period back.
    fn samples(self) -> usize {
        match self {
            Self::Time(period) => {
                let intervals = period.as_nanos() / self.interval().as_nanos().max(1);
                usize::try_from(intervals).map_or(usize::MAX, |count| count.saturating_add(1))
            }
            Self::Revisions(_) => 1,
        }
    }
}

/// The machine; see the module.
#[derive(Debug)]
pub struct AutoCompaction {
    retention: Retention,
    /// Current revisions, the oldest first, an interval between two.
    noted: VecDeque<i64>,
    /// When to look next; none while a compaction is under way.
    next: Option<Moment>,
    /// The last revision that was compacted; 0 for none.
    compacted: i64,
    /// When that was; at first the start.
    since: Moment,
    /// Least time from `since` to the next compaction.
    pause: Duration,
}

impl AutoCompaction {
    /// Begins at `now`, when `revision` is current.
    #[must_use]
    pub fn new(retention: Retention, now: Moment, revision: i64) -> Self {
        let pause = match retention {
            Retention::Time(period) => period,
            Retention::Revisions(_) => Duration::ZERO,
        };
        let mut machine = Self {
            retention,
            noted: VecDeque::new(),
            next: None,
            compacted: 0,
            since: now,
            pause,
        };
        machine.wait(now, revision);
        machine
    }

    /// When [`step`](Self::step) has something to do; `None` while a compaction is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.next
    }

    /// The revision to compact now, if there is one; then [`done`](Self::done) has to follow.
    ///
    /// `revision` is the current one. Nothing happens before the deadline.
    pub fn step(&mut self, now: Moment, revision: i64, leads: bool) -> Option<i64> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        let wanted = leads.then(|| self.due(now, revision)).flatten();
        match wanted {
            Some(_) => self.next = None,
            None => self.wait(now, revision),
        }
        wanted
    }

    /// The compaction of `compacted` has ended; `went` also when somebody else was faster. `revision`
    /// is the current one.
    pub fn done(&mut self, now: Moment, compacted: i64, went: bool, revision: i64) {
        if went {
            self.compacted = compacted;
            self.since = now;
        }
        self.wait(now, revision);
    }

    fn due(&mut self, now: Moment, revision: i64) -> Option<i64> {
        let wanted = match self.retention {
            Retention::Time(_) => self.noted.front().copied().unwrap_or_default(),
            Retention::Revisions(kept) => revision.saturating_sub_unsigned(kept).max(0),
        };
        let waited = now.since(self.since) >= self.pause;
        if !waited || wanted <= 0 || wanted == self.compacted {
            return None;
        }
        if let Retention::Time(period) = self.retention {
            self.pause = period.min(COMPACT_INTERVAL_MAX);
        }
        Some(wanted)
    }

    fn wait(&mut self, now: Moment, revision: i64) {
        self.noted.push_back(revision);
        if self.noted.len() > self.retention.samples() {
            self.noted.pop_front();
        }
        self.next = Some(now + self.retention.interval());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// Runs a leader for `seconds`; the revision is the time in seconds and one. Gives the time of each
    /// compaction with its revision. `outcome` says for each time whether the compaction went.
    fn run(
        retention: Retention,
        seconds: u64,
        leads: impl Fn(u64) -> bool,
        outcome: impl Fn(u64) -> bool,
    ) -> Vec<(u64, i64)> {
        let revision = |moment: Moment| moment.0.as_secs() as i64 + 1;
        let mut machine = AutoCompaction::new(retention, at(0), 1);
        let mut compactions = Vec::new();
        while let Some(now) = machine.deadline().filter(|next| *next <= at(seconds)) {
            let time = now.0.as_secs();
            if let Some(wanted) = machine.step(now, revision(now), leads(time)) {
                assert_eq!(machine.deadline(), None, "one at a time");
                compactions.push((time, wanted));
                machine.done(now, wanted, outcome(time), revision(now));
            }
        }
        compactions
    }

    fn check(retention: Retention, seconds: u64, wanted: &[(u64, i64)]) {
        assert_eq!(run(retention, seconds, |_| true, |_| true), wanted);
    }

    #[test]
    fn a_short_period_compacts_once_in_each_up_to_one_before() {
        let ten_minutes = Retention::Time(Duration::from_secs(10 * MINUTE));
        let wanted = [(600, 1), (1200, 541), (1800, 1141)];
        check(ten_minutes, 30 * MINUTE, &wanted);
    }

    #[test]
    fn a_long_period_compacts_every_hour_after_the_first_whole_one() {
        let day = Retention::Time(Duration::from_secs(24 * HOUR));
        let wanted = [
            (24 * HOUR, 1),
            (25 * HOUR, 1 + 54 * MINUTE as i64),
            (26 * HOUR, 1 + 114 * MINUTE as i64),
        ];
        check(day, 26 * HOUR, &wanted);
        assert_eq!(day.interval(), Duration::from_secs(6 * MINUTE));
    }

    #[test]
    fn an_hour_is_both() {
        let hour = Retention::Time(Duration::from_secs(HOUR));
        check(
            hour,
            2 * HOUR,
            &[(HOUR, 1), (2 * HOUR, 1 + 54 * MINUTE as i64)],
        );
    }

    #[test]
    fn a_period_that_tenths_do_not_divide_keeps_what_is_younger() {
        // Looks are 6 min apart; 90 min have 15 of them.
        let long = Retention::Time(Duration::from_secs(90 * MINUTE));
        let wanted = [(90 * MINUTE, 1), (150 * MINUTE, 1 + 54 * MINUTE as i64)];
        check(long, 150 * MINUTE, &wanted);
    }

    #[test]
    fn by_number_every_five_minutes_what_is_older_goes() {
        let thousand = Retention::Revisions(1000);
        // After 15 min the revision is 901: nothing is older.
        check(thousand, 25 * MINUTE, &[(1200, 201), (1500, 501)]);
        check(Retention::Revisions(u64::MAX), HOUR, &[]);
    }

    #[test]
    fn a_failed_compaction_is_tried_again_an_interval_later() {
        let fails_until_720 = |time| time > 720;
        let ten_minutes = Retention::Time(Duration::from_secs(10 * MINUTE));
        let found = run(ten_minutes, 1400, |_| true, fails_until_720);
        // The window goes on, so each try is for what is a period old by then.
        assert_eq!(
            found,
            [(600, 1), (660, 1), (720, 61), (780, 121), (1380, 721)]
        );
        let found = run(Retention::Revisions(100), 900, |_| true, |time| time > 300);
        assert_eq!(found, [(300, 201), (600, 501), (900, 801)]);
    }

    #[test]
    fn who_does_not_lead_keeps_watch_and_acts_at_once_when_it_does() {
        let leads_from_45_minutes = |time| time >= 45 * MINUTE;
        let ten_minutes = Retention::Time(Duration::from_secs(10 * MINUTE));
        let found = run(ten_minutes, 46 * MINUTE, leads_from_45_minutes, |_| true);
        assert_eq!(found, [(45 * MINUTE, 1 + 34 * MINUTE as i64)]);
        let found = run(
            Retention::Revisions(1),
            50 * MINUTE,
            leads_from_45_minutes,
            |_| true,
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn nothing_new_means_nothing_to_do() {
        for retention in [
            Retention::Time(Duration::from_secs(10)),
            Retention::Revisions(5),
        ] {
            let mut machine = AutoCompaction::new(retention, at(0), 10);
            let mut asked = Vec::new();
            for _ in 0..100 {
                let now = machine.deadline().expect("nothing is under way");
                if let Some(revision) = machine.step(now, 10, true) {
                    asked.push(revision);
                    machine.done(now, revision, true, 10);
                }
            }
            assert_eq!(asked.len(), 1, "{retention:?}");
        }
    }

    #[test]
    fn a_tiny_period_does_not_spin() {
        assert_eq!(
            Retention::Time(Duration::from_nanos(1)).interval(),
            INTERVAL_MIN
        );
        let mut machine = AutoCompaction::new(Retention::Time(Duration::from_nanos(1)), at(0), 7);
        let now = machine.deadline().expect("nothing is under way");
        assert_eq!(machine.step(now, 9, true), Some(7));
    }
}
