//! Members that speak TLS with each other.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
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
    certificates_are_replaced_without_a_restart,
    members_make_their_own_certificates,
    a_revoked_certificate_is_kept_out,
    names_that_are_not_allowed_are_kept_out,
    callers_come_from_where_their_certificates_say,
    versions_and_cipher_suites_have_to_meet
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

/// Starts a member again with more flags: others do not let it call, and say so with this text.
fn reject(cluster: &mut Cluster, place: usize, flags: &[&str], text: &str) {
    let other = (place + 1) % 3;
    cluster.kill(place);
    let earlier = told(cluster, other, text);
    cluster.add_flags(place, flags);
    cluster.launch(place);
    cluster.wait(text, || {
        (told(cluster, other, text) > earlier).then_some(())
    });
    cluster.put("beside", "it");
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

/// Starts a member again with more flags: it is one of the cluster, and may call others.
fn let_in(cluster: &mut Cluster, place: usize, flags: &[&str]) {
    let other = (place + 1) % 3;
    cluster.kill(place);
    let earlier = told(cluster, other, "");
    cluster.add_flags(place, flags);
    cluster.launch(place);
    cluster.wait_ready(place);
    put_through_each(cluster, "again");
    assert_eq!(told(cluster, other, ""), earlier);
}

fn members_make_their_own_certificates(subject: Subject) {
    let Some(mut cluster) = Cluster::prepare(&[subject; 3], &["--peer-auto-tls"]) else {
        return;
    };
    cluster.secure_peers();
    cluster.launch_all();
    work(&mut cluster);
    let files = ["cert.pem", "key.pem"].map(|name| {
        let path = cluster.data_directory(1).join("fixtures/peer").join(name);
        (path.clone(), fs::read(path).expect("a file"))
    });
    let mode = fs::metadata(&files[1].0)
        .expect("a key")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // They stay.
    cluster.restart(1);
    put_through_each(&cluster, "stay");
    for (path, bytes) in files {
        assert_eq!(
            fs::read(&path).expect("a file"),
            bytes,
            "{}",
            path.display()
        );
    }
    assert!(!http::get(cluster.peer_port(1), "/members").is_ok_and(|page| page.status == 200));
}

/// A member of ours goes on with the certificate that an official one has made, and the other way round.
#[test]
fn certificates_of_their_own_making_are_for_official_members_and_ours() {
    use Subject::{Kvorum, Official371};
    let subjects = [Official371, Official371, Kvorum];
    let Some(mut cluster) = Cluster::prepare(&subjects, &["--peer-auto-tls"]) else {
        return;
    };
    cluster.secure_peers();
    cluster.launch_all();
    put_through_each(&cluster, "mixed");
    let file = |place| cluster.data_directory(place).join("fixtures/peer/cert.pem");
    let (official, ours) = (file(1), file(2));
    let made = fs::read(&official).expect("a certificate");
    cluster.kill(1);
    cluster
        .replace_binary(1, Kvorum)
        .expect("the binary is there");
    cluster.launch(1);
    cluster.wait_ready(1);
    put_through_each(&cluster, "taken over");
    assert_eq!(fs::read(&official).expect("a certificate"), made);
    // An official member shows the certificate that one of ours has made.
    cluster.kill(0);
    for name in ["cert.pem", "key.pem"] {
        let to = cluster.data_directory(0).join("fixtures/peer").join(name);
        fs::copy(ours.with_file_name(name), to).expect("a copy");
    }
    cluster.launch(0);
    cluster.wait_ready(0);
    put_through_each(&cluster, "taken back");
}

fn a_revoked_certificate_is_kept_out(subject: Subject) {
    let Some((mut cluster, authority)) = prepare([subject; 3], &[]) else {
        return;
    };
    authority.revoke("revoked.crl", &[]);
    let list = cluster.folder().join("revoked.crl");
    let list = list.to_str().expect("a path in UTF-8").to_owned();
    for place in 0..3 {
        cluster.add_flags(place, &["--peer-crl-file", &list]);
    }
    cluster.launch_all();
    put_through_each(&cluster, "all good");
    // The list is read while they run.
    authority.revoke("revoked.crl", &["n2"]);
    let number = format!("transport: certificate serial {:x} revoked", 202);
    reject(&mut cluster, 2, &[], &number);
    // With a new certificate it is one of them.
    authority.issue("n2", "n2", &["127.0.0.1"]);
    let_in(&mut cluster, 2, &[]);
    // A list that cannot be read keeps everybody out.
    fs::write(&list, "rubbish").expect("a file");
    reject(&mut cluster, 2, &[], "x509: malformed crl");
}

fn names_that_are_not_allowed_are_kept_out(subject: Subject) {
    let hosts = ["127.0.0.1", "members.example"];
    for (flag, names, bad_name, bad_hosts) in [
        ("--peer-cert-allowed-cn", "n0,n1,n2", "n3", &hosts[..]),
        (
            "--peer-cert-allowed-hostname",
            "127.0.0.9,members.example",
            "n2",
            &hosts[..1],
        ),
    ] {
        let Some((mut cluster, authority)) = prepare([subject; 3], &[]) else {
            return;
        };
        for place in 0..3 {
            cluster.add_flags(place, &[flag, names]);
            let name = format!("n{place}");
            authority.issue(&name, &name, &hosts);
        }
        cluster.launch_all();
        put_through_each(&cluster, "all good");
        authority.issue("n2", bad_name, bad_hosts);
        let text = "client certificate authentication failed";
        reject(&mut cluster, 2, &[], text);
        // It may not be called either.
        assert_eq!(cluster.standing(2).map_or(0, |it| it.leader), 0);
        authority.issue("n2", "n2", &hosts);
        let_in(&mut cluster, 2, &[]);
    }
}

fn callers_come_from_where_their_certificates_say(subject: Subject) {
    let Some((mut cluster, authority)) = prepare([subject; 3], &[]) else {
        return;
    };
    cluster.launch_all();
    // A certificate of its own for calls.
    let path = |name: &str| {
        let path = cluster.folder().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let (cert, key) = (path("caller.pem"), path("caller.key"));
    let flags = [
        "--peer-client-cert-file",
        &cert,
        "--peer-client-key-file",
        &key,
    ];
    authority.issue("caller", "caller", &["10.9.9.9"]);
    let text = "x509: certificate is valid for 10.9.9.9, not 127.0.0.1";
    reject(&mut cluster, 2, &flags, text);
    authority.issue("caller", "caller", &["elsewhere.invalid"]);
    let text = "does not match any of DNSNames [\\\"elsewhere.invalid\\\"]";
    reject(&mut cluster, 2, &[], text);
    // Any of the names will do, and none is asked for where there are none.
    for names in [&["10.9.9.9", "localhost"][..], &[]] {
        authority.issue("caller", "caller", names);
        let_in(&mut cluster, 2, &[]);
    }
    for place in 0..2 {
        let_in(
            &mut cluster,
            place,
            &["--peer-skip-client-san-verification"],
        );
    }
    authority.issue("caller", "caller", &["10.9.9.9"]);
    let_in(&mut cluster, 2, &[]);
}

fn versions_and_cipher_suites_have_to_meet(subject: Subject) {
    let Some((mut cluster, _)) = prepare([subject; 3], &[]) else {
        return;
    };
    let (small, large) = (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    );
    cluster.add_flags(0, &["--tls-max-version=TLS1.2", "--cipher-suites", small]);
    cluster.launch_all();
    put_through_each(&cluster, "all good");
    // The first one has nothing in common with this one.
    let old = ["--tls-max-version=TLS1.2", "--cipher-suites", large];
    cluster.have_lead(1);
    cluster.kill(2);
    cluster.add_flags(2, &old);
    cluster.launch(2);
    cluster.wait("a rejection", || (told(&cluster, 0, "") > 0).then_some(()));
    let_in(&mut cluster, 2, &["--cipher-suites", small]);
    // Those who speak the new version alone do not hear those who speak the old one alone.
    for place in 0..2 {
        cluster.kill(place);
        let new = ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.3"];
        let list = cluster.list();
        cluster.replace_flags(place, &["--initial-cluster", &list]);
        give(&mut cluster, place, &format!("n{place}"), "ca");
        cluster.add_flags(place, &new);
    }
    cluster.launch(0);
    cluster.launch(1);
    cluster.wait_ready(0);
    cluster.wait_ready(1);
    reject(&mut cluster, 2, &[], "");
    let_in(&mut cluster, 2, &["--tls-max-version=TLS1.3"]);
}

fn copy(folder: &Path, from: &str, to: &str) {
    fs::copy(folder.join(from), folder.join(to)).expect("a copy");
}
