//! Requests and the exact answers to them.

use std::sync::Arc;

use super::{ActiveAlarm, HealthFacts, HttpOptions, HttpPort, Paths, ProbeRead, ProbeSink};
use crate::metrics::Metrics;
use crate::transport::{HttpHandler, HttpRequest, HttpResponse};

/// A member in any state a test wants; healthy by default.
struct Member {
    alarms: Vec<ActiveAlarm>,
    leader: bool,
    learner: bool,
    linearizable: Result<(), &'static str>,
    serializable: Result<(), &'static str>,
    cluster_version: Option<&'static str>,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            alarms: Vec::new(),
            leader: true,
            learner: false,
            linearizable: Ok(()),
            serializable: Ok(()),
            cluster_version: Some("3.7.0"),
        }
    }
}

impl HealthFacts for Member {
    fn alarms(&self) -> Vec<ActiveAlarm> {
        self.alarms.clone()
    }

    fn has_leader(&self) -> bool {
        self.leader
    }

    fn is_learner(&self) -> bool {
        self.learner
    }

    fn probe(&self, read: ProbeRead, done: ProbeSink) {
        let outcome = match read {
            ProbeRead::Linearizable => self.linearizable,
            ProbeRead::Serializable => self.serializable,
        };
        match outcome {
            // Stands for a member that stops without an answer.
            Err("") => drop(done),
            other => done.send(other.map_err(str::to_owned)),
        }
    }

    fn cluster_version(&self) -> Option<String> {
        self.cluster_version.map(str::to_owned)
    }

    fn storage_version(&self) -> Option<String> {
        self.cluster_version.map(str::to_owned)
    }
}

struct Setup {
    paths: Paths,
    cors: &'static [&'static str],
    whitelist: &'static [&'static str],
    headers: &'static [(&'static str, &'static str)],
}

const CLIENT: Setup = Setup {
    paths: Paths::Client,
    cors: &["*"],
    whitelist: &["*"],
    headers: &[],
};

