//! Programs around client libraries for Python, Node and Rust.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, clients, peer};
use kvorum_e2e::process::run;
use kvorum_e2e::server::Server;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs a program on a fresh server and compares what it prints. `arguments` come before the
/// server's address, which is the URL or the bare port as the program wants it.
fn check(
    subject: Subject,
    program: PathBuf,
    script: &str,
    address: fn(&Server) -> String,
    expected: &str,
) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let mut command = Command::new(program);
    if !script.is_empty() {
        command.arg(clients().join(script));
    }
    // Node looks for packages beside the script, Python prints in the locale of the machine.
    if let Some(modules) = peer("client-node", "node_modules") {
        command.env("NODE_PATH", modules);
    }
    command.env("PYTHONIOENCODING", "utf-8");
    let outcome = run(command.arg(address(&server)), "", LIMIT);
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

on_each_server!(python_aetcd, python_etcd3, node_etcd3, rust_etcd_client);

fn port(server: &Server) -> String {
    server.port().to_string()
}

fn python_aetcd(subject: Subject) {
    let Some(python) = peer("client-python-aetcd", "bin/python") else {
        return;
    };
    check(
        subject,
        python,
        "python/with_aetcd.py",
        port,
        "zwei version 2\n\
         python/b = drei\n\
         python/ä = zwei\n\
         missing None\n\
         succeeded True answers 1\n\
         succeeded False answers 1\n\
         PUT python/w1 b'x'\n\
         DELETE python/w1 b''\n\
         ttl 60\n\
         left None\n",
    );
}

fn python_etcd3(subject: Subject) {
    let Some(python) = peer("client-python-etcd3", "bin/python") else {
        return;
    };
    check(
        subject,
        python,
        "python/with_etcd3.py",
        port,
        "python3/ä = zwei version 2\n\
         python3/b = drei version 1\n\
         create only: False\n\
         replace: True\n\
         deleted True False\n\
         succeeded True answers 1\n\
         succeeded False answers 1\n\
         PutEvent python3/w1 b'x'\n\
         DeleteEvent python3/w1 b''\n\
         granted 60 keys ['python3/leased']\n\
         ttl 60\n\
         left (None, None)\n\
         held True\n\
         held False\n\
         members 1 version 3.7.1\n\
         OUT_OF_RANGE etcdserver: mvcc: required revision has been compacted\n",
    );
}

fn node_etcd3(subject: Subject) {
    if peer("client-node", "node_modules/etcd3").is_none() {
        return;
    }
    check(
        subject,
        "node".into(),
        "node/main.js",
        Server::endpoint,
        "node/b = drei\n\
         node/ä = zwei\n\
         missing null\n\
         count 2\n\
         succeeded true\n\
         succeeded false\n\
         PUT node/w1 \"x\"\n\
         DELETE node/w1 \"\"\n\
         ttl 60\n\
         left null\n\
         second holder: EtcdLockFailedError\n\
         leader candidate\n",
    );
}

fn rust_etcd_client(subject: Subject) {
    let Some(program) = peer("client-rust", "client") else {
        return;
    };
    check(
        subject,
        program,
        "",
        Server::endpoint,
        "put over eins\n\
         rust/b = drei version 1\n\
         rust/ä = zwei version 2\n\
         succeeded true\n\
         succeeded false\n\
         PUT rust/w1 \"x\"\n\
         DELETE rust/w1 \"\"\n\
         ttl 60\n\
         left 0\n\
         NotFound: etcdserver: requested lease not found\n",
    );
}
