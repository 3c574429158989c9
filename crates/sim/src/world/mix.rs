//! How a run is disturbed: everything that a seed decides before the first step.

use std::collections::BTreeSet;
use std::time::Duration;

use kvorum_member::checkpoint::Policy;
use kvorum_member::consensus::{APPLY_CREDIT_BYTES, CATCH_UP_BYTES_MAX, MESSAGE_BYTES_MAX};
use kvorum_mvcc::STORE_BASE_BYTES;
use kvorum_storage::wal::Options;

use super::drill::Drill;
use crate::disk::Fault;
use crate::random::Random;
use crate::workload::Kind;

/// A kind of weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// The process is killed now and then; the disk is sound.
    Quiet,
    /// Every kind of fault, with time to recover.
    Rough,
    /// Faults on the heels of faults, small windows, a slow disk.
    Hostile,
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The kind.
    pub weather: Weather,
    /// Members that found the cluster.
    pub members: u32,
    /// Whether an operator adds, promotes, removes and replaces members and moves the lead.
    pub operates: bool,
    /// Entries between two trims of the log in memory, and entries kept for slow followers.
    pub snapshot_count: u64,
    /// See `snapshot_count`.
    pub catch_up_entries: u64,
    /// And their bytes at most.
    pub catch_up_bytes_max: u64,
    /// Bytes of committed entries that apply may have unconfirmed: few, so that others wait.
    pub apply_credit_bytes: u64,
    /// A message between members has so many bytes of entries at most, and one entry at least.
    pub append_bytes_max: u64,
    /// Messages between members that are lost, in a thousand.
    pub lost_per_mille: u64,
    /// Messages between members that arrive twice, in a thousand.
    pub twice_per_mille: u64,
    /// The longest way of a message between members, in microseconds.
    pub travel_micros_max: u64,
    /// Clients that write and read, and how.
    pub workloads: Vec<Kind>,
    /// Logical bytes that a member may store; none: as many as it likes.
    pub quota_bytes: Option<u64>,
    /// Clients that watch.
    pub watch_clients: u32,
    /// The pause of a client between an answer and its next request, in microseconds.
    pub think_micros: (u64, u64),
    /// The time between two faults, in milliseconds.
    pub fault_gap_millis: (u64, u64),
    /// How long a process that died stays away, in milliseconds.
    pub down_millis: (u64, u64),
    /// How long a disk job takes, in microseconds.
    pub job_micros: (u64, u64),
    /// Values are this long, in bytes.
    pub value_bytes: (u64, u64),
    /// Layout of the log: tiny files, so that many are begun.
    pub log: Options,
    /// How the state gets into files: often.
    pub state: StateMix,
    /// How much a watch stream may hold: messages and bytes.
    pub window: (usize, usize),
    /// Events of more bytes come in pieces where a watcher allows it.
    pub message_bytes_max: usize,
    /// A snapshot between members travels in pieces of so many bytes.
    pub piece_bytes: u64,
    /// The pause between two of them, in microseconds.
    pub piece_micros: (u64, u64),
    /// Records that a compaction looks at in one step.
    pub compact_step: usize,
    /// The longest pause between two such steps, in microseconds.
    pub compact_pause_micros: u64,
    /// Whether the machines' invariants are checked after each step; slow, so a part of the seeds does.
    pub checks_invariants: bool,
    /// How long clients and faults go on, in virtual time.
    pub length: Duration,
    /// A series of faults with one aim, beside those that strike by chance.
    pub drill: Option<Drill>,
    /// Whether faults strike by chance; else only what a [`Trial`] says happens.
    pub disturbs: bool,
    /// The faults with these numbers do not strike.
    pub left_out: BTreeSet<u64>,
}

