//! The lock service.

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, Stream, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use kvorum_proto::mvccpb::event::EventType;
use kvorum_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use crate::{answer, begin, connect, get, grant, is_silent, put, refused, revoke, until};

const LOCK: &str = "v3lockpb.Lock/Lock";
const UNLOCK: &str = "v3lockpb.Lock/Unlock";

on_each_server!(
    a_lock_is_a_key_named_after_its_lease,
    a_lock_passes_on_in_the_order_of_arrival,
    a_waiting_lock_whose_lease_dies_is_told,
    a_lock_call_that_is_taken_back_leaves_no_key,
    lock_calls_that_cannot_be_are_refused,
);

fn request(name: &'static str, lease: i64) -> LockRequest {
    let name = Bytes::from_static(name.as_bytes());
    LockRequest { name, lease }
}

async fn lock(
    connection: &Connection,
    name: &'static str,
    lease: i64,
) -> Result<LockResponse, Failure> {
    connection.call(LOCK, &request(name, lease)).await
}

/// The revision of the unlock.
async fn unlock(connection: &Connection, key: &'static str) -> Result<i64, Failure> {
    let key = Bytes::from_static(key.as_bytes());
    let answer: UnlockResponse = connection.call(UNLOCK, &UnlockRequest { key }).await?;
    Ok(answer.header.expect("header").revision)
}

/// Asks for the lock `job` and waits until the call stands in line.
async fn stand_in_line(connection: &Connection, lease: i64) -> Stream {
    let waiting = begin(connection, LOCK, &request("job", lease)).await;
    until(connection, EventType::Put, format!("job/{lease:x}")).await;
    waiting
}

fn a_lock_is_a_key_named_after_its_lease(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 0x1a2b).await;
        for (name, expected) in [("job", "job/1a2b"), ("", "/1a2b"), ("a/b", "a/b/1a2b")] {
            let locked = lock(&connection, name, 0x1a2b).await.expect("lock");
            assert_eq!(locked.key, expected);
            let pair = get(&connection, expected).await.expect("the key");
            assert_eq!((pair.value.len(), pair.lease, pair.version), (0, 0x1a2b, 1));
            let header = locked.header.expect("header");
            assert_eq!(header.revision, pair.create_revision);
            assert_ne!((header.cluster_id, header.member_id), (0, 0));
            // Whoever has the lock has it: no second key, no second version.
            let again = lock(&connection, name, 0x1a2b).await.expect("lock");
            assert_eq!((again.key, again.header), (locked.key, Some(header)));
        }

        // Without a lease the lock gets one of a minute.
        let locked = lock(&connection, "other", 0).await.expect("lock");
        let pair = get(&connection, locked.key.clone()).await.expect("the key");
        assert_eq!(locked.key, format!("other/{:x}", pair.lease));
        let ask = LeaseTimeToLiveRequest {
            id: pair.lease,
            keys: true,
        };
        let lease: LeaseTimeToLiveResponse = connection
            .call("etcdserverpb.Lease/LeaseTimeToLive", &ask)
            .await
            .expect("time to live");
        assert_eq!((lease.granted_ttl, lease.keys), (60, vec![locked.key]));
    });
}

fn a_lock_passes_on_in_the_order_of_arrival(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        for lease in [1, 2, 3] {
            grant(&connection, lease).await;
        }
        lock(&connection, "job", 1).await.expect("lock");
        let mut second = stand_in_line(&connection, 2).await;
        let mut third = stand_in_line(&connection, 3).await;
        // Keys that only begin alike are in nobody's way.
        put(&connection, "jobs", "").await;
        assert!(is_silent(&connection, &mut second).await);

        let unlocked = unlock(&connection, "job/1").await.expect("unlock");
        let locked: LockResponse = answer(&mut second).await.expect("lock");
        assert_eq!(locked.key, "job/2");
        assert_eq!(locked.header.expect("header").revision, unlocked);
        assert!(is_silent(&connection, &mut third).await);

        let revoked = revoke(&connection, 2).await;
        let locked: LockResponse = answer(&mut third).await.expect("lock");
        assert_eq!(locked.key, "job/3");
        assert_eq!(locked.header.expect("header").revision, revoked);
    });
}

