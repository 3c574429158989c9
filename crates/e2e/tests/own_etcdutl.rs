//! Our etcdutl beside the official one of 3.7.1: the same lines on the same files, output, errors
//! and exit codes compared byte for byte. Log lines have their time and place masked, and our one flag more is left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kvorum_e2e::folder;
use kvorum_e2e::grpc::block_on;
use kvorum_e2e::official;
use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::{Server, new_folder};
use kvorum_storage::bolt::{Reader, schema};

const LIMIT: Duration = Duration::from_secs(120);
const RELEASES: [Subject; 3] = [
    Subject::Official3423,
    Subject::Official351,
    Subject::Official371,
];
const FORMATS: [&str; 6] = ["simple", "fields", "json", "table", "protobuf", "bogus"];

/// Lines that need no file, or fail before they look at one.
const LINES: &str = "
    |--help|--foo|foo|hash|versio|versions|version|version -w json|version extra|--timeout x version
    help|help snapshot|help snapshot status|help migrate|help foo|help foo bar
    snapshot|snapshot --help|snapshot foo|snapshot status|snapshot status a b|snapshot status nofile
    snapshot status --help|snapshot restore --help|snap stat nofile
    hashkv|hashkv a b|hashkv nofile|hashkv --help|-w bogus hashkv nofile|hashkv --rev x f
    defrag|defrag --help|defrag --data-dir nodir
    migrate|migrate --data-dir x|migrate --target-version 3.6|migrate --data-dir x --target-version 3
    migrate --data-dir x --target-version 3.6.0|migrate --data-dir x --target-version 3.x
    migrate --data-dir x --target-version 3.4|migrate --data-dir nodir --target-version 3.6
    completion|completion foo|completion --help|completion bash zsh
";

struct Tools {
    official: PathBuf,
    ours: PathBuf,
}

impl Tools {
    fn new() -> Option<Self> {
        let official = peer("etcd-3.7.1", "etcdutl")?;
        let ours = peers::etcdutl();
        Some(Self { official, ours })
    }
}

fn call(tool: &Path, folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(tool);
    command.current_dir(folder).args(arguments);
    run(&mut command, "", LIMIT)
}

/// Calls both tools, each in its folder.
#[track_caller]
fn check_in(tools: &Tools, folders: (&Path, &Path), arguments: &[&str]) {
    let official = call(&tools.official, folders.0, arguments);
    let ours = call(&tools.ours, folders.1, arguments);
    let shown = |outcome: &Outcome| {
        let Outcome {
            code,
            stdout,
            stderr,
            ..
        } = outcome;
        format!("exit {code:?}\n{}---\n{}", masked(stdout), masked(stderr))
    };
    assert_eq!(shown(&ours), shown(&official), "{arguments:?}");
}

#[track_caller]
fn check(tools: &Tools, folder: &Path, arguments: &[&str]) {
    check_in(tools, (folder, folder), arguments);
}

/// Log lines without time and place. What a database library says of itself is left out.
fn masked(stderr: &str) -> String {
    stderr.lines().filter_map(mask).collect()
}

fn mask(line: &str) -> Option<String> {
    let parts: Vec<&str> = line.splitn(4, '\t').collect();
    match parts[..] {
        [_, level @ ("info" | "warn" | "error"), place, message] => {
            let is_of_library = ["backend/", "bbolt", "wal/", "defrag"]
                .iter()
                .any(|library| place.contains(library));
            (!is_of_library).then(|| format!("{level} {message}\n"))
        }
        // The stack that the official tool adds to log lines of errors.
        _ if ["\t", "go.etcd.io/", "github.com/", "main.", "runtime."]
            .iter()
            .any(|start| line.starts_with(start)) =>
        {
            None
        }
        // Flags of ours alone, in the help of migrate.
        _ if line.contains("Kvorum only") => None,
        _ => Some(format!("{line}\n")),
    }
}

#[test]
fn lines_without_a_file_are_answered_as_by_the_official_tool() {
    let Some(tools) = Tools::new() else { return };
    let folder = new_folder();
    let script = call(&tools.ours, &folder, &["completion", "bash"]);
    assert_eq!(script.code, Some(0));
    let words = call(&tools.ours, &folder, &["__complete", "snapshot", "re"]);
    assert!(words.stdout.contains("restore\t"), "{}", words.stdout);
    for line in LINES.trim().split(['|', '\n']) {
        let words: Vec<&str> = line.split_whitespace().collect();
        check(&tools, &folder, &words);
    }
    let _ = fs::remove_dir_all(folder);
}

