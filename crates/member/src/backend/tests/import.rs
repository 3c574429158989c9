//! What was written is read back; what no server writes is refused by its place.

use kvorum_storage::bolt::{Reader, Sizer, Writer};

use super::*;
use crate::backend::import::{Changes, ImportError, Imported};

type Pairs<'a> = &'a [(Vec<u8>, Vec<u8>)];

/// A file with these pairs, buckets and keys ascending.
fn made(buckets: &[(&[u8], Pairs<'_>)]) -> Vec<u8> {
    let mut sizer = Sizer::new();
    for (name, pairs) in buckets {
        sizer.bucket(name).unwrap();
        for (key, value) in *pairs {
            sizer.pair(key.len(), value.len()).unwrap();
        }
    }
    let mut writer = Writer::new(Vec::new(), sizer.finish().unwrap()).unwrap();
    for (name, pairs) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in *pairs {
            writer.pair(key, value).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// Everything in a file.
fn read(file: &[u8]) -> Result<(Imported, Vec<String>), ImportError> {
    let reader = Reader::open(file)?;
    let imported = Imported::read(&reader)?;
    let mut changes = Changes::new(&reader)?;
    let mut shown = Vec::new();
    while let Some(change) = changes.next()? {
        let kind = if change.is_tombstone { "delete" } else { "put" };
        shown.push(format!("{} {kind} {:?}", change.revision, change.pair.key));
    }
    Ok((imported, shown))
}

#[test]
fn a_file_says_what_the_state_was() {
    let mut world = World::new();
    for (id, learner) in [(0xa, false), (0x10, true), (0xc, false)] {
        let member = Member::new(MemberId(id), vec![format!("http://m:{id}")], learner);
        world.change(&Change::Add(member));
    }
    world.change(&Change::Remove(MemberId(0xc)));
    let ver = "3.7.0".to_owned();
    world.apply(Payload::ClusterVersionSet(ClusterVersionSetRequest { ver }));
    let (enabled, ver) = (true, "3.6.0".to_owned());
    world.apply(Payload::DowngradeInfoSet(DowngradeInfoSetRequest {
        enabled,
        ver,
    }));
    for id in [-2, 9] {
        world.grant(id, 1000);
    }
    for value in [&b"1"[..], b"2"] {
        world.put("a", value);
        world.put("b", value);
    }
    world.compact(3);
    world.apply(Payload::DeleteRange(DeleteRangeRequest {
        key: "b".into(),
        ..DeleteRangeRequest::default()
    }));
    world.apply(Payload::Alarm(AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 0xa,
        alarm: 1,
    }));
    let backend = Backend::new(&world.0);
    let (imported, changes) = read(&file(&backend, usize::MAX).concat()).unwrap();
    let expected = Imported {
        applied: world.0.applied(),
        term: kvorum_proto::ids::Term(TERM),
        storage_version: Some("3.7.0".to_owned()),
        scheduled_compact: 3,
        finished_compact: 3,
        leases: leases(world.0.grants()),
        cluster: world.0.cluster().clone(),
    };
    assert_eq!(imported, expected);
    assert_eq!(
        changes,
        [
            "2.0 put b\"a\"",
            "3.0 put b\"b\"",
            "4.0 put b\"a\"",
            "5.0 put b\"b\"",
            "6.0 delete b\"b\""
        ]
    );
    assert_eq!(imported.current_revision(6), 6);
}

#[test]
fn a_compaction_that_was_begun_counts_as_a_revision_that_was_reached() {
    let at = |main| {
        let (sub, tombstone) = (0, false);
        let key = RevisionKey {
            main,
            sub,
            tombstone,
        };
        key.encode()
    };
    let meta = [
        (schema::meta::FINISHED_COMPACT.to_vec(), at(5)),
        (schema::meta::SCHEDULED_COMPACT.to_vec(), at(9)),
    ];
    let file = made(&[(schema::KEY, &[]), (schema::META, &meta)]);
    let (imported, _) = read(&file).unwrap();
    assert_eq!(imported.compact_revision(), 9);
    assert_eq!(imported.current_revision(7), 9);
    assert_eq!(imported.current_revision(12), 12);
}

#[test]
fn users_and_roles_go_through_unread() {
    let user = [(b"root".to_vec(), b"\x00not a message".to_vec())];
    let role = [(b"r".to_vec(), Vec::new())];
    let file = made(&[
        (schema::AUTH_ROLES, &role),
        (schema::AUTH_USERS, &user),
        (schema::KEY, &[]),
        (schema::META, &[]),
    ]);
    let (imported, _) = read(&file).unwrap();
    let kept = imported.cluster.auth_kept;
    let value = |name: &'static [u8]| kept.users.get(name).map(|value| value.to_vec());
    assert_eq!(value(b"root").as_deref(), Some(&b"\x00not a message"[..]));
    assert_eq!(kept.roles.len(), 1);
}

#[test]
fn what_no_server_writes_is_refused_with_its_place() {
    let revision = |main, tombstone| RevisionKey {
        main,
        sub: 0,
        tombstone,
    };
    let put = |main: i64| kvorum_proto::mvccpb::KeyValue {
        key: "k".into(),
        create_revision: main,
        mod_revision: main,
        version: 1,
        ..kvorum_proto::mvccpb::KeyValue::default()
    };
    let good = (revision(2, false).encode(), put(2).encode_to_vec());
    let check = |bucket: &'static [u8], bad: (Vec<u8>, Vec<u8>), expected: &str| {
        let bad = [bad];
        let (mut keys, mut meta) = (vec![good.clone()], Vec::new());
        let mut buckets: Vec<(&[u8], Pairs<'_>)> = Vec::new();
        match bucket {
            schema::KEY => keys.extend(bad),
            schema::META => meta.extend(bad),
            other => buckets.push((other, &bad)),
        }
        buckets.push((schema::KEY, &keys));
        buckets.push((schema::META, &meta));
        buckets.sort_unstable_by_key(|(name, _)| *name);
        let error = read(&made(&buckets)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("on the page at offset "), "{error}");
    };
    let key = |main| revision(main, false).encode();
    let (json, member) = (b"{".to_vec(), b"{\"id\":3}".to_vec());
    check(schema::KEY, (b"short".to_vec(), vec![]), "no revision");
    check(
        schema::KEY,
        (key(3), put(4).encode_to_vec()),
        "another revision",
    );
    check(schema::KEY, (key(3), b"\xff".to_vec()), "pair 1 of bucket");
    let delete = (revision(3, true).encode(), Vec::new());
    check(schema::KEY, delete, "without a key");
    let twice = (revision(2, true).encode(), put(2).encode_to_vec());
    check(schema::KEY, twice, "two changes at one revision");
    check(schema::META, (b"term".to_vec(), vec![1]), "no number");
    check(schema::MEMBERS, (b"3".to_vec(), json), "EOF");
    check(schema::MEMBERS, (b"4".to_vec(), member), "another's id");
    let version = (b"clusterVersion".to_vec(), b"three".to_vec());
    check(schema::CLUSTER, version, "\"three\"");
    let missing = read(&made(&[(schema::KEY, &[])])).unwrap_err();
    assert!(missing.to_string().contains("no bucket \"meta\""));
}

#[test]
fn a_file_for_an_older_server_lacks_what_came_later() {
    let mut world = World::new();
    let ver = "3.7.0".to_owned();
    world.apply(Payload::ClusterVersionSet(ClusterVersionSetRequest { ver }));
    let check = |minor, fields: &[&str], missing: &[&str], expected: &str| {
        let backend = Backend::new(&world.0).written_for(super::super::minor(minor));
        let shown = show(&backend);
        for field in fields {
            assert!(shown.contains(field), "{field} in {shown}");
        }
        for field in missing {
            assert!(!shown.contains(field), "{field} in {shown}");
        }
        let version = format!("clusterVersion = {expected}");
        assert!(shown.contains(&version), "{shown}");
    };
    let all = ["confState", "storageVersion = 3.7.0", "term"];
    check(7, &all, &[], "3.7.0");
    check(6, &["confState", "storageVersion = 3.6.0"], &[], "3.6.0");
    check(5, &["confState", "term"], &["storageVersion"], "3.5.0");
    let later = ["confState", "term", "storageVersion"];
    check(4, &["consistent_index"], &later, "3.4.0");
}
