//! What processes use, by the kernel's accounting.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// CPU time that a process has used since its start, in microseconds. The kernel tells it in steps of 10 ms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl Cpu {
    /// Of a process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Self::read(&pid.to_string())
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

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident_bytes: u64,
    /// Resident at most, since its start.
    pub(crate) peak_bytes: u64,
    /// Resident, with what is shared divided by those who share it.
    pub(crate) proportional_bytes: u64,
}

impl Memory {
    /// Of a process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let status = read("status")?;
        // Only for processes of the same user.
        let rollup = read("smaps_rollup").unwrap_or_default();
        Ok(Self {
            resident_bytes: line_bytes(&status, "VmRSS:"),
            peak_bytes: line_bytes(&status, "VmHWM:"),
            proportional_bytes: line_bytes(&rollup, "Pss:"),
        })
    }
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
    use super::{Cpu, line_bytes};

    #[test]
    fn cpu_is_read_past_a_strange_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 9 10 11";
        let cpu = Cpu::parse(text, 100).unwrap();
        assert_eq!((cpu.user_us, cpu.system_us), (1_500_000, 250_000));
        assert!(Cpu::parse("7 (a) S 1", 100).is_none());
    }

    #[test]
    fn memory_lines_are_kibibytes() {
        assert_eq!(line_bytes("Name: x\nVmRSS:\t  12 kB\n", "VmRSS:"), 12_288);
        assert_eq!(line_bytes("", "VmRSS:"), 0);
    }
}
