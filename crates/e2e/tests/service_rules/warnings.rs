//! What the log says of requests that took long.

use kvorum_e2e::grpc::block_on;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use serde_json::Value;

use crate::{connect, put};

on_each_server!(
    a_slow_call_leaves_one_line_about_itself,
    a_slow_apply_leaves_a_line_about_itself,
    a_limit_of_zero_is_the_usual_one_for_calls_and_none_for_applies,
);

const SLOW_CALL: &str = "request stats";
const SLOW_APPLY: &str = "apply request took too long";

/// The lines with this message that a put leaves. All of them are written by the time that a
/// stopped server has ended.
fn lines(subject: Subject, flags: &[&str], message: &str) -> Option<Vec<Value>> {
    let mut server = Server::start(subject, flags)?;
    // What the start itself applies is slow too, under such a limit.
    let from = server.log().len();
    block_on(async { put(&connect(&server).await, "key", "a secret").await });
    server.terminate();
    let log = server.log();
    assert!(!log.iter().any(|line| line.contains("a secret")));
    let lines = log[from..].iter().filter(|line| line.contains(message));
    let lines = lines.map(|line| serde_json::from_str(line).expect("a line of JSON"));
    Some(lines.collect())
}

fn a_slow_call_leaves_one_line_about_itself(subject: Subject) {
    let flags = ["--warning-unary-request-duration=1us"];
    let Some(lines) = lines(subject, &flags, SLOW_CALL) else {
        return;
    };
    let [line] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(line["level"], "warn");
    assert_eq!(line["msg"], SLOW_CALL);
    assert_eq!(line["response type"], "/etcdserverpb.KV/Put");
    let spent = line["time spent"].as_str().expect("a duration");
    assert!(spent.ends_with('s'), "{spent}");
    let remote = line["remote"].as_str().expect("an address");
    assert!(remote.starts_with("127.0.0.1:"), "{remote}");
}

fn a_slow_apply_leaves_a_line_about_itself(subject: Subject) {
    let flags = ["--warning-apply-duration=1ns"];
    let Some(lines) = lines(subject, &flags, SLOW_APPLY) else {
        return;
    };
    // The start applies entries of its own, some of them after it is ready.
    let line = lines.last().expect("a line");
    assert_eq!(line["level"], "warn");
    assert_eq!(line["msg"], SLOW_APPLY);
    assert_eq!(line["expected-duration"], "1ns");
    let took = line["took"].as_str().expect("a duration");
    assert!(took.ends_with('s'), "{took}");
}

fn a_limit_of_zero_is_the_usual_one_for_calls_and_none_for_applies(subject: Subject) {
    let calls = ["--warning-unary-request-duration=0", "--log-level=info"];
    let Some(slow_calls) = lines(subject, &calls, SLOW_CALL) else {
        return;
    };
    // A put may take 300 ms on a busy machine, but then it says so.
    for line in slow_calls {
        let spent = line["time spent"].as_str().expect("a duration");
        let short = spent.ends_with("µs") || spent.ends_with("ns");
        assert!(!short, "{spent}");
    }
    let applies = lines(subject, &["--warning-apply-duration=0"], SLOW_APPLY);
    let applies = applies.expect("the server is there");
    assert_eq!(applies.last().expect("a line")["expected-duration"], "0s");
}
