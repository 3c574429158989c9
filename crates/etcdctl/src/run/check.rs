//! `check`: how fast a cluster writes, and how much memory keys cost it.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/check.go`, `util.go`; `pkg/report/report.go`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_cli::failure::{BAD_FEATURE, ERROR, INVALID_INPUT};
use kvorum_cli::progress::{Progress, Unit};
use kvorum_cli::{Failure, Line, go, print_text};
use kvorum_client::{Client, KeyRange, fetch_page};
use kvorum_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::session::Stop;
use super::settings;
use crate::failure::failed;
use crate::settings::Settings;

/// How long `check perf` writes.
const DURATION: Duration = Duration::from_secs(60);
/// How long a cleanup may take, and each step of it.
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);
/// Bytes behind the prefix of each key, and bytes of each value.
const PERFORMANCE_BYTES: (usize, usize) = (256, 1024);
/// The same for `check datascale`.
const DATASCALE_BYTES: (usize, usize) = (512, 512);
/// What a pair of `check datascale` counts as, in bytes.
const PAIR_BYTES: usize = 1024;
/// Share of the wanted throughput that is good enough.
const THROUGHPUT_SHARE_MIN: f64 = 0.9;
/// Longest time that a request may take, in seconds.
const SLOWEST_SECONDS_MAX: f64 = 0.5;
/// Largest standard deviation, in seconds.
const DEVIATION_SECONDS_MAX: f64 = 0.1;
const MEMORY_METRIC: &str = "process_resident_memory_bytes";

/// A workload.
struct Load {
    names: [&'static str; 2],
    /// Writes per second of `check perf`.
    per_second: u32,
    /// Pairs that `check datascale` writes.
    pairs: u64,
    clients: usize,
}

const LOADS: [Load; 4] = [
    Load {
        names: ["s", "small"],
        per_second: 150,
        pairs: 10_000,
        clients: 50,
    },
    Load {
        names: ["m", "medium"],
        per_second: 1_000,
        pairs: 100_000,
        clients: 200,
    },
    Load {
        names: ["l", "large"],
        per_second: 8_000,
        pairs: 1_000_000,
        clients: 500,
    },
    Load {
        names: ["xl", "xLarge"],
        per_second: 15_000,
        pairs: 3_000_000,
        clients: 1_000,
    },
];

/// What both checks need.
struct Check {
    load: &'static Load,
    prefix: String,
    settings: Settings,
    clients: Vec<Client>,
    auto_compact: bool,
    auto_defrag: bool,
}

impl Check {
    async fn new(line: &mut Line) -> Result<Self, Failure> {
        let name = line.text("load");
        let load = LOADS
            .iter()
            .find(|load| load.names.contains(&name.as_str()));
        let unknown = || Failure::new(BAD_FEATURE, format!("unknown load option {name}"));
        let load = load.ok_or_else(unknown)?;
        let settings = settings(line).await?;
        let mut clients = Vec::with_capacity(load.clients);
        for _ in 0..load.clients {
            clients.push(settings.patient_client().await?);
        }
        Ok(Self {
            load,
            prefix: line.text("prefix"),
            settings,
            clients,
            auto_compact: line.flag("auto-compact"),
            auto_defrag: line.flag("auto-defrag"),
        })
    }

    /// Refuses to write where keys are.
    async fn find_empty(&self, quote: &str) -> Result<(), Failure> {
        let range = KeyRange::prefix(self.prefix.clone());
        let request = RangeRequest {
            key: range.key,
            range_end: range.range_end,
            limit: 1,
            ..RangeRequest::default()
        };
        let found = self.clients[0].range(&request).await.map_err(failed)?;
        if found.kvs.is_empty() {
            return Ok(());
        }
        let shown = go::quote(self.prefix.as_bytes());
        let prefix = &self.prefix;
        let text = format!(
            "prefix {shown} has keys. Delete with {quote}etcdctl del --prefix {prefix}{quote} first"
        );
        Err(Failure::new(INVALID_INPUT, text))
    }

