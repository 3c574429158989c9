use std::time::Duration;

use kvorum_proto::ids::{LeaseId, Moment};
use proptest::prelude::*;

use super::*;

const ELECTION: Duration = Duration::from_secs(1);

fn at(milliseconds: u64) -> Moment {
    Moment(Duration::from_millis(milliseconds))
}

fn leader() -> Deadlines {
    let mut deadlines = Deadlines::new(ELECTION);
    deadlines.input(at(0), Input::Promoted);
    deadlines
}

fn granted(id: i64, ttl_seconds: i64) -> Input {
    Input::Granted {
        id: LeaseId(id),
        ttl_seconds,
    }
}

fn checkpointed(id: i64, remaining_seconds: i64) -> Input {
    Input::Checkpointed {
        id: LeaseId(id),
        remaining_seconds,
    }
}

fn keep_alive(token: u64, id: i64) -> Input {
    Input::KeepAlive {
        token: Token(token),
        id: LeaseId(id),
    }
}

fn kept(token: u64, id: i64, ttl_seconds: i64) -> Output {
    Output::KeptAlive {
        token: Token(token),
        id: LeaseId(id),
        ttl_seconds,
    }
}

/// Hands one input in and compares what comes out. Whoever asks is told at once that it leads.
#[track_caller]
fn check(deadlines: &mut Deadlines, milliseconds: u64, input: Input, expected: &[Output]) {
    deadlines.input(at(milliseconds), input);
    let mut outputs = Vec::new();
    while let Some(output) = deadlines.take_output() {
        match output {
            Output::Confirm(round) => {
                deadlines.input(at(milliseconds), Input::Confirmed(round));
            }
            other => outputs.push(other),
        }
    }
    deadlines.check_invariants();
    assert_eq!(outputs, expected);
}

#[test]
fn a_keep_alive_counts_from_when_it_came_once_a_quorum_has_confirmed_the_lead() {
    let mut leases = leader();
    check(&mut leases, 0, granted(7, 10), &[]);
    for (came, token) in [(4_000, 1), (4_500, 2)] {
        leases.input(at(came), keep_alive(token, 7));
    }
    let asked = [leases.take_output(), leases.take_output()];
    assert_eq!(
        asked,
        [1, 2].map(|round| Some(Output::Confirm(Round(round))))
    );
    check(
        &mut leases,
        6_000,
        Input::Confirmed(Round(1)),
        &[kept(1, 7, 10)],
    );
    assert_eq!(leases.end(LeaseId(7)), at(14_000));
    check(
        &mut leases,
        7_000,
        Input::Demoted,
        &[Output::NotPrimary(Token(2))],
    );
    check(&mut leases, 7_100, Input::Confirmed(Round(2)), &[]);
}

#[test]
fn a_keep_alive_that_nobody_confirms_is_sent_away() {
    let mut leases = leader();
    check(&mut leases, 0, granted(7, 10), &[]);
    leases.input(at(4_000), keep_alive(1, 7));
    leases.input(at(4_000), keep_alive(2, 7));
    leases.input(at(4_000), Input::Forget(Token(1)));
    assert_eq!(leases.take_output(), Some(Output::Confirm(Round(1))));
    assert_eq!(leases.take_output(), Some(Output::Confirm(Round(2))));
    let sent_away = [Output::NotPrimary(Token(2))];
    check(&mut leases, 5_000, Input::Unconfirmed(Round(2)), &sent_away);
    assert_eq!(leases.end(LeaseId(7)), at(10_000));
}

#[test]
fn leases_of_a_snapshot_take_the_place_of_all_others() {
    let mut leases = Deadlines::new(ELECTION);
    check(&mut leases, 0, granted(7, 10), &[]);
    let restored = Restored {
        id: LeaseId(8),
        ttl_seconds: 10,
        remaining_seconds: 4,
    };
    check(&mut leases, 0, Input::Restored(vec![restored]), &[]);
    assert_eq!(leases.list(), [LeaseId(8)]);
    check(&mut leases, 1_000, Input::Promoted, &[]);
    assert_eq!(leases.end(LeaseId(8)), at(6_000));
}

fn revoke(id: i64) -> Output {
    Output::Revoke(LeaseId(id))
}

