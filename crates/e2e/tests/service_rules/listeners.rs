//! Where a server listens and when it says that it is ready.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::process::{Process, run};
use kvorum_e2e::server::{Server, free_port, new_folder};

use crate::put;

on_each_server!(
    a_unix_socket_serves_etcdctl,
    ports_of_their_own_serve_their_part_alone,
    a_port_in_use_is_refused_unless_both_share_it,
    readiness_is_told_when_it_is_true_and_not_before,
);

const LIMIT: Duration = Duration::from_secs(120);

fn a_unix_socket_serves_etcdctl(subject: Subject) {
    let Some(etcdctl) = peer("etcd-3.7.1", "etcdctl") else {
        return;
    };
    // A name and a number are a file in the working folder, a path is itself.
    let folder = new_folder();
    let path = format!("unix://{}/socket", folder.display());
    for url in ["unix://localhost:23790", &path] {
        let flags = ["--listen-client-urls", url, "--advertise-client-urls", url];
        let Some(mut server) = Server::start(subject, &flags) else {
            break;
        };
        let working = server.data_directory();
        let working = working.parent().expect("a folder");
        let etcdctl = |arguments: &[&str]| {
            let mut command = Command::new(&etcdctl);
            command.current_dir(working).args(["--endpoints", url]);
            let outcome = run(command.args(arguments), "", LIMIT);
            (outcome.code, outcome.stdout)
        };
        let said = |text: &str| (Some(0), text.to_owned());
        assert_eq!(etcdctl(&["put", "k", "v"]), said("OK\n"), "{url}");
        assert_eq!(etcdctl(&["get", "k"]), said("k\nv\n"), "{url}");
        // The file that a killed process left is in nobody's way.
        server.restart();
        assert_eq!(etcdctl(&["get", "k"]), said("k\nv\n"), "{url}");
    }
    let _ = fs::remove_dir_all(folder);
}

fn ports_of_their_own_serve_their_part_alone(subject: Subject) {
    let (http, metrics) = (free_port(), free_port());
    let flags = [
        format!("--listen-client-http-urls=http://127.0.0.1:{http}"),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
    ];
    let flags = [&flags[0][..], &flags[1]];
    let Some(server) = Server::start(subject, &flags) else {
        return;
    };
    let grpc = async |port| -> bool {
        match Connection::open(port).await {
            Ok(connection) => put_once(&connection).await,
            Err(_) => false,
        }
    };
    block_on(async {
        assert!(grpc(server.port()).await);
        assert!(!grpc(http).await);
        assert!(!grpc(metrics).await);
    });
    let status = |port, path| get(port, path).map(|page| page.status).ok();
    for (path, on_http, on_metrics) in [
        ("/metrics", 200, 200),
        ("/health", 200, 200),
        ("/livez", 200, 200),
        ("/readyz", 200, 200),
        ("/version", 200, 404),
        ("/debug/vars", 200, 404),
        ("/nothing", 404, 404),
    ] {
        let seen = (status(http, path), status(metrics, path));
        assert_eq!(seen, (Some(on_http), Some(on_metrics)), "{path}");
        assert_eq!(status(server.port(), path), None, "{path}: gRPC alone");
    }
    // Both pages are of the same member. It counts behind the answer.
    for port in [http, metrics] {
        server.wait("counted put", || {
            let page = get(port, "/metrics").expect("a page");
            (samples(&page.body)["etcd_mvcc_put_total"] == 1.0).then_some(())
        });
    }
}

async fn put_once(connection: &Connection) -> bool {
    use kvorum_proto::etcdserverpb::{PutRequest, PutResponse};
    let request = PutRequest {
        key: "k".into(),
        ..PutRequest::default()
    };
    let answer = connection.call("etcdserverpb.KV/Put", &request).await;
    answer.map(|_: PutResponse| ()).is_ok()
}

fn a_port_in_use_is_refused_unless_both_share_it(subject: Subject) {
    let share = ["--socket-reuse-port"];
    for (first, second, shared) in [
        (&[][..], &[][..], false),
        (&share, &[], false),
        (&[], &share, false),
        (&share, &share, true),
    ] {
        let Some(first) = Server::start(subject, first) else {
            return;
        };
        let second = Server::prepare(subject, second).expect("it is there");
        let mut beside = Process::spawn(&mut second.command(first.port()));
        if shared {
            let ready = beside.wait_for(subject.ready_line(), 0, LIMIT);
            assert!(ready.is_some(), "{}", beside.lines().join("\n"));
        } else {
            let (status, _) = beside.wait_exit(LIMIT).expect("it gives up");
            assert_eq!(status.code(), Some(1));
            let port = first.port();
            let text = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
            let told = beside.lines().iter().any(|line| line.contains(&text));
            assert!(told, "{}", beside.lines().join("\n"));
        }
    }
}

fn readiness_is_told_when_it_is_true_and_not_before(subject: Subject) {
    let Some(mut first) = Server::start(subject, &[]) else {
        return;
    };
    let folder = new_folder();
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");

    // A second process on the same data waits for the first one to end, and is not ready.
    let port = free_port();
    let mut second = Process::spawn(first.command(port).env("NOTIFY_SOCKET", &path));
    let waits = second.wait_for("locked by another process", 0, LIMIT);
    assert!(waits.is_some(), "{}", second.lines().join("\n"));
    let mut message = [0; 64];
    socket.set_nonblocking(true).expect("it can");
    let early = socket.recv(&mut message).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock));
    socket.set_nonblocking(false).expect("it can");

    first.kill();
    let length = socket.recv(&mut message).expect("a message");
    assert_eq!(message[..length].trim_ascii_end(), b"READY=1");
    // It holds what it says.
    block_on(async {
        let connection = Connection::open(port).await.expect("connects");
        put(&connection, "k", "v").await;
    });
    second.kill();
    let _ = fs::remove_dir_all(folder);
}