    /// Deletes what was written; the revision of that.
    async fn delete(&self) -> Result<i64, kvorum_client::Error> {
        let range = KeyRange::prefix(self.prefix.clone());
        let request = DeleteRangeRequest {
            key: range.key,
            range_end: range.range_end,
            ..DeleteRangeRequest::default()
        };
        let client = self.clients[0].with_timeout(CLEANUP_LIMIT);
        let response = client.delete(&request).await?;
        Ok(response.header.map_or(0, |header| header.revision))
    }

    async fn compact(&self, revision: i64) -> Result<(), Failure> {
        if !self.auto_compact {
            return Ok(());
        }
        print_text(&format!("Compacting with revision {revision}\n"));
        let client = self.clients[0].with_timeout(CLEANUP_LIMIT);
        client.compact(revision, true).await.map_err(failed)?;
        print_text(&format!("Compacted with revision {revision}\n"));
        Ok(())
    }

    async fn defragment(&self) -> Result<(), Failure> {
        if !self.auto_defrag {
            return Ok(());
        }
        for endpoint in self.settings.endpoints() {
            let shown = go::quote(endpoint.as_bytes());
            print_text(&format!("Defragmenting {shown}\n"));
            let client = self
                .settings
                .for_endpoint(endpoint)
                .patient_client()
                .await?;
            let client = client.with_timeout(CLEANUP_LIMIT);
            client.defragment().await.map_err(failed)?;
            print_text(&format!("Defragmented {shown}\n"));
        }
        Ok(())
    }

    /// A task per client that writes what comes through the channel.
    fn start_writers(&self) -> (mpsc::Sender<PutRequest>, mpsc::UnboundedReceiver<Answer>) {
        let (requests, queue) = mpsc::channel(self.load.clients);
        let (report, answers) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        for client in self.clients.clone() {
            let (queue, report) = (Arc::clone(&queue), report.clone());
            tokio::spawn(async move { write(&client, &queue, &report).await });
        }
        (requests, answers)
    }
}

/// How long a write took in seconds, or why it failed.
type Answer = Result<f64, String>;

async fn write(
    client: &Client,
    queue: &Mutex<mpsc::Receiver<PutRequest>>,
    report: &mpsc::UnboundedSender<Answer>,
) {
    loop {
        let request = queue.lock().await.recv().await;
        let Some(request) = request else { return };
        let started = Instant::now();
        let answer = client.put(&request).await;
        let took = started.elapsed().as_secs_f64();
        // Whoever counts is gone when the check is over.
        let _ = report.send(answer.map(|_| took).map_err(|error| error.to_string()));
    }
}

/// Makes requests for keys that are unlikely to meet.
struct Requests {
    prefix: String,
    key_bytes: usize,
    value: Bytes,
    seed: RandomState,
    number: u64,
}

impl Requests {
    fn new(prefix: &str, (key_bytes, value_bytes): (usize, usize)) -> Self {
        Self {
            prefix: prefix.to_owned(),
            key_bytes,
            value: vec![0; value_bytes].into(),
            seed: RandomState::new(),
            number: 0,
        }
    }