#[test]
fn a_lease_ends_its_lifetime_after_the_last_keep_alive() {
    let mut leases = leader();
    check(&mut leases, 0, granted(7, 10), &[]);
    assert_eq!(leases.next_deadline(), Some(at(10_000)));
    check(&mut leases, 9_000, keep_alive(1, 7), &[kept(1, 7, 10)]);
    check(&mut leases, 18_999, Input::Tick, &[]);
    assert_eq!(leases.next_deadline(), Some(at(19_000)));
    check(&mut leases, 19_000, Input::Tick, &[revoke(7)]);
    check(&mut leases, 19_100, Input::Revoked(LeaseId(7)), &[]);
    assert_eq!(leases.next_deadline(), None);
}

#[test]
fn keep_alives_of_missing_leases_are_answered_with_nothing() {
    check(&mut leader(), 0, keep_alive(1, 7), &[kept(1, 7, 0)]);
}

#[test]
fn a_keep_alive_of_an_ended_lease_waits_for_its_revoke() {
    let mut leases = leader();
    check(&mut leases, 0, granted(7, 2), &[]);
    check(&mut leases, 2_000, keep_alive(1, 7), &[]);
    check(&mut leases, 2_000, keep_alive(3, 7), &[]);
    check(&mut leases, 2_100, Input::Tick, &[revoke(7)]);
    check(&mut leases, 2_150, keep_alive(2, 7), &[]);
    check(&mut leases, 2_160, Input::Forget(Token(3)), &[]);
    check(
        &mut leases,
        2_200,
        Input::Revoked(LeaseId(7)),
        &[kept(1, 7, 0), kept(2, 7, 0)],
    );
}

#[test]
fn a_revoke_that_is_not_applied_is_asked_for_again() {
    let mut leases = leader();
    check(&mut leases, 0, granted(7, 2), &[]);
    check(&mut leases, 2_000, Input::Tick, &[revoke(7)]);
    assert_eq!(leases.next_deadline(), Some(at(5_000)));
    check(&mut leases, 4_999, Input::Tick, &[]);
    check(&mut leases, 5_000, Input::Tick, &[revoke(7)]);
    check(&mut leases, 7_999, Input::Tick, &[]);
}

#[test]
fn short_lifetimes_count_down_the_minimum() {
    assert_eq!(ttl_seconds_min(ELECTION), 2);
    assert_eq!(ttl_seconds_min(Duration::from_millis(2_001)), 4);
    let mut leases = leader();
    check(&mut leases, 0, granted(7, -5), &[]);
    check(&mut leases, 1_999, Input::Tick, &[]);
    check(&mut leases, 2_000, Input::Tick, &[revoke(7)]);
}

#[test]
fn time_to_live_is_cut_to_whole_seconds() {
    let mut leases = leader();
    check(&mut leases, 0, granted(7, 10), &[]);
    for (time, ttl) in [(0, 10), (1, 9), (9_001, 0), (12_000, 0)] {
        let answer = Output::TimeToLive {
            token: Token(1),
            id: LeaseId(7),
            ttl_seconds: ttl,
            granted_seconds: 10,
        };
        check(
            &mut leases,
            time,
            Input::TimeToLive {
                token: Token(1),
                id: LeaseId(7),
            },
            &[answer],
        );
    }
    let missing = Output::TimeToLive {
        token: Token(2),
        id: LeaseId(8),
        ttl_seconds: -1,
        granted_seconds: 0,
    };
    check(
        &mut leases,
        0,
        Input::TimeToLive {
            token: Token(2),
            id: LeaseId(8),
        },
        &[missing],
    );
}

#[test]
fn revokes_are_bounded_per_check_and_in_flight() {
    let count = PICKED_PER_CHECK_MAX + 100;
    let mut leases = leader();
    for id in 0..count as i64 {
        leases.input(at(0), granted(id, 2));
    }
    let mut seen = 0;
    let mut time = 2_000;
    leases.input(at(time), Input::Tick);
    while let Some(output) = leases.take_output() {
        let Output::Revoke(id) = output else {
            panic!("{output:?}")
        };
        if seen % 500 == 0 {
            leases.check_invariants();
        }
        leases.input(at(time), Input::Revoked(id));
        seen += 1;
        if seen == PICKED_PER_CHECK_MAX {
            assert_eq!(
                leases.take_output(),
                None,
                "the rest waits for the next check"
            );
            assert_eq!(leases.next_deadline(), Some(at(2_500)));
            time = 2_500;
            leases.input(at(time), Input::Tick);
        }
    }
    assert_eq!((seen, leases.list().len()), (count, 0));
}

