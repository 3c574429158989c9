//! A network that loses, holds and breaks what members say to each other.

use std::time::Duration;

use kvorum_e2e::network::{Network, Path};

use crate::trial::{Sick, Trial};
use crate::{rounds, subjects};

/// Few entries are kept, so that a member that was cut off needs a snapshot.
const FEW_ENTRIES: [&str; 2] = ["--snapshot-count=100", "--snapshot-catchup-entries=50"];

/// Breaks the network around one member.
type Cut = fn(&Network, usize);

#[test]
fn cut_off_members_neither_lie_nor_hold_others_up() {
    let cuts: [(&str, Cut); 3] = [
        ("cut off", |network, place| network.isolate(&[place])),
        ("heard by nobody", Network::silence),
        ("hears nobody", Network::deafen),
    ];
    for &subject in subjects() {
        let name = "partition";
        let Some(trial) = Trial::start_apart(name, subject, 3, &FEW_ENTRIES) else {
            return;
        };
        for _ in 0..rounds() {
            for (how, cut) in cuts {
                for role in ["leader", "follower"] {
                    let leader = trial.cluster.leader();
                    let victim = (leader + usize::from(role == "follower")) % 3;
                    cut(trial.network(), victim);
                    trial.leader_without(&[victim]);
                    trial.endure(&format!("{role} {how}"), &[Sick::Apart(victim)]);
                    trial.recover();
                }
            }
            // The leader reaches a majority, and the others hear of it from the third.
            let leader = trial.cluster.leader();
            let victim = (leader + 1) % 3;
            trial.network().sever(leader, victim);
            trial.endure(
                "the leader and one do not reach each other",
                &[Sick::Apart(victim)],
            );
            trial.recover();
        }
        trial.finish();
    }
}

#[test]
fn packets_lost_between_hosts_hurt_nobody() {
    for &subject in subjects() {
        let started = Trial::start_on_hosts("lost packets", subject, 3, &FEW_ENTRIES);
        let Some(trial) = started else {
            eprintln!("no network namespaces here: cuts are shown by the forwarder alone");
            return;
        };
        let hosts = trial.hosts();
        let others = |victim: usize| [(victim + 1) % 3, (victim + 2) % 3];
        let silence = |victim| others(victim).map(|other| hosts.lose(victim, other));
        let deafen = |victim| others(victim).map(|other| hosts.lose(other, victim));
        for _ in 0..rounds() {
            let leader = trial.cluster.leader();
            silence(leader);
            deafen(leader);
            trial.leader_without(&[leader]);
            trial.endure("the leader's host is cut off", &[Sick::Apart(leader)]);
            let leader = trial.recover();
            silence(leader);
            trial.leader_without(&[leader]);
            trial.endure("nobody hears the leader's host", &[Sick::Apart(leader)]);
            let leader = trial.recover();
            deafen(leader);
            trial.leader_without(&[leader]);
            trial.endure("the leader's host hears nobody", &[Sick::Apart(leader)]);
            let leader = trial.recover();
            // For a moment, again and again: packets are lost, connections live.
            for number in 0..10 {
                let [one, other] = others(leader);
                match number % 2 {
                    0 => hosts.lose(leader, one),
                    _ => hosts.lose(other, leader),
                }
                trial.wait_for_requests(20);
                hosts.heal();
            }
            trial.recover();
            trial.endure("healed", &[]);
        }
        trial.finish();
    }
}

#[test]
fn a_minority_with_the_leader_is_left_behind() {
    for &subject in subjects() {
        let name = "partition of five";
        let Some(trial) = Trial::start_apart(name, subject, 5, &[]) else {
            return;
        };
        for _ in 0..rounds() {
            let leader = trial.cluster.leader();
            let minority = [leader, (leader + 1) % 5];
            trial.network().isolate(&minority);
            trial.leader_without(&minority);
            trial.endure("two of five", &minority.map(Sick::Apart));
            trial.recover();
            trial.endure("healed", &[]);
        }
        trial.finish();
    }
}

#[test]
fn bad_weather_slows_and_breaks_nothing() {
    let late = Path {
        delay: Duration::from_millis(3),
        jitter: Duration::from_millis(8),
        ..Path::default()
    };
    let lossy = Path {
        broken_one_in: 300,
        ..late
    };
    for &subject in subjects() {
        let Some(trial) = Trial::start_apart("weather", subject, 3, &[]) else {
            return;
        };
        for _ in 0..rounds() {
            trial.network().set_all(late);
            trial.endure("late and out of order", &[]);
            trial.network().set_all(lossy);
            trial.endure("and connections break", &[]);
            for _ in 0..5 {
                trial.network().break_all();
                trial.wait_for_requests(50);
            }
            trial.network().heal();
            trial.endure("clear", &[]);
        }
        let broken = trial.network().broken();
        eprintln!("weather: {broken} connections were broken");
        assert!(broken > 20, "only {broken} connections were broken");
        trial.finish();
    }
}
