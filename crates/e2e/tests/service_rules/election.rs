//! The election service.

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, Stream, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::mvccpb::event::EventType;
use kvorum_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

use crate::{answer, begin, connect, get, grant, is_silent, refused, revoke, until};

const CAMPAIGN: &str = "v3electionpb.Election/Campaign";

on_each_server!(
    a_campaign_waits_until_the_leader_resigns,
    a_leader_proclaims_and_others_cannot,
    a_candidate_that_campaigns_again_proclaims,
    observers_see_the_leader_and_each_change,
    an_observer_that_was_slow_learns_the_newest_word,
    election_calls_that_cannot_be_are_refused,
    a_campaign_that_is_taken_back_leaves_no_key,
);

fn campaigning(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest {
        name: "post".into(),
        lease,
        value: value.into(),
    }
}

async fn campaign(connection: &Connection, lease: i64, value: &'static str) -> CampaignResponse {
    let request = campaigning(lease, value);
    let answer = connection.call(CAMPAIGN, &request).await;
    answer.expect("campaign")
}

async fn stand_in_line(connection: &Connection, lease: i64, value: &'static str) -> Stream {
    let waiting = begin(connection, CAMPAIGN, &campaigning(lease, value)).await;
    until(connection, EventType::Put, format!("post/{lease:x}")).await;
    waiting
}

async fn proclaim(
    connection: &Connection,
    leader: Option<LeaderKey>,
    value: impl Into<Bytes>,
) -> Result<i64, Failure> {
    let value = value.into();
    let request = ProclaimRequest { leader, value };
    let method = "v3electionpb.Election/Proclaim";
    let answer: ProclaimResponse = connection.call(method, &request).await?;
    Ok(answer.header.expect("header").revision)
}

async fn resign(connection: &Connection, leader: Option<LeaderKey>) -> Result<i64, Failure> {
    let request = ResignRequest { leader };
    let method = "v3electionpb.Election/Resign";
    let answer: ResignResponse = connection.call(method, &request).await?;
    Ok(answer.header.expect("header").revision)
}

/// Key and value of the leader, and the revision at which that was so.
async fn leader(connection: &Connection) -> Result<(String, i64), Failure> {
    let name = Bytes::from_static(b"post");
    let method = "v3electionpb.Election/Leader";
    let answer: LeaderResponse = connection.call(method, &LeaderRequest { name }).await?;
    Ok(shown(answer))
}

fn shown(answer: LeaderResponse) -> (String, i64) {
    let pair = answer.kv.expect("a pair");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let who = format!("{}={}", text(&pair.key), text(&pair.value));
    (who, answer.header.expect("header").revision)
}

fn a_campaign_waits_until_the_leader_resigns(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        for lease in [0xa, 0xb, 0xc] {
            grant(&connection, lease).await;
        }
        let won = campaign(&connection, 0xa, "first").await;
        let pair = get(&connection, "post/a").await.expect("the key");
        assert_eq!((&pair.value[..], pair.lease), (&b"first"[..], 0xa));
        let first = LeaderKey {
            name: "post".into(),
            key: "post/a".into(),
            rev: pair.create_revision,
            lease: 0xa,
        };
        assert_eq!(won.leader, Some(first.clone()));
        let header = won.header.expect("header");
        assert_eq!(header.revision, pair.create_revision);

        let mut second = stand_in_line(&connection, 0xb, "second").await;
        let mut third = stand_in_line(&connection, 0xc, "third").await;
        assert!(is_silent(&connection, &mut second).await);
        let (who, now) = leader(&connection).await.expect("leader");
        assert_eq!(who, "post/a=first");

        // A handle of another time resigns nothing and says nothing.
        let mut stale = first.clone();
        stale.rev += 1;
        assert_eq!(resign(&connection, Some(stale)).await, Ok(now));
        assert!(is_silent(&connection, &mut second).await);
        assert_eq!(resign(&connection, Some(first.clone())).await, Ok(now + 1));

        let won: CampaignResponse = answer(&mut second).await.expect("campaign");
        let pair = get(&connection, "post/b").await.expect("the key");
        let handle = won.leader.expect("a handle");
        assert_eq!((&handle.key[..], handle.lease), (&b"post/b"[..], 0xb));
        assert_eq!(handle.rev, pair.create_revision);
        // The header is that of the moment when the candidate got in line.
        assert_eq!(won.header.expect("header").revision, pair.create_revision);
        // Resigning twice is as silent.
        assert_eq!(resign(&connection, Some(first)).await, Ok(now + 1));

        // The end of the lease is the end of the leader, and a candidate whose lease is dead is
        // elected all the same: unlike a lock it does not look.
        revoke(&connection, 0xc).await;
        assert!(is_silent(&connection, &mut third).await);
        revoke(&connection, 0xb).await;
        let won: CampaignResponse = answer(&mut third).await.expect("campaign");
        assert_eq!(won.leader.expect("a handle").key, "post/c");
        let nobody = refused(2, "election: no leader");
        assert_eq!(leader(&connection).await, nobody);
    });
}

