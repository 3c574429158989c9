//! One member: connections × value sizes × shares of reads, to find a corner where it is slower.

use std::time::Duration;

use super::{Fixture, Group, Size, Spec, Stage, accept};
use crate::keys::KeySpace;
use crate::load::{Kind, Load};
use crate::measure::{self, Times};
use crate::results::Outcome;

const READ_PERCENTS: [u64; 3] = [2, 50, 98];

/// Bytes in flight over all connections past which a cell takes longer than a quick suite has: 2,048 × 1 MB.
const QUICK_BYTES_MAX: usize = 1 << 30;

const SIZES: [(usize, &str); 4] = [
    (16, "16 B"),
    (1 << 10, "1 KB"),
    (64 << 10, "64 KB"),
    (1 << 20, "1 MB"),
];

pub(super) fn groups(size: Size) -> Vec<Group> {
    let connections: &[usize] = size.pick(&[1, 3], &[1, 16, 256, 2048], &[1, 16, 256, 2048]);
    let group = |(value_bytes, words): &(usize, &str)| {
        // Not so many large ones that filling them in takes longer than measuring.
        const FILL_BYTES: u64 = 64 << 20;
        let count = FILL_BYTES / *value_bytes as u64;
        let keys = KeySpace::short(count.clamp(16, size.pick(50, 10_000, 10_000)), *value_bytes);
        let mut scenarios = Vec::new();
        for connections in connections {
            for read_percent in READ_PERCENTS {
                let load = Load {
                    connections: *connections,
                    in_flight: 1,
                    keys,
                    read_percent,
                    ..Load::new(Kind::Mixed)
                };
                if size == Size::Quick && load.connections * value_bytes > QUICK_BYTES_MAX {
                    continue;
                }
                let name = format!("matrix-{connections}-{value_bytes}-{read_percent}");
                let what = format!("{connections} connections, {words}, {read_percent} % reads");
                scenarios.push(cell(&name, &what, load));
            }
        }
        Group {
            fixture: Fixture::filled(1, keys).large(),
            scenarios,
        }
    };
    SIZES.iter().map(group).collect()
}

/// Like any load on a fixture, but as long as it must be for what is in flight.
fn cell(name: &str, what: &str, load: Load) -> Spec {
    let own = load.clone();
    let spec = Spec::new(name, what, move |stage| {
        let target = stage.servers.target();
        let times = times(stage, own.connections * own.keys.value_bytes);
        Ok(Outcome::of(accept(measure::run(&own, &target, times)?)?))
    });
    Spec {
        load: Some(load),
        ..spec
    }
}

/// There are many cells, so quick ones are shorter than other quick runs; where much is in flight, every connection has
/// to get some answers even at the speed of a slow disk.
fn times(stage: &Stage<'_>, bytes_in_flight: usize) -> Times {
    const SLOW_BYTES_PER_SECOND: f64 = 100e6;
    let round = Duration::from_secs_f64(bytes_in_flight as f64 / SLOW_BYTES_PER_SECOND);
    let short = stage.size.pick(1.0, 0.5, 1.0);
    Times {
        warm_up: stage.times.warm_up.mul_f64(short) + round / 2,
        window: stage.times.window.mul_f64(short).max(round * 2),
    }
}
