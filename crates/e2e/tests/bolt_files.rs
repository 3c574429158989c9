//! etcd's backend file: what official servers write is read by us, what we write is taken by the
//! official tools and served by the official server, with the same hashes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::process::run;
use kvorum_e2e::server::{Server, new_folder};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleAddResponse, CompactionRequest, CompactionResponse,
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, PutRequest,
    PutResponse, RequestOp, TxnRequest, TxnResponse,
};
use kvorum_proto::mvccpb::KeyValue;
use kvorum_storage::bolt::schema::{self, RevisionKey};
use kvorum_storage::bolt::{ReadError, Reader, Sizer, Writer};
use kvorum_storage::vfs::{OpenMode, OsFile, OsVfs, Vfs as _};
use prost::Message as _;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const LEASE: i64 = 0x1234_5678_9abc;

/// An official release: its server, and the folder of a release whose tools can read its files.
struct Release {
    server: Subject,
    etcdctl: &'static str,
    /// Tools and server that take over the file. 3.4 has no etcdutl.
    taker: Subject,
    taker_folder: &'static str,
}

#[test]
fn files_of_3_4() {
    check(&Release {
        server: Subject::Official3423,
        etcdctl: "etcd-3.4.23",
        taker: Subject::Official351,
        taker_folder: "etcd-3.5.1",
    });
}

#[test]
fn files_of_3_5() {
    check(&Release {
        server: Subject::Official351,
        etcdctl: "etcd-3.5.1",
        taker: Subject::Official351,
        taker_folder: "etcd-3.5.1",
    });
}

#[test]
fn files_of_3_7() {
    check(&Release {
        server: Subject::Official371,
        etcdctl: "etcd-3.7.1",
        taker: Subject::Official371,
        taker_folder: "etcd-3.7.1",
    });
}

fn check(release: &Release) {
    let Some(etcdctl) = peer(release.etcdctl, "etcdctl") else {
        return;
    };
    let (Some(taker_etcdctl), Some(etcdutl)) = (
        peer(release.taker_folder, "etcdctl"),
        peer(release.taker_folder, "etcdutl"),
    ) else {
        return;
    };
    let Some(mut server) = Server::start(release.server, &[]) else {
        return;
    };
    block_on(fill(server.port())).expect("the server takes the content");
    let hash = endpoint_hash(&etcdctl, &server);
    let saved = server.data_directory().with_file_name("saved");
    let saved_path = saved.to_str().expect("a path of ours is text");
    etcdctl_run(&etcdctl, &server, &["snapshot", "save", saved_path]);
    server.terminate();

    let written = server.data_directory().join("member/snap/db");
    let copy = server.data_directory().with_file_name("copy");
    let original = open(&written);
    assert_eq!(bucket_names(&original), schema::BUCKETS);
    for file in [&written, &saved] {
        assert_eq!(key_hash(&open(file)), hash, "HashKV of {}", file.display());
    }

    copy_file(&original, &copy);
    assert_eq!(file_hash(&open(&copy)), file_hash(&original));
    let status = status_of(&etcdutl, &copy);
    assert_eq!(status["hash"], u64::from(file_hash(&original)));
    let length = copy.metadata().expect("our file").len();
    assert_eq!(status["totalSize"], length, "the pages end with the file");
    let official = status_of(&etcdutl, &written);
    for field in ["hash", "revision", "totalKey"] {
        assert_eq!(status[field], official[field], "{field}");
    }

    let mut restored = Server::prepare(release.taker, &[]).expect("its tools are there");
    restore(&etcdutl, &copy, &restored.data_directory());
    restored.launch();
    restored.wait_ready();
    assert_eq!(endpoint_hash(&taker_etcdctl, &restored), hash);
    // What the official server makes of our pages when it changes them is still in order.
    block_on(fill(restored.port())).expect("the restored server takes more");
    let hash = endpoint_hash(&taker_etcdctl, &restored);
    restored.terminate();
    let changed = restored.data_directory().join("member/snap/db");
    assert_eq!(key_hash(&open(&changed)), hash);
    status_of(&etcdutl, &changed);
}

/// Trees of every form: official tools check each page, and find the same pairs.
#[test]
fn official_tools_accept_every_shape() {
    let folder = new_folder();
    for tools in ["etcd-3.5.1", "etcd-3.7.1"] {
        let Some(etcdutl) = peer(tools, "etcdutl") else {
            continue;
        };
        for (name, sizes) in shapes() {
            let path = folder.join(format!("{name}-{tools}"));
            let hash = write_shape(&path, &sizes);
            let status = status_of(&etcdutl, &path);
            assert_eq!(status["hash"], u64::from(hash), "{name}");
            let length = path.metadata().expect("our file").len();
            assert_eq!(status["totalSize"], length, "{name}");
            assert_eq!(file_hash(&open(&path)), hash, "{name}");
        }
    }
    let _ = fs::remove_dir_all(folder);
}

/// Lengths of keys and values.
type Sizes = Vec<(usize, usize)>;

