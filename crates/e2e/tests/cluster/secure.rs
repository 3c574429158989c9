//! Members that speak TLS with each other.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use kvorum_e2e::certificates::Authority;
use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::{http, on_each_server};

on_each_server!(
    members_with_certificates_elect_replicate_and_come_back,
    a_follower_gets_the_state_over_tls,
    a_member_with_a_certificate_of_another_authority_is_kept_out,
    certificates_are_replaced_without_a_restart
);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a member says of a caller that it does not let in.
const REJECTED: &str = "rejected connection on peer endpoint";

/// How a member says that the caller is gone.
const LEFT: [&str; 3] = ["os error", "broken pipe", "connection reset"];

/// Has each member show the certificate in `CERTIFICATE.pem` and demand one of `AUTHORITY.pem`.
fn give(cluster: &mut Cluster, place: usize, certificate: &str, authority: &str) {
    let path = |name: &str| {
        let path = cluster.folder().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let (cert, key) = (
        path(&format!("{certificate}.pem")),
        path(&format!("{certificate}.key")),
    );
    let authority = path(&format!("{authority}.pem"));
    let flags = [
        "--peer-cert-file",
        &cert,
        "--peer-key-file",
        &key,
        "--peer-trusted-ca-file",
        &authority,
        "--peer-client-cert-auth",
    ];
    cluster.add_flags(place, &flags);
}

/// Three members, each with a certificate of one authority, `ca.pem`, in `nN.pem`.
fn prepare(subjects: [Subject; 3], flags: &[&str]) -> Option<(Cluster, Authority)> {
    let mut cluster = Cluster::prepare(&subjects, flags)?;
    cluster.secure_peers();
    let authority = Authority::new(cluster.folder(), "ca");
    for place in 0..3 {
        let name = format!("n{place}");
        authority.issue(&name, &name, &["127.0.0.1", "localhost"]);
        give(&mut cluster, place, &name, "ca");
    }
    Some((cluster, authority))
}

/// Puts through each member, and reads it through the next.
fn put_through_each(cluster: &Cluster, round: &str) {
    for place in 0..cluster.size() {
        let key = format!("{round}by{place}");
        cluster.must_on(place, &["put", &key, "v"]);
        let next = (place + 1) % cluster.size();
        let read = cluster.must_on(next, &["get", &key, "--print-value-only"]);
        assert_eq!(read, "v\n");
    }
    cluster.same_hash();
}

/// Every lead, questions to the leader, deaths.
fn work(cluster: &mut Cluster) {
    for leader in [0, 1, 2] {
        cluster.have_lead(leader);
        put_through_each(cluster, &format!("leader{leader}"));
    }
    let granted = cluster.must_on(1, &["lease", "grant", "300"]);
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    for place in 0..3 {
        let kept = cluster.must_on(place, &["lease", "keep-alive", "--once", &id]);
        assert!(kept.contains("keepalived with TTL(300)"), "{place}: {kept}");
        let told = cluster.must_on(place, &["lease", "timetolive", &id]);
        assert!(told.contains("granted with TTL(300s)"), "{place}: {told}");
    }
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.put("after", "death");
    cluster.restart(leader);
    put_through_each(cluster, "again");
    for place in 0..3 {
        let page = http::get(cluster.client_port(place), "/version").expect("a page");
        assert!(page.body.contains("\"etcdcluster\":\"3."), "{}", page.body);
    }
}

fn members_with_certificates_elect_replicate_and_come_back(subject: Subject) {
    let Some((mut cluster, _)) = prepare([subject; 3], &[]) else {
        return;
    };
    cluster.launch_all();
    work(&mut cluster);
    // In the clear, and without a certificate, there is nothing to be had.
    let port = cluster.peer_port(0);
    let page = http::get(port, "/members");
    assert!(!page.is_ok_and(|page| page.status == 200));
    assert!(cluster.logs(0, REJECTED, LIMIT));
    let told = "first record does not look like a TLS handshake";
    assert!(cluster.logs(0, told, LIMIT));
    // Who says nothing costs nobody else anything.
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("an open port"))
        .collect();
    cluster.restart(1);
    put_through_each(&cluster, "beside");
    drop(silent);
}

