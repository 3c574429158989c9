//! Our client library against real servers: what it promises when servers go away and come back.

use std::time::Duration;

use kvorum_client::{
    Client, Config, Election, Error, KeyRange, Mirror, Mutex, Namespace, Session, Txn,
    compare_version,
};
use kvorum_e2e::grpc::block_on;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::{Server, free_port};
use kvorum_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};

on_each_server!(
    a_watch_outlives_its_server,
    a_dead_endpoint_is_passed_over,
    a_lock_has_one_owner,
    an_election_has_one_leader,
    a_namespace_sees_its_own_keys_alone,
    a_mirror_is_a_state_and_its_changes,
    a_write_is_not_repeated_unless_the_caller_says_so
);

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(120);

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

fn a_namespace_sees_its_own_keys_alone(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&[server.endpoint()]);
    let (app, other) = (
        Namespace::new(&client, "app/"),
        Namespace::new(&client, "b/"),
    );
    block_on(async {
        let all = KeyRange::prefix("");
        let everything = RangeRequest {
            key: all.key.clone(),
            range_end: all.range_end.clone(),
            ..RangeRequest::default()
        };
        let request = WatchCreateRequest {
            key: all.key,
            range_end: all.range_end,
            ..WatchCreateRequest::default()
        };
        let mut watcher = app.watch(request).await.expect("a watch");
        let write = |key: &'static str| PutRequest {
            key: key.into(),
            value: key.into(),
            prev_kv: true,
            ..PutRequest::default()
        };
        other.put(&write("hidden")).await.expect("a put");
        app.put(&write("k")).await.expect("a put");
        let again = app.put(&write("k")).await.expect("a put");
        assert_eq!(again.prev_kv.expect("it was there").key, "k");
        let absent = compare_version("k", kvorum_client::CompareResult::Equal, 2);
        let txn = Txn::new().when(absent).and_then(everything.clone()).build();
        let answer = app.txn(&txn).await.expect("a transaction");
        assert!(answer.succeeded && format!("{answer:?}").contains("key: b\"k\""));
        let seen = app.range(&everything).await.expect("a range");
        let keys: Vec<_> = seen.kvs.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(keys, ["k"]);
        let whole = client.range(&everything).await.expect("a range");
        let keys: Vec<_> = whole.kvs.iter().map(|kv| kv.key.clone()).collect();
        assert_eq!(keys, ["app/k", "b/hidden"]);
        for _ in 0..2 {
            let next = tokio::time::timeout(LIMIT, watcher.next()).await;
            let response = next
                .expect("in time")
                .expect("no error")
                .expect("it goes on");
            let kv = response.events[0].kv.clone().expect("a pair");
            assert_eq!(kv.key, "k");
        }
    });
}

fn a_mirror_is_a_state_and_its_changes(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&[server.endpoint()]);
    block_on(async {
        // More than a page.
        for number in 0..1_200 {
            put(&client, &format!("k/{number:04}"))
                .await
                .expect("a put");
        }
        put(&client, "other").await.expect("a put");
        let mut mirror = Mirror::new(&client, "k/");
        let mut pages = Vec::new();
        while let Some(page) = mirror.next_page().await.expect("a page") {
            pages.push(page.len());
            // What happens meanwhile is no part of the pages.
            put(&client, "k/later").await.expect("a put");
        }
        assert_eq!((pages, mirror.count()), (vec![1000, 200], 1_200));
        let expected = mirror.revision() + 1;
        let mut changes = mirror.changes().await.expect("a watch");
        let next = tokio::time::timeout(LIMIT, changes.next()).await;
        let response = next
            .expect("in time")
            .expect("no error")
            .expect("it goes on");
        let first = response.events[0].kv.clone().expect("a pair");
        assert_eq!(
            (first.key.as_ref(), first.mod_revision),
            (&b"k/later"[..], expected)
        );
    });
}

/// The server is killed while a connection is open and nobody has noticed: whether a write arrived
/// cannot be known.
fn a_write_is_not_repeated_unless_the_caller_says_so(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&[server.endpoint()]);
    block_on(async {
        put(&client, "k").await.expect("a put");
        server.restart();
        let unsure = put(&client, "k").await;
        let written = match unsure {
            // The client may have seen the end of the connection before.
            Ok(_) => 2,
            Err(error) => {
                assert!(error.to_string().contains("Unavailable"), "{error}");
                1
            }
        };
        let answer = client.range(&read("k")).await.expect("a range");
        assert_eq!(answer.kvs[0].version, written);
        server.restart();
        let repeated = put(&client.with_repeated_writes(), "k").await;
        repeated.expect("it is sent again");
    });
}