fn shapes() -> Vec<(&'static str, Sizes)> {
    vec![
        ("empty", vec![]),
        ("inline", vec![(8, 1024 - 40)]),
        ("not-inline", vec![(8, 1024 - 39)]),
        ("three-levels", vec![(8, 1); 50_000]),
        ("full-pages", vec![(8, 2048 - 32); 9]),
        ("long-keys", vec![(32_768, 5); 40]),
        ("uneven-keys", (8..400).map(|key| (key * 9, 1)).collect()),
        (
            "long-values",
            vec![(8, 3_000_000), (8, 0), (8, 70_000), (9, 9)],
        ),
        (
            "values",
            (0..9_000).step_by(13).map(|value| (8, value)).collect(),
        ),
    ]
}

/// A file with these pairs in a bucket among empty ones; its hash.
fn write_shape(path: &Path, sizes: &Sizes) -> u32 {
    const BUCKET: &[u8] = b"alarm";
    let mut sizer = Sizer::new();
    for bucket in schema::BUCKETS {
        sizer.bucket(bucket).expect("names in order");
        for (key, value) in sizes.iter().filter(|_| bucket == BUCKET) {
            sizer.pair(*key, *value).expect("lengths in range");
        }
    }
    let layout = sizer.finish().expect("a layout");
    let output = BufWriter::new(File::create(path).expect("a new file"));
    let mut writer = Writer::new(output, layout).expect("the disk takes it");
    let mut hash = 0;
    for bucket in schema::BUCKETS {
        writer.bucket(bucket).expect("names in order");
        hash = crc32c::crc32c_append(hash, bucket);
        let pairs = sizes.iter().filter(|_| bucket == BUCKET);
        for (number, (key_length, value_length)) in pairs.enumerate() {
            let mut key = (number as u64).to_be_bytes().to_vec();
            key.resize(*key_length, b'k');
            let value = vec![number as u8; *value_length];
            writer.pair(&key, &value).expect("pairs in order");
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &value);
        }
    }
    let mut output = writer.finish().expect("the disk takes it");
    output.flush().expect("the disk takes it");
    hash
}

/// Thousands of changes of all kinds, a value of many pages, a compaction in between.
async fn fill(port: u16) -> Result<(), Failure> {
    const PUTS_PER_TXN: usize = 100;
    let server = Connection::open(port).await?;
    let grant = LeaseGrantRequest {
        ttl: 100_000,
        id: LEASE,
    };
    let granted = server.call::<LeaseGrantResponse>("etcdserverpb.Lease/LeaseGrant", &grant);
    if granted.await.is_ok() {
        let name = "reader".to_owned();
        let role = AuthRoleAddRequest { name };
        let _: AuthRoleAddResponse = server.call("etcdserverpb.Auth/RoleAdd", &role).await?;
    }
    for round in 0..30_usize {
        let put = |number: usize| PutRequest {
            key: format!("key/{:05}", round * 61 + number).into(),
            value: vec![b'v'; number * 7].into(),
            lease: if number.is_multiple_of(9) { LEASE } else { 0 },
            ..PutRequest::default()
        };
        let operation = |number| RequestOp {
            request: Some(Request::RequestPut(put(number))),
        };
        let txn = TxnRequest {
            success: (0..PUTS_PER_TXN).map(operation).collect(),
            ..TxnRequest::default()
        };
        let _: TxnResponse = server.call("etcdserverpb.KV/Txn", &txn).await?;
        let delete = DeleteRangeRequest {
            key: format!("key/{:05}", round * 61 + 20).into(),
            range_end: format!("key/{:05}", round * 61 + 25).into(),
            ..DeleteRangeRequest::default()
        };
        let method = "etcdserverpb.KV/DeleteRange";
        let _: DeleteRangeResponse = server.call(method, &delete).await?;
        let long = PutRequest {
            key: Bytes::from_static(b"long"),
            value: vec![round as u8; 100_000].into(),
            ..PutRequest::default()
        };
        let put: PutResponse = server.call("etcdserverpb.KV/Put", &long).await?;
        if round == 15 {
            // At a put: tombstones exactly at a compaction are hashed differently by releases.
            let compact = CompactionRequest {
                revision: put.header.unwrap_or_default().revision,
                physical: true,
            };
            let _: CompactionResponse = server.call("etcdserverpb.KV/Compact", &compact).await?;
        }
    }
    Ok(())
}

fn etcdctl_run(etcdctl: &Path, server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(etcdctl);
    command.env("ETCDCTL_ENDPOINTS", server.endpoint());
    if server.subject() != Subject::Official371 {
        command.env("ETCDCTL_API", "3");
    }
    command.args(arguments);
    output(&mut command)
}

fn output(command: &mut Command) -> String {
    let outcome = run(command, "", LIMIT);
    assert_eq!(outcome.code, Some(0), "{command:?}: {outcome:?}");
    outcome.stdout
}

