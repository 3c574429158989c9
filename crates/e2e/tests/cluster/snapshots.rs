//! Followers that fell so far behind that entries do not help.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::http;
use kvorum_e2e::network::{Network, Path};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_proto::etcdserverpb::{PutRequest, PutResponse};

use crate::liar::{SNAPSHOT, message};
use crate::port::ids;

on_each_server!(
    a_follower_that_fell_behind_gets_the_state,
    puts_go_on_while_the_state_is_on_its_way
);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Puts that are acknowledged while a state is on its way.
const PUTS: usize = 5;

/// The log in memory holds a few entries only.
const SHORT_LOG: [&str; 2] = ["--snapshot-count=20", "--snapshot-catchup-entries=5"];

/// The same, and the lead stays where it is although machines stand still for moments: who leads sends the state.
const LASTING_LEAD: [&str; 3] = [SHORT_LOG[0], SHORT_LOG[1], "--election-timeout=5000"];

/// Writes more than the log in memory holds, through the leader.
fn fill(cluster: &Cluster, leader: usize, round: usize) {
    for number in 0..60 {
        cluster.must_on(leader, &["put", &format!("r{round}n{number}"), "v"]);
    }
}

/// Kills a member, lets it fall behind, and brings it back: it gets the state of the leader.
fn fall_behind(cluster: &mut Cluster, place: usize, round: usize) {
    cluster.kill(place);
    let leader = cluster.leader();
    fill(cluster, leader, round);
    cluster.launch(place);
    assert!(cluster.logs(leader, "sent database snapshot", LIMIT));
    cluster.wait_ready(place);
    cluster.same_hash();
    let count = cluster.must_on(
        place,
        &["get", "r", "--prefix", "--count-only", "--write-out=fields"],
    );
    assert!(
        count.contains(&format!("\"Count\" : {}", 60 * (round + 1))),
        "{count}"
    );
}

fn a_follower_that_fell_behind_gets_the_state(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &LASTING_LEAD) else {
        return;
    };
    let granted = cluster.must(&["lease", "grant", "300"]);
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    cluster.must(&["put", "leased", "v", "--lease", &id]);
    let place = (cluster.leader() + 1) % 3;
    fall_behind(&mut cluster, place, 0);
    let told = cluster.must_on(place, &["lease", "timetolive", &id, "--keys"]);
    assert!(told.contains("attached keys([leased])"), "{told}");
    let leader = cluster.id(cluster.leader());
    // It is counted behind what it did.
    for (name, value) in [
        (
            &*format!("etcd_network_snapshot_receive_success{{From=\"{leader}\"}}"),
            1.0,
        ),
        ("etcd_snap_db_save_total_duration_seconds_count", 1.0),
        ("etcd_server_snapshot_apply_in_progress_total", 0.0),
        ("etcd_cluster_version{cluster_version=\"3.7\"}", 1.0),
    ] {
        cluster.wait(name, || {
            let page = http::get(cluster.client_port(place), "/metrics").ok()?;
            (http::samples(&page.body).get(name) == Some(&value)).then_some(())
        });
    }
    // What is done from now on is counted at once.
    let puts = |cluster: &Cluster| {
        let page = http::get(cluster.client_port(place), "/metrics").expect("a page");
        http::samples(&page.body)["etcd_mvcc_put_total"]
    };
    let before = puts(&cluster);
    cluster.must_on(place, &["put", "counted", "v"]);
    cluster.wait("counted put", || {
        (puts(&cluster) == before + 1.0).then_some(())
    });
    // What it got is on its disk.
    cluster.restart(place);
    cluster.same_hash();
    fall_behind(&mut cluster, place, 1);
    cluster.restart(place);
    cluster.same_hash();
}

/// Begins to send a snapshot in the name of a member, and says nothing more; the connection stays open.
fn begin_to_send(cluster: &Cluster, from: usize, to: usize, term: u64) -> TcpStream {
    let standing = |place| cluster.standing(place).expect("it answers");
    let (sender, receiver) = (standing(from), standing(to));
    let port = cluster.peer_port(to);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the peer port is open");
    let head = format!(
        "POST /raft/snapshot HTTP/1.1\r\nHost: x\r\nX-Server-From: {:x}\r\nX-Server-Version: 3.7.1\r\n\
         X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: {}\r\nContent-Length: 1000000\r\n\r\n",
        sender.member,
        ids(cluster, to).0
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let message = message(SNAPSHOT, term, sender.member, receiver.member);
    stream.write_all(&message).expect("it reads");
    let labels = format!("{{From=\"{:x}\"}}", sender.member);
    cluster.wait("snapshot on its way", || {
        let page = http::get(cluster.client_port(to), "/metrics").ok()?;
        let name = format!("etcd_network_snapshot_receive_inflights_total{labels}");
        (http::samples(&page.body).get(&name) == Some(&1.0)).then_some(())
    });
    stream
}

/// Snapshots that a member has received, whoever sent them.
fn received(cluster: &Cluster, place: usize) -> f64 {
    let page = http::get(cluster.client_port(place), "/metrics").expect("a page");
    let samples = http::samples(&page.body);
    let of_all = samples
        .iter()
        .filter(|(name, _)| name.starts_with("etcd_network_snapshot_receive_success{"));
    of_all.map(|(_, count)| count).sum()
}

// Official members receive several at once, each into a file of its own.
#[test]
fn a_sender_that_went_silent_holds_up_no_other() {
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum; 3], &SHORT_LOG) else {
        return;
    };
    let network = Network::between(&mut cluster, 1);
    cluster.launch_all();
    // A leader that was cut off in the midst of its transfer, and one that seems to lead later than the true one.
    for (round, term) in [1, 1_000].into_iter().enumerate() {
        let leader = cluster.leader();
        let (other, behind) = ((leader + 1) % 3, (leader + 2) % 3);
        network.isolate(&[behind]);
        // What is under way is lost too, and no entry that it needs is left.
        network.break_all();
        fill(&cluster, leader, round);
        let before = received(&cluster, behind);
        let silent = begin_to_send(&cluster, other, behind, term);
        network.heal();
        cluster.wait("snapshot of the leader", || {
            (received(&cluster, behind) > before).then_some(())
        });
        cluster.same_hash();
        drop(silent);
    }
}