fn a_leader_proclaims_and_others_cannot(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 0xa).await;
        let won = campaign(&connection, 0xa, "first").await;
        let handle = won.leader.expect("a handle");
        let revision = won.header.expect("header").revision;
        let proclaimed = proclaim(&connection, Some(handle.clone()), "better").await;
        assert_eq!(proclaimed, Ok(revision + 1));
        let seen = leader(&connection).await.expect("leader");
        assert_eq!(seen, ("post/a=better".to_owned(), revision + 1));
        let pair = get(&connection, "post/a").await.expect("the key");
        assert_eq!((pair.create_revision, pair.lease), (handle.rev, 0xa));

        // The value hangs on the lease of the handle; without one on a lease of its own.
        let mut free = handle.clone();
        free.lease = 0;
        let proclaimed = proclaim(&connection, Some(free), "loose").await;
        assert_eq!(proclaimed, Ok(revision + 2));
        let pair = get(&connection, "post/a").await.expect("the key");
        assert!(pair.lease != 0 && pair.lease != 0xa, "{pair:?}");

        let not_leader = || refused(2, "election: not leader");
        let mut other = handle.clone();
        other.rev += 1;
        let proclaimed = proclaim(&connection, Some(other), "x").await;
        assert_eq!(proclaimed, not_leader());
        let mut other = handle.clone();
        other.key = "post/b".into();
        let proclaimed = proclaim(&connection, Some(other), "x").await;
        assert_eq!(proclaimed, not_leader());
        resign(&connection, Some(handle.clone()))
            .await
            .expect("resign");
        let proclaimed = proclaim(&connection, Some(handle), "x").await;
        assert_eq!(proclaimed, not_leader());
    });
}

fn a_candidate_that_campaigns_again_proclaims(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 0xa).await;
        let won = campaign(&connection, 0xa, "first").await;
        let revision = won.header.expect("header").revision;
        // The same value is no change, another one is.
        let again = campaign(&connection, 0xa, "first").await;
        assert_eq!(again, won);
        let again = campaign(&connection, 0xa, "second").await;
        assert_eq!(again.leader, won.leader);
        // Its header is older than its own proclamation: it is that of the look at the line.
        assert_eq!(again.header.expect("header").revision, revision);
        let seen = leader(&connection).await.expect("leader");
        assert_eq!(seen, ("post/a=second".to_owned(), revision + 1));

        // Without a lease of its own each campaign is another candidate.
        let mut waiting = begin(&connection, CAMPAIGN, &campaigning(0, "third")).await;
        assert!(is_silent(&connection, &mut waiting).await);
        revoke(&connection, 0xa).await;
        let won: CampaignResponse = answer(&mut waiting).await.expect("campaign");
        let handle = won.leader.expect("a handle");
        assert_eq!(handle.key, format!("post/{:x}", handle.lease));
    });
}