/// HashKV by the server.
fn endpoint_hash(etcdctl: &Path, server: &Server) -> u32 {
    let text = etcdctl_run(etcdctl, server, &["-w", "json", "endpoint", "hashkv"]);
    let answer: Value = serde_json::from_str(&text).expect("etcdctl writes JSON");
    let hash = answer[0]["HashKV"]["hash"].as_u64().expect("a hash");
    u32::try_from(hash).expect("32 bits")
}

fn status_of(etcdutl: &Path, file: &Path) -> Value {
    let mut command = Command::new(etcdutl);
    let text = output(command.args(["-w", "json", "snapshot", "status"]).arg(file));
    serde_json::from_str(&text).expect("etcdutl writes JSON")
}

fn restore(etcdutl: &Path, file: &Path, data_directory: &Path) {
    let mut command = Command::new(etcdutl);
    command.args(["snapshot", "restore", "--skip-hash-check", "--data-dir"]);
    output(command.arg(data_directory).arg(file));
}

fn open(path: &Path) -> Reader<OsFile> {
    let file = OsVfs::default().open(path, OpenMode::Read);
    let file = file.expect("the file is there");
    Reader::open(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn bucket_names(reader: &Reader<OsFile>) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut buckets = reader.buckets().expect("readable");
    while let Some(bucket) = buckets.next().expect("readable") {
        names.push(bucket.name().to_vec());
    }
    names
}

/// HashKV at the newest revision, from what is in the file: changes up to the last compaction count
/// only if no later one hides them.
fn key_hash(reader: &Reader<OsFile>) -> u32 {
    let mut newest = BTreeMap::new();
    each_pair(reader, schema::KEY, |key, value| {
        let revision = RevisionKey::decode(key).expect("a revision");
        let pair = KeyValue::decode(value).expect("a key-value");
        assert!(revision.tombstone || pair.mod_revision == revision.main);
        newest.insert(pair.key, revision);
    });
    let mut compacted = 0;
    each_pair(reader, schema::META, |key, value| {
        if key == schema::meta::FINISHED_COMPACT {
            compacted = RevisionKey::decode(value).expect("a revision").main;
        }
    });
    assert!(compacted > 0, "compacted while it was filled");
    let mut hash = crc32c::crc32c(schema::KEY);
    each_pair(reader, schema::KEY, |key, value| {
        let revision = RevisionKey::decode(key).expect("a revision");
        let pair = KeyValue::decode(value).expect("a key-value");
        let visible = newest.get(&pair.key) == Some(&revision) && !revision.tombstone;
        if revision.main > compacted || visible {
            hash = crc32c::crc32c_append(hash, key);
            hash = crc32c::crc32c_append(hash, value);
        }
    });
    hash
}

fn each_pair(reader: &Reader<OsFile>, bucket: &[u8], mut take: impl FnMut(&[u8], &[u8])) {
    let bucket = reader.bucket(bucket).expect("readable");
    let bucket = bucket.expect("every file has it");
    let mut pairs = reader.pairs(&bucket).expect("readable");
    while let Some((key, value)) = pairs.next().expect("readable") {
        take(key, value);
    }
}

/// The hash that `snapshot status` shows: all buckets, with their names.
fn file_hash(reader: &Reader<OsFile>) -> u32 {
    let mut hash = 0;
    let mut buckets = reader.buckets().expect("readable");
    while let Some(bucket) = buckets.next().expect("readable") {
        hash = crc32c::crc32c_append(hash, bucket.name());
        let mut pairs = reader.pairs(&bucket).expect("readable");
        while let Some((key, value)) = pairs.next().expect("readable") {
            hash = crc32c::crc32c_append(hash, key);
            hash = crc32c::crc32c_append(hash, value);
        }
    }
    hash
}

fn copy_file(original: &Reader<OsFile>, path: &Path) {
    let mut sizer = Sizer::new();
    each(original, |item| match item {
        Item::Bucket(name) => sizer.bucket(name).expect("names in order"),
        Item::Pair(key, value) => sizer.pair(key.len(), value.len()).expect("pairs in order"),
    })
    .expect("readable");
    let layout = sizer.finish().expect("a layout");
    let output = BufWriter::new(File::create(path).expect("a new file"));
    let mut writer = Writer::new(output, layout).expect("the disk takes it");
    each(original, |item| match item {
        Item::Bucket(name) => writer.bucket(name).expect("names in order"),
        Item::Pair(key, value) => writer.pair(key, value).expect("pairs in order"),
    })
    .expect("readable");
    let mut output = writer.finish().expect("the disk takes it");
    output.flush().expect("the disk takes it");
    let length = path.metadata().expect("our file").len();
    assert_eq!(length, layout.file_bytes());
}

enum Item<'a> {
    Bucket(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

fn each(reader: &Reader<OsFile>, mut take: impl FnMut(Item<'_>)) -> Result<(), ReadError> {
    let mut buckets = reader.buckets()?;
    while let Some(bucket) = buckets.next()? {
        take(Item::Bucket(bucket.name()));
        let mut pairs = reader.pairs(&bucket)?;
        while let Some((key, value)) = pairs.next()? {
            take(Item::Pair(key, value));
        }
    }
    Ok(())
}
