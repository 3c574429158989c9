//! Our client library against real servers: what it promises when servers go away and come back.

use std::time::Duration;

use kvorum_client::{Client, Config, Election, Error, KeyRange, Mutex, Session};
use kvorum_e2e::grpc::block_on;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::{Server, free_port};
use kvorum_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};

on_each_server!(
    a_watch_outlives_its_server,
    a_dead_endpoint_is_passed_over,
    a_lock_has_one_owner,
    an_election_has_one_leader
);

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(20);

fn client(endpoints: &[String]) -> Client {
    let client = Client::new(&Config::new(endpoints)).expect("good endpoints");
    client.with_timeout(LIMIT)
}

async fn put(client: &Client, key: &str) -> Result<i64, Error> {
    let request = PutRequest {
        key: key.to_owned().into(),
        ..PutRequest::default()
    };
    let header = client.put(&request).await?.header;
    Ok(header.expect("answers have a header").revision)
}

fn read(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

fn a_watch_outlives_its_server(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&[server.endpoint()]);
    block_on(async {
        let range = KeyRange::prefix("k");
        let request = WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            ..WatchCreateRequest::default()
        };
        let mut watcher = client.watch(request).await.expect("a watch");
        let mut written = Vec::new();
        let mut seen = Vec::new();
        for round in 0..3 {
            written.push(put(&client, "k").await.expect("a put"));
            if round == 1 {
                // This one happens while nobody has seen the one before.
                server.restart();
                // A read may be sent twice and so finds out that the connection is dead; a put
                // would have to be given up.
                client
                    .range(&read("k"))
                    .await
                    .expect("a range after a restart");
                written.push(put(&client, "k").await.expect("a put after a restart"));
            }
            while seen.len() < written.len() {
                let next = tokio::time::timeout(LIMIT, watcher.next()).await;
                let response = next.expect("in time").expect("no error");
                let events = response.expect("the watch goes on").events;
                let revision =
                    |kv: Option<kvorum_proto::mvccpb::KeyValue>| kv.map(|kv| kv.mod_revision);
                seen.extend(events.into_iter().filter_map(|event| revision(event.kv)));
            }
        }
        assert_eq!(seen, written);
    });
}

fn a_dead_endpoint_is_passed_over(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let dead = format!("127.0.0.1:{}", free_port());
    let client = client(&[dead, server.endpoint()]);
    block_on(async {
        for _ in 0..4 {
            put(&client, "k").await.expect("a put");
            let response = client.range(&read("k")).await.expect("a range");
            assert_eq!(response.count, 1);
        }
    });
}

fn a_lock_has_one_owner(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&[server.endpoint()]);
    block_on(async {
        let first = Session::open(&client, 60).await.expect("a session");
        let second = Session::open(&client, 60).await.expect("a session");
        let held = Mutex::lock(&first, "m").await.expect("the lock");
        // It is not to be had: whoever gives up leaves nothing behind.
        let stop = put(&client, "other");
        let given_up = Mutex::lock_or(&second, "m", stop).await.expect("an answer");
        assert!(given_up.is_err());
        let (unlocked, taken) = tokio::join!(held.unlock(), Mutex::lock(&second, "m"));
        unlocked.expect("the lock is given back");
        let taken = taken.expect("the lock");
        assert_eq!(taken.key(), format!("m/{:x}", second.lease().0));
    });
}

fn an_election_has_one_leader(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&[server.endpoint()]);
    block_on(async {
        let first = Session::open(&client, 60).await.expect("a session");
        let second = Session::open(&client, 60).await.expect("a session");
        let leader = Election::campaign(&first, "e", "one")
            .await
            .expect("it leads");
        leader.proclaim("uno").await.expect("it still leads");
        let mut observer = kvorum_client::Observer::new(&client, "e");
        let seen = observer.next().await.expect("a leader");
        assert_eq!(seen.kvs[0].value, "uno");
        let (closed, next) = tokio::join!(first.close(), Election::campaign(&second, "e", "two"));
        closed.expect("the session ends");
        let next = next.expect("it leads");
        assert_eq!(leader.proclaim("again").await, Err(Error::NotLeader));
        let seen = observer.next().await.expect("a leader");
        assert_eq!(seen.kvs[0].value, "two");
        next.resign().await.expect("it resigns");
    });
}