fn observers_see_the_leader_and_each_change(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 0xa).await;
        grant(&connection, 0xb).await;
        let name = Bytes::from_static(b"post");
        let request = LeaderRequest { name };
        let observe = "v3electionpb.Election/Observe";
        let mut early = begin(&connection, observe, &request).await;
        assert!(is_silent(&connection, &mut early).await);

        let first = campaign(&connection, 0xa, "first").await;
        let handle = first.leader.expect("a handle");
        let expected = |who: &str, revision| (who.to_owned(), revision);
        let seen = shown(answer(&mut early).await.expect("a leader"));
        assert_eq!(seen, expected("post/a=first", handle.rev));

        let mut late = begin(&connection, observe, &request).await;
        let seen = shown(answer(&mut late).await.expect("a leader"));
        assert_eq!(seen, expected("post/a=first", handle.rev));

        // The other candidate is in line and not seen; every word of the leader is.
        let mut waiting = stand_in_line(&connection, 0xb, "second").await;
        let second = get(&connection, "post/b").await.expect("the key");
        for value in ["more", "and more"] {
            let revision = proclaim(&connection, Some(handle.clone()), value).await;
            let revision = revision.expect("proclaim");
            for observer in [&mut early, &mut late] {
                let seen = shown(answer(observer).await.expect("a leader"));
                assert_eq!(seen, expected(&format!("post/a={value}"), revision));
            }
        }
        let resigned = resign(&connection, Some(handle)).await.expect("resign");
        let won: CampaignResponse = answer(&mut waiting).await.expect("campaign");
        assert_eq!(won.leader.expect("a handle").rev, second.create_revision);
        for observer in [&mut early, &mut late] {
            let seen = shown(answer(observer).await.expect("a leader"));
            assert_eq!(seen, expected("post/b=second", resigned));
            // Nothing is said of an empty post.
            assert!(is_silent(&connection, observer).await);
        }
        revoke(&connection, 0xb).await;
        assert!(is_silent(&connection, &mut early).await);
    });
}

/// Observers that had no room when the leader spoke were left with its older word for good.
fn an_observer_that_was_slow_learns_the_newest_word(subject: Subject) {
    /// Together they are far more than what a server keeps for one stream.
    const WORDS: usize = 200;
    const WORD_BYTES: usize = 64 << 10;
    const SMALL_WINDOW: u32 = 65_535;
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 0xa).await;
        let won = campaign(&connection, 0xa, "first").await;
        let slow = Connection::open_with_window(server.port(), SMALL_WINDOW).await;
        let slow = slow.expect("connects");
        let name = Bytes::from_static(b"post");
        let method = "v3electionpb.Election/Observe";
        let mut observer = begin(&slow, method, &LeaderRequest { name }).await;
        let seen = shown(answer(&mut observer).await.expect("a leader"));
        assert_eq!(seen.0, "post/a=first");
        for _ in 0..WORDS {
            let word = vec![b'w'; WORD_BYTES];
            let proclaimed = proclaim(&connection, won.leader.clone(), word).await;
            proclaimed.expect("proclaim");
        }
        let last = proclaim(&connection, won.leader, "last").await;
        let last = ("post/a=last".to_owned(), last.expect("proclaim"));
        let mut before = 0;
        loop {
            let seen = shown(answer(&mut observer).await.expect("a leader"));
            assert!(seen.1 > before, "backwards");
            before = seen.1;
            if seen == last {
                break;
            }
        }
    });
}

fn election_calls_that_cannot_be_are_refused(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let missing = || refused(2, "\"leader\" field must be provided");
        assert_eq!(proclaim(&connection, None, "x").await, missing());
        assert_eq!(resign(&connection, None).await, missing());
        let nobody = refused(2, "election: no leader");
        assert_eq!(leader(&connection).await, nobody);
        let answer = connection.call(CAMPAIGN, &campaigning(99, "x")).await;
        let answer = answer.map(|_: CampaignResponse| ());
        let unknown = refused(2, "etcdserver: requested lease not found");
        assert_eq!(answer, unknown);
    });
}

fn a_campaign_that_is_taken_back_leaves_no_key(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        grant(&connection, 0xa).await;
        grant(&connection, 0xb).await;
        campaign(&connection, 0xa, "first").await;
        stand_in_line(&connection, 0xb, "second").await.reset();
        until(&connection, EventType::Delete, "post/b").await;
    });
}