#[test]
fn a_new_leader_gives_every_lease_its_time_again() {
    let mut leases = Deadlines::new(ELECTION);
    check(&mut leases, 0, granted(1, 60), &[]);
    check(&mut leases, 0, granted(2, 60), &[]);
    check(&mut leases, 0, checkpointed(2, 5), &[]);
    check(
        &mut leases,
        0,
        keep_alive(1, 1),
        &[Output::NotPrimary(Token(1))],
    );
    check(&mut leases, 1_000_000, Input::Tick, &[]);
    check(&mut leases, 1_000_000, Input::Promoted, &[]);
    assert_eq!(leases.list(), [LeaseId(2), LeaseId(1)]);
    check(&mut leases, 1_005_999, Input::Tick, &[]);
    check(&mut leases, 1_006_000, Input::Tick, &[revoke(2)]);
    check(&mut leases, 1_060_999, Input::Tick, &[revoke(2)]);
    check(&mut leases, 1_061_000, Input::Tick, &[revoke(1)]);
    check(&mut leases, 1_061_000, keep_alive(4, 1), &[]);
    check(
        &mut leases,
        1_061_000,
        Input::Demoted,
        &[Output::NotPrimary(Token(4))],
    );
    check(&mut leases, 9_000_000, Input::Tick, &[]);
    assert_eq!(leases.list(), [LeaseId(1), LeaseId(2)]);
}

/// Renewing a lease whose rest is written down, without clearing that first, let the next leader
/// end it before its time.
#[test]
fn a_checkpoint_is_cleared_before_a_lease_is_renewed() {
    let mut leases = Deadlines::new(ELECTION);
    check(&mut leases, 0, granted(1, 60), &[]);
    check(&mut leases, 0, checkpointed(1, 5), &[]);
    check(&mut leases, 0, Input::Promoted, &[]);
    let clear = Output::ClearCheckpoint(LeaseId(1));
    check(
        &mut leases,
        1_000,
        keep_alive(1, 1),
        std::slice::from_ref(&clear),
    );
    check(&mut leases, 1_100, keep_alive(2, 1), &[]);
    assert_eq!(leases.next_deadline(), Some(at(4_000)));
    check(&mut leases, 4_000, Input::Tick, &[clear]);
    check(
        &mut leases,
        4_100,
        checkpointed(1, 0),
        &[kept(1, 1, 60), kept(2, 1, 60)],
    );
    assert_eq!(leases.next_deadline(), Some(at(64_100)));
}

fn rests(rests: &[(i64, i64)]) -> Output {
    Output::WriteRests(
        rests
            .iter()
            .map(|(id, rest)| (LeaseId(*id), *rest))
            .collect(),
    )
}

#[test]
fn the_rests_of_long_leases_are_written_down() {
    let mut leases = Deadlines::new(ELECTION);
    leases.write_rests(Duration::from_secs(300));
    check(&mut leases, 0, granted(1, 1_000), &[]);
    check(&mut leases, 0, Input::Promoted, &[]);
    check(&mut leases, 0, granted(2, 300), &[]);
    check(&mut leases, 100_500, granted(3, 700), &[]);
    assert_eq!(leases.next_deadline(), Some(at(300_000)));
    // The second is too short, and over by now; the first has a new leader's election time-out more.
    check(
        &mut leases,
        300_000,
        Input::Tick,
        &[revoke(2), rests(&[(1, 701)])],
    );
    check(&mut leases, 300_010, checkpointed(1, 701), &[]);
    check(&mut leases, 300_010, Input::Revoked(LeaseId(2)), &[]);
    check(&mut leases, 400_500, Input::Tick, &[rests(&[(3, 400)])]);
    check(&mut leases, 600_000, Input::Tick, &[rests(&[(1, 401)])]);
    // The next leader goes on from there.
    let mut next = Deadlines::new(ELECTION);
    next.write_rests(Duration::from_secs(300));
    check(&mut next, 0, granted(1, 1_000), &[]);
    check(&mut next, 0, checkpointed(1, 401), &[]);
    check(&mut next, 0, Input::Promoted, &[]);
    assert_eq!(next.end(LeaseId(1)), at(402_000));
}