/// States that a member sends or receives right now, to or from whomever.
fn under_way(cluster: &Cluster, place: usize, direction: &str) -> f64 {
    let page = http::get(cluster.client_port(place), "/metrics").expect("a page");
    let name = format!("etcd_network_snapshot_{direction}_inflights_total");
    let now = http::samples(&page.body);
    let all = now.iter().filter(|(series, _)| series.starts_with(&name));
    all.map(|(_, value)| value).sum()
}

/// One acknowledged put through a member.
fn put(cluster: &Cluster, place: usize, number: usize) {
    let request = PutRequest {
        key: format!("meanwhile{number}").into(),
        value: "v".into(),
        ..PutRequest::default()
    };
    let put = async {
        let connection = Connection::open(cluster.client_port(place)).await?;
        let written = connection.call("etcdserverpb.KV/Put", &request).await;
        written.map(|_: PutResponse| ())
    };
    block_on(put).expect("the others go on");
}

/// The way to a follower that fell behind is a long one: its state takes seconds, during which the others serve.
fn puts_go_on_while_the_state_is_on_its_way(subject: Subject) {
    let Some(mut cluster) = Cluster::prepare(&[subject; 3], &LASTING_LEAD) else {
        return;
    };
    let network = Network::between(&mut cluster, 1);
    cluster.launch_all();
    let leader = cluster.leader();
    let place = (leader + 1) % 3;
    let others = [(place + 1) % 3, (place + 2) % 3];
    let long = Path {
        delay: Duration::from_secs(2),
        ..Path::default()
    };
    for other in others {
        network.set(other, place, long);
    }
    // A put counts when a state was on its way before and after it.
    let mut number = 0;
    let mut during = 0;
    let mut round = 0;
    while during < PUTS {
        cluster.kill(place);
        fill(&cluster, leader, round);
        cluster.launch(place);
        let sent = || others.map(|other| under_way(&cluster, other, "send"));
        cluster.wait("a state on its way", || (sent() != [0.0; 2]).then_some(()));
        while during < PUTS && sent() != [0.0; 2] {
            put(&cluster, others[number % 2], number);
            number += 1;
            during += usize::from(sent() != [0.0; 2]);
        }
        round += 1;
    }
    network.heal();
    cluster.wait_ready(place);
    cluster.same_hash();
    assert!(
        others
            .iter()
            .any(|&other| cluster.logs(other, "sent database snapshot", LIMIT))
    );
    assert_eq!(under_way(&cluster, place, "receive"), 0.0);
}

#[test]
fn official_members_and_ours_send_each_other_the_state() {
    use Subject::{Kvorum, Official371};
    let Some(mut cluster) = Cluster::start(&[Official371, Kvorum, Kvorum], &LASTING_LEAD) else {
        return;
    };
    // Ours to the official one, then the other way.
    for (round, (leader, follower)) in [(1, 0), (0, 2)].into_iter().enumerate() {
        cluster.have_lead(leader);
        fall_behind(&mut cluster, follower, round);
        cluster.restart(follower);
        cluster.same_hash();
    }
}

/// The way between them breaks in the midst of the first attempt. What the second one brings holds what the receiver told
/// about itself, so that the answer is lost; it hears so, tells it once more and serves, and does not wait until that
/// times out.
#[test]
fn members_of_ours_send_each_other_their_files() {
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum; 3], &SHORT_LOG) else {
        return;
    };
    let network = Network::between(&mut cluster, 1);
    cluster.launch_all();
    let leader = cluster.leader();
    let place = (leader + 1) % 3;
    let others = [leader, (leader + 2) % 3];
    cluster.kill(place);
    fill(&cluster, leader, 0);
    let long = Path {
        delay: Duration::from_secs(1),
        ..Path::default()
    };
    for other in others {
        network.set(other, place, long);
    }
    // Requests time out after twice that and 5 s, which nothing here comes near.
    cluster.add_flags(place, &["--election-timeout=50000"]);
    cluster.launch(place);
    let sent = || others.map(|other| under_way(&cluster, other, "send"));
    cluster.wait("a state on its way", || (sent() != [0.0; 2]).then_some(()));
    network.break_all();
    network.heal();
    cluster.wait_ready(place);
    let log = cluster.log(place);
    let is_there = |text: &str| log.iter().any(|line| line.contains(text));
    let heard = !is_there("request timed out") || is_there("answers were lost");
    assert!(heard, "it waited in vain");
    cluster.same_hash();
    let by_files = |other: &usize| {
        let log = cluster.log(*other);
        let mut sent = log
            .iter()
            .filter(|line| line.contains("sent database snapshot"));
        sent.any(|line| line.contains("\"form\":\"files\""))
    };
    assert!(others.iter().any(by_files), "no files were sent");
    cluster.restart(place);
    cluster.same_hash();
}