fn a_waiting_lock_whose_lease_dies_is_told(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 1).await;
        grant(&connection, 2).await;
        lock(&connection, "job", 1).await.expect("lock");
        let mut waiting = stand_in_line(&connection, 2).await;
        revoke(&connection, 2).await;
        // It is told when its turn comes, not before.
        assert!(is_silent(&connection, &mut waiting).await);
        unlock(&connection, "job/1").await.expect("unlock");
        let told: Result<LockResponse, Failure> = answer(&mut waiting).await;
        assert_eq!(told, refused(2, "mutex: session is expired"));
    });
}

fn a_lock_call_that_is_taken_back_leaves_no_key(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        for lease in [1, 2, 3, 4] {
            grant(&connection, lease).await;
        }
        lock(&connection, "job", 1).await.expect("lock");

        stand_in_line(&connection, 2).await.reset();
        until(&connection, EventType::Delete, "job/2").await;

        // The same when the whole connection goes away.
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let port = server.port();
        let gone = std::thread::spawn(move || {
            other.block_on(async {
                let connection = Connection::open(port).await.expect("connects");
                stand_in_line(&connection, 3).await;
            });
        });
        gone.join().expect("the other client");
        until(&connection, EventType::Delete, "job/3").await;

        // And when the caller's own time is over.
        // Long enough for its key to be written on a machine that is busy with something else.
        let headers = [("grpc-timeout", "5S")];
        let mut late = connection.start(LOCK, &headers).await.expect("a stream");
        let bytes = prost::Message::encode_to_vec(&request("job", 4));
        late.send_raw(kvorum_e2e::grpc::frame(&bytes), true)
            .expect("sent");
        until(&connection, EventType::Delete, "job/4").await;
        // Official etcd says it or resets the stream, whatever comes first.
        let told: Result<LockResponse, Failure> = answer(&mut late).await;
        assert!(told.is_err());

        unlock(&connection, "job/1").await.expect("unlock");
        lock(&connection, "job", 2).await.expect("nobody is left");
    });
}

/// A call that was taken back after its key was written and before it knew of that left the key in
/// line until the end of its lease. Official etcd does so still, which makes this ours alone.
///
/// Somebody holds the lock meanwhile: a call that got it before it was taken back would keep it.
#[test]
fn a_lock_call_that_is_taken_back_at_once_leaves_no_key() {
    const CALLS: i64 = 200;
    const HOLDER: i64 = CALLS + 1;
    const LAST: i64 = CALLS + 2;
    let server = Server::start(Subject::Kvorum, &[]).expect("ours is always there");
    block_on(async {
        let connection = connect(&server).await;
        for lease in 1..=LAST {
            grant(&connection, lease).await;
        }
        let held = lock(&connection, "job", HOLDER).await.expect("lock");
        for lease in 1..=CALLS {
            let mut call = begin(&connection, LOCK, &request("job", lease)).await;
            // Some calls are taken back before they arrive, some on their way, some when they wait.
            for _ in 0..lease % 4 {
                tokio::task::yield_now().await;
            }
            call.reset();
        }
        let given_back = UnlockRequest { key: held.key };
        let unlocked: Result<UnlockResponse, Failure> = connection.call(UNLOCK, &given_back).await;
        unlocked.expect("unlock");
        let last = lock(&connection, "job", LAST).await.expect("lock");
        assert_eq!(last.key, format!("job/{LAST:x}"));
    });
}

fn lock_calls_that_cannot_be_are_refused(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let revision = put(&connection, "k", "").await;
        let unlocked = unlock(&connection, "no such key").await;
        assert_eq!(unlocked, Ok(revision));
        let unlocked = unlock(&connection, "").await;
        assert_eq!(unlocked, refused(2, "etcdserver: key is not provided"));
        let locked = lock(&connection, "job", 99).await;
        let expected = refused(2, "etcdserver: requested lease not found");
        assert_eq!(locked, expected);
    });
}
