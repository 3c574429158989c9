//! One member: connections × value sizes × shares of reads, to find a corner where it is slower.

use std::time::Duration;

use super::{Fixture, Group, Size, Spec, Stage, accept};
use crate::keys::KeySpace;
use crate::load::{Kind, Load};
use crate::measure::{self, Times};
use crate::results::Outcome;

const READ_PERCENTS: [u64; 3] = [2, 50, 98];

/// Bytes in flight over all connections past which no server keeps up: what a disk takes while a request may wait (7 s)
/// is less. Such a cell compares what is answered, and refusals are counted beside it; and quick ones have one turn.
const OVERLOAD_BYTES: usize = 1 << 30;

/// With values from this size on every turn has new servers. What two servers still hold in memory after many large values
/// is more than a machine has, and so are on the disk the data of all turns; filling in takes less time than it does with
/// small values.
const FRESH_BYTES: usize = 64 << 10;

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
                let name = format!("matrix-{connections}-{value_bytes}-{read_percent}");
                let what = format!("{connections} connections, {words}, {read_percent} % reads");
                let is_overload = load.connections * value_bytes > OVERLOAD_BYTES;
                let mut cell = cell(&name, &what, load, is_overload);
                cell.is_long = is_overload && size == Size::Quick;
                scenarios.push(cell);
            }
        }
        let mut fixture = Fixture::filled(1, keys).large();
        fixture.is_fresh = *value_bytes >= FRESH_BYTES;
        Group { fixture, scenarios }
    };
    SIZES.iter().map(group).collect()
}

/// Like any load on a fixture, but as long as it must be for what is in flight.
fn cell(name: &str, what: &str, load: Load, is_overload: bool) -> Spec {
    let own = load.clone();
    let spec = Spec::new(name, what, move |stage| {
        let target = stage.servers.target();
        let times = times(stage, own.connections * own.keys.value_bytes);
        let run = measure::run(&own, &target, times)?;
        if !is_overload {
            return Ok(Outcome::of(accept(run)?));
        }
        let refused = run.refused.values().sum::<u64>() as f64;
        Ok(Outcome::of(run).figure("refused", refused))
    });
    let spec = Spec {
        load: Some(load),
        ..spec
    };
    if is_overload {
        return spec.figure("refused", "calls refused or timed out", "");
    }
    spec
}

/// There are many cells, so quick ones are shorter than other quick runs; where much is in flight, every connection has
/// to get some answers even at the speed of a slow disk, unless there are too many for that: then it takes until memory
/// that is touched for the first time has been, on both sides.
fn times(stage: &Stage<'_>, bytes_in_flight: usize) -> Times {
    const SLOW_BYTES_PER_SECOND: f64 = 100e6;
    const ROUND_SECONDS_MAX: f64 = 12.0;
    let round = bytes_in_flight as f64 / SLOW_BYTES_PER_SECOND;
    let round = Duration::from_secs_f64(round.min(ROUND_SECONDS_MAX));
    let short = stage.size.pick(1.0, 0.5, 1.0);
    let settles = if bytes_in_flight > OVERLOAD_BYTES {
        round
    } else {
        round / 2
    };
    Times {
        warm_up: stage.times.warm_up.mul_f64(short) + settles,
        window: stage.times.window.mul_f64(short).max(round * 2),
    }
}

#[cfg(test)]
mod tests {
    use super::{FRESH_BYTES, Size, groups};

    #[test]
    fn servers_with_large_values_are_never_kept_side_by_side() {
        for size in [Size::Smoke, Size::Quick, Size::Full] {
            for group in groups(size) {
                let bytes = group.fixture.keys.map_or(0, |keys| keys.value_bytes);
                assert_eq!(group.fixture.is_fresh, bytes >= FRESH_BYTES, "{bytes}");
            }
        }
    }
}
