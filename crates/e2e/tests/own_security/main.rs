//! Our etcdctl and client against official servers that want TLS and users: whom they let in, whom
//! they refuse, and what happens when a server forgets who somebody was.

#[path = "../../../client/docs/secure.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod secure;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kvorum_client::{Client, Config, Credentials, LeaseKeeper, Tls, TlsOptions, Watcher};
use kvorum_e2e::certificates::Certificates;
use kvorum_e2e::grpc::block_on;
use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::{Server, new_folder};
use kvorum_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
use kvorum_proto::ids::LeaseId;

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder() -> Folder {
    Folder(new_folder())
}

/// An official server with TLS, which asks clients for certificates.
fn secure_server(certificates: &Certificates, name: &str) -> Option<Server> {
    let flags = [
        "--cert-file",
        &certificates.path(&format!("{name}.pem")),
        "--key-file",
        &certificates.path(&format!("{name}.key")),
        "--trusted-ca-file",
        &certificates.path("ca.pem"),
        "--client-cert-auth",
    ];
    Server::start_secure(Subject::Official371, &flags)
}

fn etcdctl(tool: &PathBuf, endpoint: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(tool);
    command.env("ETCDCTL_ENDPOINTS", endpoint).args(arguments);
    run(&mut command, "", LIMIT)
}

/// What is the same with both tools: log lines apart, and texts about files apart.
fn comparable(outcome: &Outcome) -> (Option<i32>, String, Vec<String>) {
    let errors = outcome.stderr.lines();
    let errors = errors.filter(|line| !line.starts_with("{\"level\""));
    (
        outcome.code,
        outcome.stdout.clone(),
        errors.map(str::to_owned).collect(),
    )
}

#[test]
fn certificates_open_the_door_or_do_not() {
    let folder = folder();
    let files = Certificates::new(&folder.0);
    let (Some(official), Some(server)) = (
        peer("etcd-3.7.1", "etcdctl"),
        secure_server(&files, "server"),
    ) else {
        return;
    };
    let ca = format!("--cacert={}", files.path("ca.pem"));
    let other_ca = format!("--cacert={}", files.path("other-ca.pem"));
    let cert = format!("--cert={}", files.path("client.pem"));
    let key = format!("--key={}", files.path("client.key"));
    let other_cert = format!("--cert={}", files.path("other.pem"));
    let other_key = format!("--key={}", files.path("other.key"));
    let secure = server.endpoint();
    let bare = secure.replace("https://", "");
    let plain = secure.replace("https://", "http://");
    let localhost = secure.replace("127.0.0.1", "localhost");
    let skip = "--insecure-skip-tls-verify";
    let limit = "--command-timeout=700ms";
    let good: &[&str] = &[&ca, &cert, &key];
    let cases: &[(&str, &[&str], &[&str], bool)] = &[
        (&secure, good, &["put", "a", "1"], true),
        (&bare, good, &["get", "a"], true),
        (&localhost, good, &["get", "a", "-w", "fields"], true),
        (
            &secure,
            &[skip, &cert, &key],
            &["member", "list", "-w", "json"],
            true,
        ),
        (
            &secure,
            good,
            &["watch", "a", "--rev=1", "--", "false"],
            false,
        ),
        (&secure, good, &["lease", "grant"], false),
        (&secure, good, &["check", "datascale", "--prefix=a"], false),
        (&secure, &[&ca], &["get", "a", limit], false),
        (
            &secure,
            &[&other_ca, &cert, &key],
            &["get", "a", limit],
            false,
        ),
        (&secure, &[&cert, &key], &["get", "a", limit], false),
        (
            &secure,
            &[&ca, &other_cert, &other_key],
            &["get", "a", limit],
            false,
        ),
        (&secure, &[], &["get", "a", limit], false),
        (&plain, good, &["get", "a", limit], false),
        (&bare, &[], &["get", "a", limit], false),
        (
            &bare,
            &["--insecure-transport=false"],
            &["get", "a", limit],
            false,
        ),
        (&secure, &[&ca, &cert], &["get", "a"], false),
        (&secure, &[&ca, &key], &["get", "a"], false),
    ];
    for (endpoint, flags, arguments, works) in cases {
        let arguments = [*flags, *arguments].concat();
        let theirs = comparable(&etcdctl(&official, endpoint, &arguments));
        let ours = comparable(&etcdctl(&peers::etcdctl(), endpoint, &arguments));
        assert_eq!(ours, theirs, "{endpoint} {arguments:?}");
        assert_eq!(
            ours.0 == Some(0),
            *works,
            "{endpoint} {arguments:?} {ours:?}"
        );
    }
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let folder = folder();
    let files = Certificates::new(&folder.0);
    let Some(server) = secure_server(&files, "elsewhere") else {
        return;
    };
    let flags = [
        &format!("--cacert={}", files.path("ca.pem")),
        &format!("--cert={}", files.path("client.pem")),
        &format!("--key={}", files.path("client.key")),
        // Long enough for a handshake, on a machine that is busy with something else.
        "--command-timeout=4s",
    ];
    let get = [&flags[..], &["get", "a"]].concat();
    let outcome = etcdctl(&peers::etcdctl(), &server.endpoint(), &get);
    assert_eq!(outcome.code, Some(1));
    let complaint = "certificate not valid for name";
    assert!(outcome.stderr.contains(complaint), "{}", outcome.stderr);
    // The library takes the name from its caller.
    let tls = Tls::new(&TlsOptions {
        ca_file: Some(files.path("ca.pem").into()),
        cert_file: Some(files.path("client.pem").into()),
        key_file: Some(files.path("client.key").into()),
        server_name: Some("node.elsewhere.example".to_owned()),
        skip_verify: false,
    });
    let mut config = Config::new([server.endpoint()]);
    config.tls = Some(tls.expect("good files"));
    let client = Client::new(&config).expect("a client").with_timeout(LIMIT);
    block_on(async {
        let status = client.status().await.expect("the server answers");
        assert_eq!(status.version, "3.7.1");
    });
}

