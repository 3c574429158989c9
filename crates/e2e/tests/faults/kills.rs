//! Processes that die, stand still, or are told to go.

use rustix::process::Signal;

use crate::trial::{Sick, Trial};
use crate::{rounds, subjects};

#[test]
fn killed_members_lose_nothing() {
    for &subject in subjects() {
        let name = "SIGKILL";
        let Some(mut trial) = Trial::start(name, subject, 3, &[]) else {
            return;
        };
        for _ in 0..rounds() {
            for role in ["leader", "follower"] {
                let leader = trial.cluster.leader();
                let victim = (leader + usize::from(role == "follower")) % 3;
                trial.cluster.kill(victim);
                trial.endure(role, &[Sick::Mute(victim)]);
                trial.cluster.restart(victim);
                trial.recover();
            }
            for place in 0..3 {
                trial.cluster.kill(place);
            }
            trial.cluster.launch_all();
            trial.endure("all", &[]);
        }
        trial.recover();
        trial.finish();
    }
}

#[test]
fn members_that_stand_still_hold_nobody_up() {
    for &subject in subjects() {
        let Some(trial) = Trial::start("SIGSTOP", subject, 3, &[]) else {
            return;
        };
        for _ in 0..rounds() {
            for role in ["leader", "follower"] {
                let leader = trial.cluster.leader();
                let victim = (leader + usize::from(role == "follower")) % 3;
                trial.cluster.signal(victim, Signal::STOP);
                trial.endure(role, &[Sick::Mute(victim)]);
                trial.cluster.signal(victim, Signal::CONT);
                trial.recover();
                trial.endure("goes on", &[]);
            }
        }
        trial.finish();
    }
}

#[test]
fn a_rolling_restart_is_hardly_seen() {
    for &subject in subjects() {
        let Some(mut trial) = Trial::start("rolling restart", subject, 3, &[]) else {
            return;
        };
        for _ in 0..rounds() {
            for place in 0..3 {
                trial.cluster.terminate(place);
                trial.endure("one is away", &[Sick::Mute(place)]);
                trial.cluster.launch(place);
                trial.cluster.wait_ready(place);
                trial.recover();
            }
        }
        trial.endure("all are back", &[]);
        trial.finish();
    }
}
