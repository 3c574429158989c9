//! What processes use, by the kernel's accounting.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// CPU time that a process has used since its start, in microseconds. The kernel tells it in steps of 10 ms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl Cpu {
    /// Of processes, together.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let one = Self::read(&pid.to_string())?;
            sum.user_us += one.user_us;
            sum.system_us += one.system_us;
        }
        Ok(sum)
    }

    /// Of this process.
    pub(crate) fn own() -> Result<Self> {
        Self::read("self")
    }

    fn read(process: &str) -> Result<Self> {
        let path = format!("/proc/{process}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Self::parse(&text, rustix::param::clock_ticks_per_second()).with_context(|| path)
    }

    fn parse(text: &str, ticks_per_second: u64) -> Option<Self> {
        // The name may hold anything; after its last parenthesis come the state and then numbers.
        const USER: usize = 11;
        let (_, rest) = text.rsplit_once(')')?;
        let mut numbers = rest.split_ascii_whitespace().skip(USER);
        let mut microseconds = || {
            let ticks: u64 = numbers.next()?.parse().ok()?;
            Some(ticks * 1_000_000 / ticks_per_second)
        };
        Some(Self {
            user_us: microseconds()?,
            system_us: microseconds()?,
        })
    }

    /// What was used since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }

    pub(crate) fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }
}

/// CPU time of each thread that a process has, in nanoseconds: exact enough for one that does nothing.
#[derive(Debug, Default)]
pub(crate) struct ThreadTimes(BTreeMap<u32, u64>);

impl ThreadTimes {
    /// Of processes, together.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut times = Self::default();
        for pid in pids {
            let folder = format!("/proc/{pid}/task");
            let threads = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
            times.0.extend(threads.flatten().filter_map(|thread| {
                let number = thread.file_name().to_str()?.parse().ok()?;
                // One that has just ended has none.
                let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                Some((number, on_cpu_ns(&text)?))
            }));
        }
        Ok(times)
    }

    /// What was used since an earlier look, in nanoseconds. Threads that have ended meanwhile do not count.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        let used = |(thread, now): (&u32, &u64)| {
            now.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0))
        };
        self.0.iter().map(used).sum()
    }
}

/// The time that a thread was running, by its `schedstat`.
fn on_cpu_ns(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Memory of processes, in bytes, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident_bytes: u64,
    /// The part of it that is the process's own and could only go to swap.
    pub(crate) anonymous_bytes: u64,
    /// The part of it that is pages of files: the kernel drops them when others need room.
    pub(crate) mapped_bytes: u64,
    /// Resident at most, since the start.
    pub(crate) peak_bytes: u64,
}

impl Memory {
    /// Of processes, together.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let read = |name: &str| {
                let path = format!("/proc/{pid}/{name}");
                fs::read_to_string(&path).with_context(|| format!("read {path}"))
            };
            let one = Self::parse(&read("status")?, &read("smaps_rollup").unwrap_or_default());
            sum.resident_bytes += one.resident_bytes;
            sum.anonymous_bytes += one.anonymous_bytes;
            sum.mapped_bytes += one.mapped_bytes;
            sum.peak_bytes += one.peak_bytes;
        }
        Ok(sum)
    }

    /// The roll-up is exact and is told to the same user only; the status is close.
    fn parse(status: &str, rollup: &str) -> Self {
        let exact = line_bytes(rollup, "Rss:");
        let (resident_bytes, anonymous_bytes) = if exact > 0 {
            (exact, line_bytes(rollup, "Anonymous:"))
        } else {
            (line_bytes(status, "VmRSS:"), line_bytes(status, "RssAnon:"))
        };
        Self {
            resident_bytes,
            anonymous_bytes,
            mapped_bytes: resident_bytes.saturating_sub(anonymous_bytes),
            peak_bytes: line_bytes(status, "VmHWM:"),
        }
    }
}