    fn next(&mut self) -> PutRequest {
        self.number += 1;
        let mut key = self.prefix.clone().into_bytes();
        key.extend(self.seed.hash_one(self.number).to_be_bytes());
        key.resize(self.prefix.len() + self.key_bytes, 0);
        PutRequest {
            key: key.into(),
            value: self.value.clone(),
            ..PutRequest::default()
        }
    }
}

/// What the writers report.
#[derive(Default)]
struct Report {
    /// In seconds.
    latencies: Vec<f64>,
    errors: BTreeMap<String, u64>,
}

impl Report {
    fn add(&mut self, answer: Answer) {
        match answer {
            Ok(latency) => self.latencies.push(latency),
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
    }

    fn count(&self) -> u64 {
        self.latencies.len() as u64 + self.errors.values().sum::<u64>()
    }

    /// Says what failed; whether anything did.
    fn show_errors(&self) -> bool {
        if self.errors.is_empty() {
            return false;
        }
        print_text("FAIL: too many errors\n");
        for (error, count) in &self.errors {
            print_text(&format!("FAIL: ERROR({error}) -> {count}\n"));
        }
        true
    }

    /// The verdict line by line, and whether it is good.
    fn verdict(&self, per_second: u32, seconds: f64) -> (Vec<String>, bool) {
        let throughput = self.latencies.len() as f64 / seconds;
        // Without a single answer the throughput says enough.
        let count = self.latencies.len().max(1) as f64;
        let slowest = self.latencies.iter().copied().fold(0.0, f64::max);
        let mean = self.latencies.iter().sum::<f64>() / count;
        let squares = self
            .latencies
            .iter()
            .map(|latency| (latency - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        let writes = throughput as u64 + 1;
        let checks = [
            (
                throughput / f64::from(per_second) > THROUGHPUT_SHARE_MIN,
                format!("PASS: Throughput is {writes} writes/s"),
                format!("FAIL: Throughput too low: {writes} writes/s"),
            ),
            (
                slowest <= SLOWEST_SECONDS_MAX,
                format!("PASS: Slowest request took {slowest:.6}s"),
                format!("Slowest request took too long: {slowest:.6}s"),
            ),
            (
                deviation <= DEVIATION_SECONDS_MAX,
                format!("PASS: Stddev is {deviation:.6}s"),
                format!("Stddev too high: {deviation:.6}s"),
            ),
        ];
        let good = checks.iter().all(|(good, ..)| *good);
        let line = |(good, pass, fail)| if good { pass } else { fail };
        (checks.into_iter().map(line).collect(), good)
    }
}

pub(super) async fn performance(mut line: Line) -> Result<(), Failure> {
    let check = Check::new(&mut line).await?;
    check.find_empty("'").await?;
    let started = Instant::now();
    let report = measure(&check).await?;
    let seconds = started.elapsed().as_secs_f64();
    match check.delete().await {
        Ok(revision) => check.compact(revision).await?,
        Err(error) => {
            let text = format!("FAIL: Cleanup failed during key deletion: ERROR({error})\n");
            print_text(&text);
        }
    }
    check.defragment().await?;
    let has_errors = report.show_errors();
    let (lines, is_good) = report.verdict(check.load.per_second, seconds);
    for line in lines {
        print_text(&format!("{line}\n"));
    }
    if has_errors || !is_good {
        print_text("FAIL\n");
        return Err(Failure::silent(ERROR));
    }
    print_text("PASS\n");
    Ok(())
}

/// Writes for a minute, or until a signal, and takes what the writers report.
async fn measure(check: &Check) -> Result<Report, Failure> {
    let mut stop = Stop::new()?;
    let (requests, mut answers) = check.start_writers();
    let source = Requests::new(&check.prefix, PERFORMANCE_BYTES);
    let offer = offer(source, requests, check.load.per_second);
    let mut offering = Box::pin(async {
        tokio::select! {
            () = offer => {}
            () = stop.wait() => {}
        }
    });
    let started = Instant::now();
    let mut report = Report::default();
    let mut bar = Progress::new(Unit::Things("seconds"), DURATION.as_secs());
    let mut is_offering = true;
    loop {
        tokio::select! {
            () = &mut offering, if is_offering => is_offering = false,
            answer = answers.recv() => match answer {
                Some(answer) => report.add(answer),
                None => return Ok(report),
            }
        }
        bar.set(started.elapsed().as_secs());
    }
}

/// Offers requests at a steady pace. The channel closes with its sender when this ends.
async fn offer(mut source: Requests, requests: mpsc::Sender<PutRequest>, per_second: u32) {
    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let offering = async {
        loop {
            pace.tick().await;
            if requests.send(source.next()).await.is_err() {
                break;
            }
        }
    };
    // Its end is the end of the time, or of the writers.
    let _ = timeout(DURATION, offering).await;
}

pub(super) async fn datascale(mut line: Line) -> Result<(), Failure> {
    let check = Check::new(&mut line).await?;
    check.find_empty("").await?;
    let before = memory(&check.settings, "before").await?;
    let Load { pairs, clients, .. } = *check.load;
    print_text(&format!(
        "Start data scale check for work load [{pairs} key-value pairs, {PAIR_BYTES} bytes per key-value, {clients} concurrent clients].\n"
    ));
    let (requests, mut answers) = check.start_writers();
    let mut source = Requests::new(&check.prefix, DATASCALE_BYTES);
    tokio::spawn(async move {
        for _ in 0..pairs {
            if requests.send(source.next()).await.is_err() {
                break;
            }
        }
    });
    let mut report = Report::default();
    let mut bar = Progress::new(Unit::Things("pairs"), pairs);
    while let Some(answer) = answers.recv().await {
        report.add(answer);
        bar.set(report.count());
    }
    drop(bar);
    let after = memory(&check.settings, "after").await?;
    let revision = check.delete().await.map_err(failed)?;
    check.compact(revision).await?;
    check.defragment().await?;
    if report.show_errors() {
        return Err(Failure::silent(ERROR));
    }
    let used = (after - before) / f64::from(1 << 20);
    print_text(&format!(
        "PASS: Approximate system memory used : {used:.2} MB.\n"
    ));
    Ok(())
}

/// Memory of the first endpoint's process, in bytes.
async fn memory(settings: &Settings, when: &str) -> Result<f64, Failure> {
    let page = fetch_page(settings.config(), "/metrics").await;
    let bytes = match page {
        Ok(page) => resident(&page),
        Err(error) => {
            print_text(&format!("fetch error: {error}\n"));
            None
        }
    };
    match bytes {
        Some(bytes) => Ok(bytes),
        None => {
            print_text(&format!(
                "FAIL: Could not read {MEMORY_METRIC} {when} the put operations.\n"
            ));
            Err(Failure::silent(ERROR))
        }
    }
}

fn resident(page: &str) -> Option<f64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(MEMORY_METRIC))?;
    line.trim().parse().ok().filter(|&bytes| bytes > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(latencies: Vec<f64>, seconds: f64, good: bool, lines: [&str; 3]) {
        let report = Report {
            latencies,
            ..Report::default()
        };
        let expected = (lines.map(str::to_owned).to_vec(), good);
        assert_eq!(report.verdict(150, seconds), expected);
    }

    #[test]
    fn a_verdict_names_what_is_too_slow() {
        check(
            vec![0.01; 150],
            1.0,
            true,
            [
                "PASS: Throughput is 151 writes/s",
                "PASS: Slowest request took 0.010000s",
                "PASS: Stddev is 0.000000s",
            ],
        );
        check(
            vec![0.1, 0.7],
            1.0,
            false,
            [
                "FAIL: Throughput too low: 3 writes/s",
                "Slowest request took too long: 0.700000s",
                "Stddev too high: 0.300000s",
            ],
        );
    }

    #[test]
    fn memory_is_read_from_the_metrics() {
        let page =
            "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 2.5e+07\n";
        assert_eq!(resident(page), Some(25_000_000.0));
        assert_eq!(resident("other 1\n"), None);
    }

    #[test]
    fn keys_are_long_and_differ() {
        let mut source = Requests::new("/p/", PERFORMANCE_BYTES);
        let (one, two) = (source.next(), source.next());
        assert_eq!((one.key.len(), one.value.len()), (259, 1024));
        assert!(one.key != two.key && one.key.starts_with(b"/p/"));
    }
}
