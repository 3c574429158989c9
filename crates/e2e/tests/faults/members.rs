//! Members that come, go and are replaced while clients write.

use kvorum_e2e::cluster::Cluster;

use crate::trial::{Sick, Trial};
use crate::{rounds, subjects};

#[test]
fn a_wiped_member_is_replaced() {
    for &subject in subjects() {
        let Some(mut trial) = Trial::start("wiped member", subject, 3, &[]) else {
            return;
        };
        let victim = trial.cluster.leader();
        let id = trial.cluster.id(victim);
        trial.cluster.kill(victim);
        trial.cluster.wipe(victim);
        trial.endure("its disk is lost", &[Sick::Mute(victim)]);
        trial.cluster.change(&["member", "remove", &id]);
        trial.cluster.forget(victim);
        let place = trial.cluster.add(subject, false).expect("it was there");
        trial.cluster.launch(place);
        trial.cluster.wait_ready(place);
        trial.turn_to_all();
        trial.recover();
        trial.endure("another is in its place", &[]);
        trial.finish();
    }
}

#[test]
fn one_becomes_three_becomes_five_becomes_three() {
    for &subject in subjects() {
        let Some(cluster) = Cluster::start(&[subject], &[]) else {
            return;
        };
        let mut trial = Trial::on("1, 3, 5, 3", subject, cluster);
        for _ in 0..rounds() {
            while trial.cluster.size() < 5 {
                // Voters and learners in turn.
                let learner = trial.cluster.size().is_multiple_of(2);
                let place = trial.cluster.add(subject, learner).expect("it was there");
                trial.cluster.launch(place);
                trial.cluster.wait_ready(place);
                if learner {
                    let id = trial.cluster.id(place);
                    trial.cluster.change(&["member", "promote", &id]);
                }
                trial.turn_to_all();
                trial.recover();
                let size = trial.cluster.size();
                if size % 2 == 1 {
                    trial.endure(&format!("{size} members"), &[]);
                }
            }
            while trial.cluster.size() > 3 {
                let leader = trial.cluster.leader();
                let id = trial.cluster.id(leader);
                trial.cluster.change(&["member", "remove", &id]);
                trial.cluster.wait_exit(leader);
                trial.cluster.forget(leader);
                trial.turn_to_all();
                trial.recover();
            }
            trial.endure("3 members again", &[]);
        }
        trial.finish();
    }
}