/// A rest on its way into the log would end the lease early for the next leader.
#[test]
fn a_rest_on_its_way_is_cleared_before_a_lease_is_renewed() {
    let mut leases = Deadlines::new(ELECTION);
    leases.write_rests(Duration::from_secs(10));
    check(&mut leases, 0, Input::Promoted, &[]);
    check(&mut leases, 0, granted(1, 60), &[]);
    check(&mut leases, 10_000, Input::Tick, &[rests(&[(1, 50)])]);
    let clear = Output::ClearCheckpoint(LeaseId(1));
    check(&mut leases, 10_100, keep_alive(1, 1), &[clear]);
    check(&mut leases, 10_200, checkpointed(1, 50), &[]);
    check(&mut leases, 10_300, checkpointed(1, 0), &[kept(1, 1, 60)]);
    check(&mut leases, 10_400, keep_alive(2, 1), &[kept(2, 1, 60)]);
}

/// The revoke of a lease that ended meanwhile may already stand in the log.
#[test]
fn a_lease_that_ends_while_its_checkpoint_is_cleared_is_not_renewed() {
    let mut leases = Deadlines::new(ELECTION);
    check(&mut leases, 0, granted(1, 60), &[]);
    check(&mut leases, 0, checkpointed(1, 5), &[]);
    check(&mut leases, 0, Input::Promoted, &[]);
    let clear = Output::ClearCheckpoint(LeaseId(1));
    check(&mut leases, 5_900, keep_alive(1, 1), &[clear]);
    check(&mut leases, 6_000, Input::Tick, &[revoke(1)]);
    check(&mut leases, 6_100, checkpointed(1, 0), &[]);
    let gone = kept(1, 1, 0);
    check(&mut leases, 6_200, Input::Revoked(LeaseId(1)), &[gone]);
}

#[test]
fn a_second_promotion_sends_waiting_keep_alives_away() {
    let mut leases = leader();
    check(&mut leases, 0, granted(1, 60), &[]);
    check(&mut leases, 60_000, keep_alive(1, 1), &[]);
    check(
        &mut leases,
        60_000,
        Input::Promoted,
        &[Output::NotPrimary(Token(1))],
    );
    check(&mut leases, 60_000, keep_alive(2, 1), &[kept(2, 1, 60)]);
}

#[test]
fn a_new_leader_spreads_the_ends_of_many_leases() {
    let mut leases = Deadlines::new(ELECTION);
    for id in 0..3_000 {
        leases.input(at(0), granted(id, 10));
    }
    leases.input(at(0), Input::Promoted);
    leases.check_invariants();
    let mut ends: Vec<_> = (0..3_000).map(|id| leases.end(LeaseId(id))).collect();
    ends.sort_unstable();
    assert_eq!((ends[0], ends[2_999]), (at(11_000), at(14_000)));
    for window in ends.windows(751) {
        assert!(window[750].since(window[0]) >= Duration::from_secs(1));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64),
    Revoke(i64),
    KeepAlive(i64),
    Checkpoint(i64, i64),
    Lead(bool),
    Pass(u64),
    Apply,
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..6_i64;
    prop_oneof![
        3 => id().prop_map(Step::Grant),
        1 => id().prop_map(Step::Revoke),
        4 => id().prop_map(Step::KeepAlive),
        1 => (id(), 0..3_i64).prop_map(|(id, rest)| Step::Checkpoint(id, rest)),
        1 => any::<bool>().prop_map(Step::Lead),
        6 => (0..2_000_u64).prop_map(Step::Pass),
        3 => Just(Step::Apply),
        1 => Just(Step::Lose),
    ]
}