/// The unit in which the kernel counts what files take, in bytes.
const BLOCK: u64 = 512;

/// Bytes that a folder takes on the disk, with all that is below it. Files that vanish meanwhile do not count.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        Ok(data) => data.blocks() * BLOCK,
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}

/// Bytes that a file takes on the disk; 0 when it is not there.
pub(crate) fn file_disk_bytes(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |data| data.blocks() * BLOCK)
}

/// The number of a line like `VmRSS:   1234 kB`; 0 if there is none.
fn line_bytes(text: &str, name: &str) -> u64 {
    const KIB: u64 = 1024;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        * KIB
}

/// How many threads of the whole machine wanted to run, over the last minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// CPU time that the host of a virtual machine gave to others while this one wanted to run, since its start: all cores added
/// up, in milliseconds. 0 where the kernel does not tell.
pub(crate) fn stolen_ms() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    parse_stolen(&text).unwrap_or(0) * 1_000 / rustix::param::clock_ticks_per_second()
}

/// The ticks in the first line: user, nice, system, idle, iowait, irq, softirq, steal.
fn parse_stolen(text: &str) -> Option<u64> {
    const STEAL: usize = 7;
    let numbers = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks = numbers.split_ascii_whitespace().nth(STEAL)?;
    ticks.parse().ok()
}

/// The machine, in words that a table of results needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors
            .lines()
            .find(|line| line.starts_with("model name"));
        let name = name.and_then(|line| line.split_once(':'));
        Self {
            processor: name.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            memory_bytes: line_bytes(&read("/proc/meminfo"), "MemTotal:"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use super::{Cpu, Memory, ThreadTimes, on_cpu_ns, parse_stolen};

    #[test]
    fn threads_count_from_when_they_were_seen_or_began() {
        let times = |list: &[(u32, u64)]| ThreadTimes(BTreeMap::from_iter(list.iter().copied()));
        let (before, after) = (times(&[(1, 50), (2, 70)]), times(&[(1, 53), (9, 4)]));
        assert_eq!(after.since(&before), 7);
        assert_eq!(on_cpu_ns("1054 33 2\n"), Some(1054));
        assert_eq!(on_cpu_ns(""), None);
    }

    #[test]
    fn a_thread_that_works_is_seen_working() {
        let own = [std::process::id()];
        let before = ThreadTimes::of(&own).unwrap();
        let since = Instant::now();
        while ThreadTimes::of(&own).unwrap().since(&before) == 0 {
            assert!(since.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn stolen_time_is_the_eighth_number_of_all_cores() {
        let text = "cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(parse_stolen(text), Some(80));
        assert_eq!(parse_stolen("cpu  1 2 3 4\n"), None, "an old kernel");
        assert_eq!(parse_stolen("intr 1 2 3 4 5 6 7 8 9\n"), None);
    }

    #[test]
    fn cpu_is_read_past_a_strange_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 9 10 11";
        let cpu = Cpu::parse(text, 100).unwrap();
        assert_eq!((cpu.user_us, cpu.system_us), (1_500_000, 250_000));
        assert!(Cpu::parse("7 (a) S 1", 100).is_none());
    }

    #[test]
    fn memory_is_split_in_own_and_mapped() {
        let status = "Name: x\nVmHWM:\t 9 kB\nVmRSS:\t  8 kB\nRssAnon:\t 3 kB\n";
        let rollup = "00-ff ---p [rollup]\nRss:   7 kB\nPss: 6 kB\nAnonymous:   5 kB\n";
        let kibibytes = |resident: u64, own: u64, mapped: u64| Memory {
            resident_bytes: resident * 1024,
            anonymous_bytes: own * 1024,
            mapped_bytes: mapped * 1024,
            peak_bytes: 9 * 1024,
        };
        assert_eq!(Memory::parse(status, rollup), kibibytes(7, 5, 2));
        assert_eq!(Memory::parse(status, ""), kibibytes(8, 3, 5));
    }
}
