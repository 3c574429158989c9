//! What the operating system says about the process, read at each scrape.

use std::fs;

use super::text::{TextWriter, sample};

/// Clock ticks per second in `/proc`. The kernel has shown 100 to user space on every platform for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// Facts of one moment; what cannot be read is left out.
#[derive(Debug, Default)]
struct Facts {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    virtual_bytes: Option<f64>,
    resident_bytes: Option<f64>,
    open_descriptors: Option<f64>,
    max_descriptors: Option<f64>,
    max_virtual_bytes: Option<f64>,
    received_bytes: Option<f64>,
    transmitted_bytes: Option<f64>,
}

/// The limit of open files of the process; `None` if there is none or it cannot be read.
#[must_use]
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

impl Facts {
    fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command name may hold anything, so fields are counted from its closing parenthesis: the third field
        // of the file is the first here.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let field = |number: usize| {
            fields
                .get(number - 3)
                .and_then(|text| text.parse::<f64>().ok())
        };
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
        let boot: Option<f64> = boot.and_then(|text| text.trim().parse().ok());
        let limits = rustix::process::getrlimit(rustix::process::Resource::As);
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            start_seconds: boot
                .zip(field(22))
                .map(|(boot, start)| boot + start / TICKS_PER_SECOND),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as f64),
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|list| list.count() as f64),
            max_descriptors: descriptor_limit().map(|limit| limit as f64),
            max_virtual_bytes: Some(limits.current.map_or(u64::MAX as f64, |limit| limit as f64)),
            received_bytes: network_octets("InOctets"),
            transmitted_bytes: network_octets("OutOctets"),
        }
    }
}

/// A number of the IP layer of the process's network namespace: a line of names, then a line of numbers.
fn network_octets(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let place = lines
        .next()?
        .split_whitespace()
        .position(|found| found == name)?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

pub(super) fn write(writer: &mut TextWriter) {
    let facts = Facts::read();
    let rows = [
        (
            "process_cpu_seconds_total",
            "CPU time used, in seconds.",
            facts.cpu_seconds,
        ),
        (
            "process_max_fds",
            "Limit of open file descriptors.",
            facts.max_descriptors,
        ),
        (
            "process_open_fds",
            "Open file descriptors.",
            facts.open_descriptors,
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory, in bytes.",
            facts.resident_bytes,
        ),
        (
            "process_start_time_seconds",
            "Start of the process, as Unix time.",
            facts.start_seconds,
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory, in bytes.",
            facts.virtual_bytes,
        ),
        (
            "process_virtual_memory_max_bytes",
            "Limit of virtual memory, in bytes.",
            facts.max_virtual_bytes,
        ),
        (
            "process_network_receive_bytes_total",
            "Bytes received by the network namespace of the process.",
            facts.received_bytes,
        ),
        (
            "process_network_transmit_bytes_total",
            "Bytes sent by the network namespace of the process.",
            facts.transmitted_bytes,
        ),
        (
            "os_fd_limit",
            "Limit of open file descriptors.",
            facts.max_descriptors,
        ),
        (
            "os_fd_used",
            "Open file descriptors.",
            facts.open_descriptors,
        ),
    ];
    for (name, help, value) in rows {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        writer.samples(name, help, kind, |text| {
            if let Some(value) = value {
                sample(text, name, &[], value);
            }
        });
    }
}
