//! A lone member on a disk, with its machines at hand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use kvorum_member::core::Input;
use kvorum_member::lease::REVOKES_IN_FLIGHT_MAX;
use kvorum_proto::etcdserverpb::LeaseGrantRequest;
use kvorum_proto::ids::LeaseId;

use super::*;
use crate::scratch::Scratch;

/// A running member and what it needs.
struct Lone {
    running: Running,
    /// Before the folder, which it works on.
    _runtime: tokio::runtime::Runtime,
    _folder: Scratch,
}

impl Lone {
    fn start(flags: &[&str]) -> Self {
        let folder = Scratch::new();
        let mut arguments = vec![format!("--data-dir={}", folder.file("data"))];
        arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        let config = match config::parse(&arguments, &[]) {
            Ok(parsed) => parsed.config,
            Err(exit) => panic!("status {}", exit.report()),
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut directory = DataDirectory::open(config.data_dir.as_ref()).expect("a directory");
        let security = PeerSecurity::prepare(&config, false).expect("no TLS");
        let surroundings = (runtime.handle(), security.dialer);
        let metrics = Arc::new(Metrics::new(false));
        let running = start(&config, &mut directory, &metrics, surroundings);
        Self {
            running: running.expect("a new member"),
            _runtime: runtime,
            _folder: folder,
        }
    }
}

/// Looks once in each turn of the machines at the number of leases, and tells it with how many were granted until then, as
/// long as somebody listens.
fn count_leases(member: Member, granted: Arc<AtomicUsize>, counts: Sender<(usize, usize)>) {
    member.clone().inspect(move |core, _| {
        let seen = (granted.load(Ordering::Relaxed), core.apply().grants().len());
        if counts.send(seen).is_ok() {
            // What is asked here is taken in by this turn, what is asked when that is answered by the next one.
            let again = member.clone();
            let ask = |token, id| Input::TimeToLive { token, id };
            member.ask_lease(LeaseId(1), ask, move |_| {
                count_leases(again, granted, counts);
            });
        }
    });
}

/// Whatever else is asked waits for a turn to end.
#[test]
fn leases_that_end_together_are_revoked_over_many_turns() {
    const LEASES: usize = 16 * REVOKES_IN_FLIGHT_MAX;
    let lone = Lone::start(&["--heartbeat-interval=10", "--election-timeout=50"]);
    let member = &lone.running.member;
    let (give, counts) = channel();
    let granted = Arc::<AtomicUsize>::default();
    count_leases(member.clone(), Arc::clone(&granted), give);
    for id in 1..=LEASES as i64 {
        let grant = LeaseGrantRequest { id, ttl: 1 };
        let granted = Arc::clone(&granted);
        member.propose_inside(Payload::LeaseGrant(grant), move |outcome| {
            outcome.expect("a lease");
            granted.fetch_add(1, Ordering::Relaxed);
        });
    }
    let (mut before, mut most) = (0usize, 0);
    let all_ended = counts.iter().any(|(granted, count)| {
        most = most.max(before.saturating_sub(count));
        before = count;
        (granted, count) == (LEASES, 0)
    });
    assert!(all_ended, "{before} leases are left");
    // A group that is written in the turn, and one that was written meanwhile.
    assert!(most <= 2 * REVOKES_IN_FLIGHT_MAX, "{most} at once");
    lone.running.stop();
}
