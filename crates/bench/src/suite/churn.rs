//! Puts of which nine of ten overwrite, for a time, with compactions: does the file stay near what is alive?

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Fixture, Group, Size, Spec, Stage, steady_puts};
use crate::api;
use crate::endpoint::Endpoint;
use crate::keys::KeySpace;
use crate::load::{self, Kind, Load};
use crate::measure::{self, Times};
use crate::results::{Outcome, Series, median};
use crate::usage::{Memory, disk_bytes, file_disk_bytes};

const MEGABYTE: f64 = 1e6;

/// The part of the puts that overwrite.
const OVERWRITES: f64 = 0.9;

/// What Kvorum allocates beside the data so that it can work on a full disk. It holds nothing and does not grow.
const RESERVE: &str = "reserve";

pub(super) fn group(size: Size) -> Group {
    let short = Plan {
        keys: KeySpace::short(size.pick(100, 20_000, 20_000), 1024),
        rate: size.pick(200.0, 2500.0, 2000.0),
        length: Duration::from_secs(size.pick(1, 30, 600)),
        compact_every: Duration::from_millis(size.pick(300, 3000, 10_000)),
        sample_every: Duration::from_millis(size.pick(100, 500, 2000)),
        retained: size.pick(50, 10_000, 20_000),
    };
    // Slower: one put of ten makes a new key, so that what is alive grows by 190 MB in this time.
    let hour = Plan {
        rate: 500.0,
        length: Duration::from_secs(3600),
        sample_every: Duration::from_secs(10),
        ..short
    };
    let mut scenarios = vec![short.scenario("churn")];
    if size == Size::Full {
        scenarios.push(hour.scenario("churn-hour"));
    }
    Group {
        fixture: Fixture::fresh(1).large(),
        scenarios,
    }
}

/// Numbers of a churn.
#[derive(Clone, Copy)]
struct Plan {
    keys: KeySpace,
    rate: f64,
    length: Duration,
    compact_every: Duration,
    sample_every: Duration,
    /// Revisions that a compaction leaves.
    retained: i64,
}

/// What is seen from time to time.
#[derive(Default)]
struct Sample {
    seconds: f64,
    /// Of the file or files that hold the keys, without the log and without a reserve.
    disk: f64,
    /// By the server's own word.
    size: f64,
    in_use: f64,
    /// Keys and values that are alive, and those that are overwritten and not compacted.
    kept: f64,
    resident: f64,
}

impl Plan {
    fn scenario(self, name: &str) -> Spec {
        let seconds = self.length.as_secs();
        let what = format!(
            "{} puts per second for {seconds} s, nine of ten overwrite",
            self.rate
        );
        Spec::new(name, &what, move |stage| self.play(stage))
            .written(&format!("{}, once", self.keys.in_words()))
            .figure(
                "ratio",
                "data on disk, without a reserve, against live and retained, second half, median",
                "",
            )
            .figure("ratio_max", "the same at most", "")
            .figure("resident", "memory at the end, resident", "MB")
            .figure("refused", "puts refused", "")
            .long()
    }

    fn play(self, stage: &mut Stage<'_>) -> Result<Outcome> {
        let target = stage.servers.target();
        let data = stage.servers.data(0).join("member");
        load::fill(self.keys, self.keys.count, &target)?;
        let puts = Load {
            kind: Kind::Churn,
            slice_seconds: Some(self.sample_every.as_secs_f64() * 2.0),
            ..steady_puts(self.keys, self.rate)
        };
        let times = Times {
            window: self.length,
            ..stage.times
        };
        let (endpoint, pids) = (target.first()?, target.pids.clone());
        let (run, samples) = measure::run_during(&puts, &target, times, move |window| {
            let (mut samples, mut compacted) = (Vec::new(), 0);
            let mut last_compaction = Instant::now();
            while Instant::now() < window.until {
                std::thread::sleep(self.sample_every);
                let (live, revision) = api::count(endpoint)?;
                if last_compaction.elapsed() >= self.compact_every {
                    last_compaction = Instant::now();
                    compacted = revision - self.retained;
                    api::compact(endpoint, compacted, false)?;
                }
                let mut sample = see(endpoint, &pids, &data)?;
                let at = Instant::now().saturating_duration_since(window.from);
                sample.seconds = at.as_secs_f64();
                sample.kept = self.kept(live, revision - compacted);
                samples.push(sample);
            }
            Ok(samples)
        })?;
        // A server that refuses puts under this load still shows what it does with its files.
        let refused: u64 = run.refused.values().sum();
        let outcome = Outcome::default()
            .phase("", run)
            .figure("refused", refused as f64);
        summary(outcome, &samples)
    }

    /// Megabytes of what can be read: the keys that are alive, and what each overwrite since the compaction has
    /// overwritten, which a read at an earlier revision still sees.
    fn kept(self, live: u64, revisions: i64) -> f64 {
        let overwritten = revisions as f64 * OVERWRITES;
        let pair = (self.keys.key_bytes + self.keys.value_bytes) as f64;
        (live as f64 + overwritten) * pair / MEGABYTE
    }
}

fn see(endpoint: &Endpoint, pids: &[u32], data: &Path) -> Result<Sample> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let status = api::status(endpoint, TIMEOUT)?;
    let state = data.join("state");
    let disk =
        disk_bytes(&data.join("snap")) + disk_bytes(&state) - file_disk_bytes(&state.join(RESERVE));
    Ok(Sample {
        disk: disk as f64 / MEGABYTE,
        size: status.db_size as f64 / MEGABYTE,
        in_use: status.db_size_in_use as f64 / MEGABYTE,
        resident: Memory::of(pids)?.resident_bytes as f64 / MEGABYTE,
        ..Sample::default()
    })
}

fn summary(outcome: Outcome, samples: &[Sample]) -> Result<Outcome> {
    let second_half = &samples[samples.len() / 2..];
    let ratios: Vec<f64> = second_half
        .iter()
        .map(|sample| sample.disk / sample.kept)
        .collect();
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let last = samples
        .last()
        .context("the churn was too short for a sample")?;
    let series = |name: &str, number: fn(&Sample) -> f64| Series {
        name: name.to_owned(),
        unit: "MB".to_owned(),
        points: samples
            .iter()
            .map(|sample| (sample.seconds, number(sample)))
            .collect(),
    };
    let mut outcome = outcome
        .figure("ratio", median(ratios).unwrap_or_default())
        .figure("ratio_max", most)
        .figure("resident", last.resident);
    outcome.series = vec![
        series("data on disk", |sample| sample.disk),
        series("size by its own word", |sample| sample.size),
        series("in use by its own word", |sample| sample.in_use),
        series("live and retained", |sample| sample.kept),
        series("memory, resident", |sample| sample.resident),
    ];
    Ok(outcome)
}