/// A stopped official server full of data, and a snapshot of it.
fn filled(subject: Subject) -> Option<(Server, PathBuf)> {
    let mut server = Server::start(subject, &[])?;
    let saved = server.data_directory().with_file_name("saved");
    block_on(async {
        official::fill(server.port()).await.expect("it takes it");
        let bytes = official::snapshot(server.port()).await.expect("a snapshot");
        fs::write(&saved, bytes).expect("the disk takes it");
    });
    server.terminate();
    Some((server, saved))
}

#[test]
fn files_of_official_servers_are_read_as_by_the_official_tool() {
    let Some(tools) = Tools::new() else { return };
    for subject in RELEASES {
        let Some((server, saved)) = filled(subject) else {
            continue;
        };
        let folder = new_folder();
        let database = server.data_directory().join("member/snap/db");
        for file in [&saved, &database] {
            // The official tool opens a file to write when it hashes it: each gets its own.
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.expect("a name of ours");
            fs::copy(file, folder.join(name)).expect("a copy");
            for format in FORMATS {
                check(&tools, &folder, &["-w", format, "snapshot", "status", name]);
                check(&tools, &folder, &["-w", format, "hashkv", name]);
            }
            for revision in ["1", "5", "20", "21", "30", "37", "38", "-3"] {
                check(&tools, &folder, &["hashkv", name, "--rev", revision]);
            }
        }
        let _ = fs::remove_dir_all(folder);
    }
}

/// Both tools change a copy each; then both are read.
#[test]
fn directories_of_official_servers_are_changed_as_by_the_official_tool() {
    let Some(tools) = Tools::new() else { return };
    for subject in RELEASES {
        let Some((server, _)) = filled(subject) else {
            continue;
        };
        let (theirs, ours) = (new_folder(), new_folder());
        for copy in [&theirs, &ours] {
            folder::copy(&server.data_directory(), &copy.join("data"));
        }
        let both = (theirs.as_path(), ours.as_path());
        let database = "data/member/snap/db";
        check_in(&tools, both, &["defrag", "--data-dir", "data"]);
        let mut targets = vec!["3.6", "3.7", "3.8", "4.0"];
        if subject == Subject::Official371 {
            // On the way down the official tool falls over what older servers wrote into the log.
            targets.extend(["3.6", "3.5", "3.7"]);
        }
        for target in targets {
            let migrate = ["migrate", "--data-dir", "data", "--target-version", target];
            check_in(&tools, both, &migrate);
            let status = ["-w", "json", "snapshot", "status", database];
            let read = |tool: &Path, folder: &Path| {
                let mut line = call(tool, folder, &status).stdout;
                // Official tools leave free pages behind.
                line.truncate(line.find("totalSize").unwrap_or_default());
                line
            };
            let official = read(&tools.official, &theirs);
            assert!(!official.is_empty());
            assert_eq!(read(&tools.official, &ours), official, "{target}");
            assert_eq!(read(&tools.ours, &ours), official, "{target}");
        }
        for folder in [theirs, ours] {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Where the page with the newest pair begins. Other pages may be free, which nobody reads.
fn last_page_of_keys(image: &[u8]) -> usize {
    let reader = Reader::open(image).expect("a database");
    let bucket = reader.bucket(schema::KEY).expect("readable");
    let mut pairs = reader.pairs(&bucket.expect("a bucket")).expect("readable");
    let mut page = 0;
    while pairs.next().expect("readable").is_some() {
        page = pairs.page_offset();
    }
    usize::try_from(page).expect("within the image")
}

#[test]
fn a_damaged_file_is_refused_with_file_and_offset() {
    let Some((server, saved)) = filled(Subject::Official371) else {
        return;
    };
    let folder = new_folder();
    let tool = peers::etcdutl();
    let whole = fs::read(&saved).expect("the snapshot");
    let damaged = folder.join("damaged");
    for command in [&["snapshot", "status"][..], &["hashkv"]] {
        let refused = |bytes: &[u8], expected: &str| {
            fs::write(&damaged, bytes).expect("the disk takes it");
            let outcome = call(&tool, &folder, &[command, &["damaged"]].concat());
            assert_eq!(outcome.code, Some(1), "{outcome:?}");
            let stderr = outcome.stderr;
            assert!(stderr.starts_with("Error: damaged: "), "{stderr}");
            assert!(stderr.contains(expected), "{stderr}");
        };
        refused(b"not a database", "invalid database");
        refused(&whole[..whole.len() / 2], "cut off");
        let page = last_page_of_keys(&whole);
        let mut flipped = whole.clone();
        // The first bytes of a page are its own number.
        flipped[page] ^= 0x55;
        refused(&flipped, &format!("at offset {page}: "));
    }
    drop(server);
    let _ = fs::remove_dir_all(folder);
}