/// Sends one request, `method target`.
fn send(member: Member, setup: &Setup, request: &str) -> HttpResponse {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let options = HttpOptions {
        cors: texts(setup.cors),
        host_whitelist: texts(setup.whitelist),
        server_version: "3.7.1",
        kvorum_version: "0.1.0",
    };
    let port = HttpPort::new(
        setup.paths,
        options,
        Arc::new(member),
        Arc::new(Metrics::new(false)),
    );
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = setup.headers.iter();
    let reply = port.handle(HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(reply)
}

/// The status and body of a client port's answer.
fn check(member: Member, request: &str, status: u16, body: &str) {
    let reply = send(member, &CLIENT, request);
    assert_eq!(
        (reply.status, std::str::from_utf8(&reply.body).unwrap()),
        (status, body),
        "{request}"
    );
}

fn alarmed(alarms: &[ActiveAlarm]) -> Member {
    Member {
        alarms: alarms.to_vec(),
        ..Member::default()
    }
}

const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

fn sick(reason: &str) -> String {
    format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n")
}

#[test]
fn health_names_the_first_reason() {
    use ActiveAlarm::{Corrupt, NoSpace};
    check(Member::default(), "GET /health", 200, HEALTHY);
    check(
        alarmed(&[NoSpace]),
        "GET /health",
        503,
        &sick("ALARM NOSPACE"),
    );
    check(
        alarmed(&[Corrupt]),
        "GET /health",
        503,
        &sick("ALARM CORRUPT"),
    );
    check(
        alarmed(&[NoSpace]),
        "GET /health?exclude=NOSPACE",
        200,
        HEALTHY,
    );
    check(
        alarmed(&[NoSpace]),
        "GET /health?exclude=nospace&exclude=",
        503,
        &sick("ALARM NOSPACE"),
    );
    let both = || alarmed(&[NoSpace, Corrupt]);
    check(
        both(),
        "GET /health?exclude=NOSPACE",
        503,
        &sick("ALARM CORRUPT"),
    );
    check(
        both(),
        "GET /health?exclude=NOSPACE&exclude=CORRUPT",
        200,
        HEALTHY,
    );
    let leaderless = || Member {
        leader: false,
        linearizable: Err("etcdserver: request timed out"),
        ..Member::default()
    };
    check(leaderless(), "GET /health", 503, &sick("RAFT NO LEADER"));
    check(leaderless(), "GET /health?serializable=true", 200, HEALTHY);
    check(
        leaderless(),
        "GET /health?serializable=TRUE",
        503,
        &sick("RAFT NO LEADER"),
    );
    let failing = Member {
        linearizable: Err("etcdserver: \"timed out\""),
        ..Member::default()
    };
    check(
        failing,
        "GET /health",
        503,
        &sick("RANGE ERROR:etcdserver: \\\"timed out\\\""),
    );
    let stopped = Member {
        linearizable: Err(""),
        ..Member::default()
    };
    check(
        stopped,
        "GET /health",
        503,
        &sick("RANGE ERROR:etcdserver: server stopped"),
    );
}

#[test]
fn livez_and_readyz_run_their_checks() {
    check(Member::default(), "GET /livez", 200, "ok\n");
    check(
        Member::default(),
        "GET /livez?verbose",
        200,
        "[+]serializable_read ok\nok\n",
    );
    check(Member::default(), "GET /readyz", 200, "ok\n");
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    check(Member::default(), "GET /readyz?verbose=0", 200, all);
    check(alarmed(&[ActiveAlarm::NoSpace]), "GET /readyz", 200, "ok\n");
    let corrupt = || alarmed(&[ActiveAlarm::Corrupt]);
    let failed = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
    check(corrupt(), "GET /readyz/data_corruption", 503, failed);
    check(
        corrupt(),
        "GET /readyz?exclude=data_corruption&exclude=nothing",
        200,
        "ok\n",
    );
    check(
        corrupt(),
        "GET /readyz/serializable_read?exclude=data_corruption",
        200,
        "ok\n",
    );
    check(corrupt(), "GET /livez", 200, "ok\n");
    let learner = || Member {
        learner: true,
        linearizable: Err("etcdserver: rpc not supported for learner"),
        ..Member::default()
    };
    let failed = "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: rpc not \
                  supported for learner\n[-]non_learner failed: not supported for learner\n\n";
    check(learner(), "GET /readyz", 503, failed);
    check(learner(), "GET /livez/serializable_read", 200, "ok\n");
    check(
        learner(),
        "GET /livez/linearizable_read",
        404,
        "404 page not found\n",
    );
}

#[test]
fn other_paths_answer_as_official_ones() {
    let version =
        r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0","kvorum":"0.1.0"}"#;
    check(Member::default(), "GET /version", 200, version);
    let young = Member {
        cluster_version: None,
        ..Member::default()
    };
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown","kvorum":"0.1.0"}"#;
    check(young, "GET /version", 200, version);
    for request in [
        "GET /",
        "GET /nothing",
        "POST /nothing",
        "GET /healthz",
        "GET /livezz",
        "GET /health/",
    ] {
        check(Member::default(), request, 404, "404 page not found\n");
    }
    for request in [
        "POST /health",
        "PUT /version",
        "HEAD /livez",
        "DELETE /debug/vars",
    ] {
        let reply = send(Member::default(), &CLIENT, request);
        assert_eq!(
            (reply.status, &reply.body[..]),
            (405, &b"Method Not Allowed\n"[..]),
            "{request}"
        );
        assert!(
            reply.headers.contains(&("Allow", "GET".to_owned())),
            "{request}"
        );
    }
    check(Member::default(), "OPTIONS /anything", 200, "");
    let variables = send(Member::default(), &CLIENT, "GET /debug/vars");
    assert!(variables.body.starts_with(b"{\n\"cmdline\": [\""));
    let metrics = send(Member::default(), &CLIENT, "GET /metrics");
    assert!(metrics.body.starts_with(b"# HELP "));
}

#[test]
fn metrics_port_offers_health_and_metrics_alone() {
    let setup = Setup {
        paths: Paths::Metrics,
        whitelist: &["nobody"],
        ..CLIENT
    };
    let cases = [
        ("GET /health", 200),
        ("GET /metrics", 200),
        ("GET /readyz", 200),
        ("GET /version", 404),
    ];
    for (request, status) in cases {
        let reply = send(Member::default(), &setup, request);
        assert_eq!(reply.status, status, "{request}");
        assert!(
            !reply
                .headers
                .iter()
                .any(|(name, _)| name.starts_with("Access")),
            "{request}"
        );
    }
}

#[test]
fn cors_headers_follow_the_list() {
    type Case = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );
    let cases: [Case; 5] = [
        (&["*"], &[], Some("*")),
        (&[], &[("origin", "http://a")], Some("*")),
        (&["http://a"], &[("origin", "http://a")], Some("http://a")),
        (&["http://a"], &[("origin", "http://b")], None),
        (&["http://a"], &[], None),
    ];
    for (cors, headers, expected) in cases {
        let setup = Setup {
            cors,
            headers,
            ..CLIENT
        };
        let reply = send(Member::default(), &setup, "GET /health");
        let origin = reply
            .headers
            .iter()
            .find(|(name, _)| *name == "Access-Control-Allow-Origin");
        assert_eq!(
            origin.map(|(_, value)| value.as_str()),
            expected,
            "{cors:?} {headers:?}"
        );
    }
}

#[test]
fn unknown_hosts_are_misdirected() {
    type Case = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        u16,
    );
    let cases: [Case; 6] = [
        (&["*"], &[("host", "evil.example")], 200),
        (&["etcd.local"], &[("host", "etcd.local:2379")], 200),
        (&["etcd.local"], &[("host", "evil.example:2379")], 421),
        (&["::1"], &[("host", "[::1]:2379")], 200),
        (&["::1"], &[("host", "::1")], 200),
        (&["etcd.local"], &[], 421),
    ];
    for (whitelist, headers, status) in cases {
        let setup = Setup {
            whitelist,
            headers,
            ..CLIENT
        };
        let reply = send(Member::default(), &setup, "GET /health");
        assert_eq!(reply.status, status, "{whitelist:?} {headers:?}");
        let body = String::from_utf8_lossy(&reply.body);
        assert_eq!(
            status == 421,
            body.contains("CVE-2018-5702") && body.contains("--host-whitelist")
        );
    }
}