#[test]
fn official_members_and_ours_speak_tls_with_each_other() {
    use Subject::{Kvorum, Official371};
    let Some((mut cluster, _)) = prepare([Official371, Kvorum, Kvorum], &[]) else {
        return;
    };
    cluster.launch_all();
    work(&mut cluster);
}

fn a_follower_gets_the_state_over_tls(subject: Subject) {
    let flags = [
        "--snapshot-count=20",
        "--snapshot-catchup-entries=5",
        "--election-timeout=5000",
    ];
    let Some((mut cluster, _)) = prepare([subject; 3], &flags) else {
        return;
    };
    cluster.launch_all();
    get_state(&mut cluster);
}

#[test]
fn official_members_and_ours_send_each_other_the_state_over_tls() {
    use Subject::{Kvorum, Official371};
    let flags = [
        "--snapshot-count=20",
        "--snapshot-catchup-entries=5",
        "--election-timeout=5000",
    ];
    for (sender, receiver) in [(Kvorum, Official371), (Official371, Kvorum)] {
        let Some((mut cluster, _)) = prepare([receiver, sender, sender], &flags) else {
            return;
        };
        cluster.launch_all();
        get_state(&mut cluster);
    }
}

/// Has the first member fall behind and get the state of the leader.
fn get_state(cluster: &mut Cluster) {
    cluster.kill(0);
    let leader = cluster.leader();
    for number in 0..60 {
        cluster.must_on(leader, &["put", &format!("k{number}"), "v"]);
    }
    cluster.launch(0);
    assert!(cluster.logs(leader, "sent database snapshot", LIMIT));
    cluster.wait_ready(0);
    put_through_each(cluster, "after");
    let count = cluster.must_on(0, &["get", "k", "--prefix", "--keys-only"]);
    assert_eq!(count.split_whitespace().count(), 60, "{count}");
}

fn a_member_with_a_certificate_of_another_authority_is_kept_out(subject: Subject) {
    let Some((mut cluster, authority)) = prepare([subject; 3], &[]) else {
        return;
    };
    cluster.launch_all();
    cluster.kill(2);
    let stranger = Authority::new(cluster.folder(), "stranger");
    stranger.issue("n2", "n2", &["127.0.0.1"]);
    cluster.launch(2);
    // Neither is it let in, nor does it let others in.
    for place in 0..3 {
        assert!(cluster.logs(place, REJECTED, LIMIT), "{place}");
    }
    cluster.put("without", "it");
    assert_eq!(cluster.standing(2).map_or(0, |it| it.leader), 0);
    // As soon as it shows a good one, it belongs to them again.
    authority.issue("n2", "n2", &["127.0.0.1"]);
    cluster.wait_ready(2);
    put_through_each(&cluster, "again");
}

fn certificates_are_replaced_without_a_restart(subject: Subject) {
    let Some((mut cluster, _old)) = prepare([subject; 3], &[]) else {
        return;
    };
    let folder = cluster.folder().to_owned();
    let new = Authority::new(&folder, "new");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a certificate");
    // While certificates change, both authorities are trusted.
    let both = read("ca.pem") + &read("new.pem");
    fs::write(folder.join("ca.pem"), both).expect("a file");
    cluster.launch_all();
    for place in 0..3 {
        let name = format!("n{place}");
        new.issue(&name, &name, &["127.0.0.1"]);
    }
    // This one trusts the new authority alone: the others call it with their new certificates, and answer with them.
    cluster.kill(2);
    copy(&folder, "new.pem", "ca.pem");
    cluster.launch(2);
    cluster.wait_ready(2);
    cluster.have_lead(2);
    put_through_each(&cluster, "new");
    assert_eq!(told(&cluster, 2, ""), 0, "{}", cluster.log(2).join("\n"));
}

/// How often a member has rejected somebody with this text. Those who left by themselves are not counted: a member that
/// was killed, or one that gave up asking another that was not ready yet.
fn told(cluster: &Cluster, place: usize, text: &str) -> usize {
    let log = cluster.log(place);
    let lines = log.iter();
    let lines = lines.filter(|line| line.contains(REJECTED) && line.contains(text));
    let lines = lines.filter(|line| !LEFT.iter().any(|left| line.contains(left)));
    lines.count()
}

fn copy(folder: &Path, from: &str, to: &str) {
    fs::copy(folder.join(from), folder.join(to)).expect("a copy");
}
