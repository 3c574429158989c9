//! One member: connections × value sizes × shares of reads, to find a corner where it is slower.

use super::{Fixture, Group, Size, Spec};
use crate::keys::KeySpace;
use crate::load::{Kind, Load};

const READ_PERCENTS: [u64; 3] = [2, 50, 98];

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
                scenarios.push(Spec::load_on_fixture(&name, &what, load));
            }
        }
        Group {
            fixture: Fixture::filled(1, keys).large(),
            scenarios,
        }
    };
    SIZES.iter().map(group).collect()
}