proptest! {
    /// A revoke is asked for only when the lifetime has passed since the grant, the last answered
    /// keep-alive, or since a leader took over; and every keep-alive is answered in the end.
    #[test]
    fn leases_never_end_early(steps in proptest::collection::vec(step(), 1..120)) {
        let mut leases = Deadlines::new(ELECTION);
        leases.write_rests(Duration::from_secs(1));
        let mut alive_until = std::collections::BTreeMap::new();
        // What was proposed: revokes, and rests in their order.
        let (mut asked, mut written) = (Vec::new(), Vec::<(i64, i64)>::new());
        let mut rests = std::collections::BTreeMap::new();
        let (mut time, mut token, mut open) = (0, 0, 0_i64);
        let mut is_leader = false;
        for step in steps {
            match step {
                Step::Grant(id) if !alive_until.contains_key(&id) => {
                    alive_until.insert(id, time + 4_000);
                    rests.insert(id, 0);
                    leases.input(at(time), granted(id, 4));
                }
                Step::Revoke(id) => {
                    // Its id is granted again when the revoke is answered: behind rests on their way.
                    written.retain(|it| it.0 != id);
                    alive_until.remove(&id);
                    leases.input(at(time), Input::Revoked(LeaseId(id)));
                }
                Step::KeepAlive(id) => {
                    token += 1;
                    open += 1;
                    leases.input(at(time), keep_alive(token, id));
                }
                // Of an earlier leader: what it proposed is decided before this one counts.
                Step::Checkpoint(id, rest) if !is_leader && alive_until.contains_key(&id) => {
                    rests.insert(id, rest);
                    if rest > 0 {
                        let until = alive_until[&id].min(time + 1_000 * rest as u64);
                        alive_until.insert(id, until);
                    }
                    leases.input(at(time), checkpointed(id, rest));
                }
                Step::Lead(true) if !is_leader => {
                    is_leader = true;
                    leases.input(at(time), Input::Promoted);
                }
                Step::Lead(false) => {
                    is_leader = false;
                    asked.clear();
                    written.clear();
                    leases.input(at(time), Input::Demoted);
                }
                Step::Pass(span) => time += span,
                Step::Lose => written.clear(),
                Step::Apply => {
                    for id in asked.drain(..) {
                        alive_until.remove(&id);
                        leases.input(at(time), Input::Revoked(LeaseId(id)));
                    }
                    for (id, rest) in written.drain(..) {
                        rests.insert(id, rest);
                        if let Some(until) = alive_until.get(&id).filter(|_| rest > 0) {
                            prop_assert!(time + 1_000 * rest as u64 >= *until, "promised longer");
                        }
                        leases.input(at(time), checkpointed(id, rest));
                    }
                }
                _ => {}
            }
            leases.input(at(time), Input::Tick);
            leases.check_invariants();
            while let Some(output) = leases.take_output() {
                match output {
                    Output::Confirm(round) => leases.input(at(time), Input::Confirmed(round)),
                    Output::Revoke(LeaseId(id)) => {
                        prop_assert!(time >= alive_until[&id]);
                        asked.push(id);
                    }
                    Output::KeptAlive { ttl_seconds: 0, id, .. } => {
                        open -= 1;
                        prop_assert!(!alive_until.contains_key(&id.0));
                    }
                    Output::KeptAlive { id, .. } => {
                        open -= 1;
                        prop_assert_eq!(rests[&id.0], 0, "the next leader starts from this");
                        let on_its_way = written.iter().any(|it| it.0 == id.0 && it.1 > 0);
                        prop_assert!(!on_its_way, "the next leader may start from this");
                        alive_until.insert(id.0, time + 4_000);
                    }
                    Output::NotPrimary(_) => open -= 1,
                    Output::ClearCheckpoint(LeaseId(id)) => written.push((id, 0)),
                    Output::WriteRests(rests) => {
                        written.extend(rests.iter().map(|(id, rest)| (id.0, *rest)));
                    }
                    Output::TimeToLive { .. } => prop_assert!(false, "nobody asked"),
                }
            }
        }
        leases.input(at(time), Input::Demoted);
        open -= std::iter::from_fn(|| leases.take_output()).count() as i64;
        prop_assert_eq!(open, 0);
    }
}