/// Simple recipes make one certificate that is server and authority in one.
#[test]
fn a_server_may_be_its_own_authority() {
    let folder = folder();
    let files = Certificates::new(&folder.0);
    let (cert, key) = (files.path("alone.pem"), files.path("alone.key"));
    let flags = ["--cert-file", &cert, "--key-file", &key];
    let (Some(official), Some(server)) = (
        peer("etcd-3.7.1", "etcdctl"),
        Server::start_secure(Subject::Official371, &flags),
    ) else {
        return;
    };
    let (own, elsewhere) = (format!("--cacert={cert}"), server.endpoint());
    let elsewhere = elsewhere.replace("127.0.0.1", "localhost");
    for (endpoint, works) in [(server.endpoint(), true), (elsewhere, false)] {
        // Whoever is refused tries again until his time is over.
        let limit = format!("--command-timeout={}", if works { "60s" } else { "700ms" });
        for tool in [&official, &peers::etcdctl()] {
            let outcome = etcdctl(tool, &endpoint, &[&own, "get", "a", &limit]);
            assert_eq!(
                outcome.code == Some(0),
                works,
                "{tool:?} {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn files_that_cannot_be_used_end_the_tool_at_once() {
    let folder = folder();
    let files = Certificates::new(&folder.0);
    let path = |name: &str| files.path(name);
    for (flags, complaint) in [
        (vec![format!("--cacert={}", path("none.pem"))], "none.pem"),
        (
            vec![format!("--cacert={}", path("server.key"))],
            "server.key",
        ),
        (
            vec![
                format!("--cert={}", path("client.pem")),
                format!("--key={}", path("client.pem")),
            ],
            "client.pem",
        ),
        (
            vec![
                format!("--cert={}", path("client.pem")),
                format!("--key={}", path("other.key")),
            ],
            "other.key",
        ),
    ] {
        let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
        arguments.extend(["get", "a"]);
        let outcome = etcdctl(&peers::etcdctl(), "https://127.0.0.1:1", &arguments);
        assert_eq!(outcome.code, Some(128), "{flags:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(complaint), "{}", outcome.stderr);
    }
}

#[test]
fn the_name_in_a_certificate_is_the_user() {
    let folder = folder();
    let files = Certificates::new(&folder.0);
    let Some(server) = secure_server(&files, "server") else {
        return;
    };
    let flags = [
        &format!("--cacert={}", files.path("ca.pem")),
        &format!("--cert={}", files.path("client.pem")),
        &format!("--key={}", files.path("client.key")),
    ];
    let flags = flags.map(String::as_str);
    let etcdctl = |arguments: &[&str]| {
        let arguments = [&flags, arguments].concat();
        let outcome = etcdctl(&peers::etcdctl(), &server.endpoint(), &arguments);
        (outcome.code, outcome.stdout + &outcome.stderr)
    };
    for setup in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "worker", "--no-password"],
        &["role", "add", "r"],
        &["role", "grant-permission", "r", "readwrite", "own"],
        &["user", "grant-role", "worker", "r"],
        &["auth", "enable"],
        &["put", "own", "1"],
    ] {
        assert_eq!(etcdctl(setup).0, Some(0), "{setup:?}");
    }
    let (code, text) = etcdctl(&["put", "foreign", "1"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(1), "Error: etcdserver: permission denied\n")
    );
    let root = secure::connect(&server.endpoint(), &folder.0).expect("good files");
    block_on(async {
        let answer = root.with_timeout(LIMIT).put(&put("foreign")).await;
        answer.expect("root may write everything");
    });
    // A user by name outranks the certificate.
    let (code, text) = etcdctl(&["--user=root:secret", "put", "foreign", "1"]);
    assert_eq!((code, text.as_str()), (Some(0), "OK\n"));
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        ..PutRequest::default()
    }
}

/// A server with the user `root`, who alone may do anything.
fn server_with_users() -> Option<(Server, Client)> {
    let server = Server::start(Subject::Official371, &[])?;
    let nobody = Client::new(&Config::new([server.endpoint()])).expect("a client");
    let nobody = nobody.with_timeout(LIMIT);
    block_on(async {
        nobody
            .user_add("root", Some("secret"))
            .await
            .expect("a user");
        nobody.role_add("root").await.expect("a role");
        nobody
            .user_grant_role("root", "root")
            .await
            .expect("a grant");
        nobody.auth_enable().await.expect("authentication");
        let refused = nobody.put(&put("k")).await.expect_err("nobody may write");
        assert!(refused.says("etcdserver: user name is empty"), "{refused}");
    });
    let mut config = Config::new([server.endpoint()]);
    config.credentials = Some(Credentials::Password {
        user: "root".to_owned(),
        password: "secret".to_owned(),
    });
    let root = Client::new(&config).expect("a client").with_timeout(LIMIT);
    Some((server, root))
}

/// The next event's revision.
async fn seen(watcher: &mut Watcher) -> i64 {
    let next = tokio::time::timeout(LIMIT, watcher.next()).await;
    let response = next
        .expect("in time")
        .expect("no error")
        .expect("it goes on");
    let kv = response.events[0].kv.as_ref();
    kv.expect("events have a pair").mod_revision
}

async fn renewed(keeper: &mut LeaseKeeper) {
    let next = tokio::time::timeout(LIMIT, keeper.next()).await;
    assert!(next.expect("in time").expect("no error").is_some());
}

/// The official server keeps its tokens in memory: a restart forgets them all.
#[test]
fn a_forgotten_token_is_renewed_by_calls_watches_and_keep_alives() {
    let Some((mut server, root)) = server_with_users() else {
        return;
    };
    block_on(async {
        let lease = root.lease_grant(60).await.expect("a lease").id;
        let mut keeper = root.lease_keep_alive(LeaseId(lease));
        renewed(&mut keeper).await;
        let request = WatchCreateRequest {
            key: "k".into(),
            ..WatchCreateRequest::default()
        };
        let mut watcher = root.watch(request).await.expect("a watch");
        let revision = |answer: kvorum_proto::etcdserverpb::PutResponse| {
            answer.header.expect("answers have a header").revision
        };
        let first = revision(root.put(&put("k")).await.expect("a put"));
        assert_eq!(seen(&mut watcher).await, first);
        server.restart();
        // Finds the dead connection; a put would have to be given up.
        let read = RangeRequest {
            key: "k".into(),
            ..RangeRequest::default()
        };
        root.range(&read).await.expect("a range with a new token");
        let second = revision(root.put(&put("k")).await.expect("a put"));
        assert_eq!(seen(&mut watcher).await, second);
        let mut keeper = root.lease_keep_alive(LeaseId(lease));
        renewed(&mut keeper).await;
        // A change of users makes tokens old; that is no error of the caller either.
        root.role_add("another").await.expect("a role");
        root.put(&put("k")).await.expect("a put");
    });
}

#[test]
fn a_wrong_password_is_said_once_and_nothing_is_repeated() {
    let Some((server, _)) = server_with_users() else {
        return;
    };
    let mut config = Config::new([server.endpoint()]);
    config.credentials = Some(Credentials::Password {
        user: "root".to_owned(),
        password: "wrong".to_owned(),
    });
    let client = Client::new(&config).expect("a client").with_timeout(LIMIT);
    let text = "etcdserver: authentication failed, invalid user ID or password";
    block_on(async {
        for refused in [
            client.authenticate().await.expect_err("it is refused"),
            client.put(&put("k")).await.expect_err("it is refused"),
        ] {
            assert!(refused.says(text), "{refused}");
        }
    });
}