/// What is left out of a run, to see whether it matters, or asked for in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// How long clients and faults go on, in virtual time.
    pub length: Duration,
    /// This weather instead of the one that the seed draws.
    pub weather: Option<Weather>,
    /// So many founders instead of as many as the seed draws.
    pub members: Option<u32>,
    /// Without an operator.
    pub operator: bool,
    /// Without a drill.
    pub undrilled: bool,
    /// This drill instead of the one that the seed draws.
    pub drill: Option<Drill>,
    /// So many clients fewer; one stays.
    pub clients: u32,
    /// So many watching clients fewer.
    pub watch_clients: u32,
    /// The faults with these numbers do not strike.
    pub faults: BTreeSet<u64>,
}

/// How the state gets into files.
#[derive(Clone, Copy, Debug)]
pub struct StateMix {
    /// When checkpoints are made.
    pub policy: Policy,
    /// Size at which a run becomes a file: tiny, so that many are made and copied.
    pub segment_bytes: u64,
}

/// One fault at one place of a short history that is the same each time: for going through all places in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trial {
    /// What the clients do.
    pub seed: u64,
    /// What a power loss leaves of unsynced bytes.
    pub luck: u64,
    /// The disk call (the first has 0) that meets a fault.
    pub call: Option<(u64, Fault)>,
    /// The disk job (the first has 0) that hangs for longer than clients wait.
    pub hanging_job: Option<u64>,
}

impl Mix {
    /// Draws the settings of a run.
    #[must_use]
    pub fn draw(random: &mut Random, cut: &Cut) -> Self {
        let weather = *random.pick(&[Weather::Quiet, Weather::Rough, Weather::Hostile]);
        let weather = cut.weather.unwrap_or(weather);
        let members = *random.pick(&[1, 1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 7]);
        let members = cut.members.unwrap_or(members);
        let (lost_per_mille, twice_per_mille, travel_micros_max) = match weather {
            Weather::Quiet => (0, 0, 2_000),
            Weather::Rough => (2, 10, 50_000),
            Weather::Hostile => (20, 30, 400_000),
        };
        let log = Options {
            segment_bytes: *random.pick(&[4 << 10, 8 << 10, 32 << 10]),
            ahead_bytes: *random.pick(&[0, 1 << 10, 4 << 10]),
            max_wals: *random.pick(&[0, 1, 5]),
        };
        let value_bytes = *random.pick(&[(8, 24), (8, 200), (100, 1500)]);
        let mut files = random.split("state");
        let state = StateMix {
            policy: Policy {
                entries_min: *files.pick(&[3, 30, 300]),
                log_bytes_max: *files.pick(&[1 << 10, 64 << 10]),
                pause: Duration::from_millis(files.between(0, 2_000)),
            },
            segment_bytes: *files.pick(&[200, 2 << 10, 20 << 10]),
        };
        let (mut fault_gap_millis, down_millis, job_micros, window) = match weather {
            Weather::Quiet => ((8_000, 30_000), (50, 500), (50, 400), (64, 1 << 20)),
            Weather::Rough => ((500, 8_000), (10, 3_000), (50, 5_000), (8, 4 << 10)),
            Weather::Hostile => ((20, 2_000), (1, 1_000), (50, 40_000), (2, 700)),
        };
        let mut paces = random.split("paces");
        let (compact_step, compact_pause_micros) =
            *paces.pick(&[(1_000, 0), (1_000, 0), (20, 5_000), (3, 20_000)]);
        if members > 1 && weather == Weather::Hostile {
            // An election takes a second or two.
            fault_gap_millis = (200, 4_000);
        }
        let drawn = *random.split("drill").pick(&Drill::ALL);
        let is_drilled = members > 1 && weather != Weather::Quiet && !cut.undrilled;
        let drill = is_drilled.then_some(cut.drill.unwrap_or(drawn));
        let (snapshot_counts, catch_ups): (&[u64], &[u64]) = match drill {
            Some(Drill::Snapshots) => (&[5, 5, 40], &[1, 1, 10]),
            _ => (&[5, 40, 400, 10_000], &[1, 10, 100]),
        };
        let append_bytes_max = match drill {
            // An entry of a former term must not take the first one of its leader's term with it.
            Some(Drill::Comebacks) => 0,
            _ => *random
                .split("appends")
                .pick(&[0, 500, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX]),
        };
        let is_membership = matches!(drill, Some(Drill::Membership | Drill::Snapshots));
        let clients = (random.between(2, 6) as u32).saturating_sub(cut.clients);
        let workloads = workloads(&mut random.split("workloads"), clients.max(1));
        let mut quota = random.split("quota");
        let quota_bytes = quota
            .chance(1, 6)
            .then(|| STORE_BASE_BYTES + quota.between(10_000, 60_000));
        Self {
            weather,
            members,
            operates: members > 1 && (random.chance(2, 3) || is_membership) && !cut.operator,
            snapshot_count: *random.pick(snapshot_counts),
            catch_up_entries: *random.pick(catch_ups),
            catch_up_bytes_max: *random.split("catch up").pick(&[
                0,
                2_000,
                CATCH_UP_BYTES_MAX,
                CATCH_UP_BYTES_MAX,
            ]),
            apply_credit_bytes: *files.pick(&[500, 4_000, APPLY_CREDIT_BYTES]),
            append_bytes_max,
            lost_per_mille,
            twice_per_mille,
            travel_micros_max,
            workloads,
            quota_bytes,
            watch_clients: (random.between(1, 4) as u32).saturating_sub(cut.watch_clients),
            think_micros: *random.pick(&[(1_000, 50_000), (1_000, 150_000), (50_000, 400_000)]),
            fault_gap_millis,
            down_millis,
            job_micros,
            value_bytes,
            log,
            state,
            window,
            message_bytes_max: *paces.pick(&[500, 3_000, 1 << 20]),
            piece_bytes: *paces.pick(&[4 << 10, 16 << 10, 64 << 10]),
            piece_micros: *paces.pick(&[(0, 500), (0, 5_000), (500, 50_000)]),
            compact_step,
            compact_pause_micros,
            checks_invariants: random.chance(1, 8),
            length: cut.length,
            drill,
            disturbs: true,
            left_out: cut.faults.clone(),
        }
    }

