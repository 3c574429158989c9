//! Programs around the official Go client, which most users of etcd are built on.

use std::process::Command;
use std::time::{Duration, Instant};

use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::machine_time::MachineTime;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::process::{Process, run};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

const LIMIT: Duration = Duration::from_secs(120);
/// Time to live of the registration, as in the program.
const TTL: Duration = Duration::from_secs(5);

/// Runs a program on a fresh server and compares what it prints.
fn check(subject: Subject, name: &str, verb: Option<&str>, expected: &str) {
    let Some(program) = peer("client-go", name) else {
        return;
    };
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let mut command = Command::new(program);
    let outcome = run(command.arg(server.endpoint()).args(verb), "", LIMIT);
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

on_each_server!(
    put_and_get_with_deadlines,
    watch_prints_type_key_and_value,
    service_discovery_by_prefix,
    registration_is_kept_alive_and_revoked,
    registration_disappears_after_a_kill,
);

fn put_and_get_with_deadlines(subject: Subject) {
    check(
        subject,
        "kv",
        None,
        "ключ/日本/ß = värde ☃ 🦀 version 1\n\
         read at the revision of the write: true\n\
         deleted 1\n",
    );
}

fn watch_prints_type_key_and_value(subject: Subject) {
    check(
        subject,
        "watch",
        None,
        "created: true\n\
         PUT watched/a \"1\" after nothing\n\
         PUT watched/a \"2\" after 1\n\
         PUT watched/é \"3\" after nothing\n\
         DELETE watched/a \"\" after 2\n",
    );
}

fn service_discovery_by_prefix(subject: Subject) {
    check(
        subject,
        "discovery",
        None,
        "listed one@127.0.0.1:80 two@127.0.0.1:80\n\
         PUT one@127.0.0.1:80 three@127.0.0.1:81 two@127.0.0.1:80\n\
         DELETE three@127.0.0.1:81 two@127.0.0.1:80\n",
    );
}

fn registration_is_kept_alive_and_revoked(subject: Subject) {
    check(
        subject,
        "registration",
        Some("revoke"),
        "kept alive, ttl 5\n\
         kept alive, ttl 5\n\
         granted 5, within: true, keys [registered/revoke]\n\
         revoked, keys left 0\n\
         put with it: etcdserver: requested lease not found\n",
    );
}

fn registration_disappears_after_a_kill(subject: Subject) {
    // Expiry is looked for every half second, and a busy machine adds some.
    const LATE: Duration = Duration::from_secs(3);
    const ALIVE: &str = "alive 5";
    let Some(program) = peer("client-go", "registration") else {
        return;
    };
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let mut command = Command::new(&program);
    let mut holder = Process::spawn(command.args([server.endpoint().as_str(), "hold"]));
    // The fifth answer comes after the lease would have run out but for the first ones.
    let mut from = 0;
    for _ in 0..5 {
        let line = holder.wait_for(ALIVE, from, LIMIT);
        from = 1 + line.unwrap_or_else(|| panic!("not kept alive: {:?}", holder.lines()));
    }
    holder.kill();
    let (killed, late) = (Instant::now(), MachineTime::start());
    let left = block_on(lifetime_left(server.port()));
    let mut command = Command::new(&program);
    let gone = run(
        command.args([server.endpoint().as_str(), "gone"]),
        "",
        LIMIT,
    );
    let took = killed.elapsed();
    let late = late.elapsed();
    assert_eq!(gone.stdout, "present 1\nDELETE\n", "{}", gone.stderr);
    // Never early, and not much late.
    assert!(took >= left, "gone after {took:?}, {left:?} were left");
    assert!(late < TTL + LATE, "gone only after {late:?}");
}

/// How long the only lease lives on by the word of the server, in whole seconds.
async fn lifetime_left(port: u16) -> Duration {
    let connection = Connection::open(port).await.expect("connects");
    let request = LeaseLeasesRequest {};
    let answer = connection.call("etcdserverpb.Lease/LeaseLeases", &request);
    let leases: LeaseLeasesResponse = answer.await.expect("leases");
    let request = LeaseTimeToLiveRequest {
        id: leases.leases[0].id,
        keys: false,
    };
    let answer = connection.call("etcdserverpb.Lease/LeaseTimeToLive", &request);
    let lease: LeaseTimeToLiveResponse = answer.await.expect("a lease");
    Duration::from_secs(lease.ttl.try_into().unwrap_or_default())
}