    /// The short history of a [`Trial`]: through several tiny files, a restart and a replay.
    #[must_use]
    pub fn trial() -> Self {
        Self {
            weather: Weather::Quiet,
            members: 1,
            operates: false,
            snapshot_count: 10_000,
            catch_up_entries: 5_000,
            catch_up_bytes_max: CATCH_UP_BYTES_MAX,
            apply_credit_bytes: APPLY_CREDIT_BYTES,
            append_bytes_max: MESSAGE_BYTES_MAX,
            lost_per_mille: 0,
            twice_per_mille: 0,
            travel_micros_max: 1_000,
            workloads: vec![Kind::Registers, Kind::Leases, Kind::Locks],
            quota_bytes: None,
            watch_clients: 1,
            think_micros: (500, 20_000),
            fault_gap_millis: (700, 700),
            down_millis: (10, 50),
            job_micros: (50, 2_000),
            value_bytes: (100, 400),
            log: Options {
                segment_bytes: 4 << 10,
                ahead_bytes: 1 << 10,
                max_wals: 0,
            },
            state: StateMix {
                policy: Policy {
                    entries_min: 25,
                    log_bytes_max: u64::MAX,
                    pause: Duration::ZERO,
                },
                segment_bytes: 2 << 10,
            },
            window: (8, 4 << 10),
            message_bytes_max: 500,
            piece_bytes: 4 << 10,
            piece_micros: (0, 500),
            compact_step: 3,
            compact_pause_micros: 20_000,
            checks_invariants: false,
            length: Duration::from_millis(1_200),
            drill: None,
            disturbs: false,
            left_out: BTreeSet::new(),
        }
    }
}

/// One kind of use has half of the clients, so that they meet; the others do what they like.
fn workloads(random: &mut Random, clients: u32) -> Vec<Kind> {
    let theme = *random.pick(&Kind::ALL);
    let kind = |_| match random.chance(1, 2) {
        true => theme,
        false => *random.pick(&Kind::ALL),
    };
    (0..clients).map(kind).collect()
}
