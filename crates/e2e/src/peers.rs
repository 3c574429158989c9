//! Where the servers and tools under test lie, and what happens when one is missing.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A server that a check runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Official etcd 3.7.1: the release that Kvorum claims to be, and so the oracle.
    Official371,
    /// Official etcd 3.5.1.
    Official351,
    /// Official etcd 3.4.23.
    Official3423,
    /// Ours.
    Kvorum,
}

impl Subject {
    /// The server's binary; none when it is not to be had, which is then on record as a skip.
    pub fn etcd(self) -> Option<PathBuf> {
        match self.folder() {
            Some(folder) => peer(folder, "etcd"),
            None => Some(kvorum()),
        }
    }

    /// Folder below `target/peers`; none for ours.
    fn folder(self) -> Option<&'static str> {
        match self {
            Subject::Official371 => Some("etcd-3.7.1"),
            Subject::Official351 => Some("etcd-3.5.1"),
            Subject::Official3423 => Some("etcd-3.4.23"),
            Subject::Kvorum => None,
        }
    }

    /// What the server logs when it serves clients.
    pub fn ready_line(self) -> &'static str {
        match self {
            Subject::Official3423 => "serving client traffic",
            _ => "ready to serve client requests",
        }
    }
}

/// Makes two tests of each check: one on the official release, which shows that the check is
/// right, and one on ours. A check is a function that takes a [`Subject`].
#[macro_export]
macro_rules! on_each_server {
    ($($check:ident),* $(,)?) => {
        $(mod $check {
            #[test]
            fn official() {
                super::$check($crate::peers::Subject::Official371);
            }

            #[test]
            fn kvorum() {
                super::$check($crate::peers::Subject::Kvorum);
            }
        })*
    };
}

/// A file of a peer; none when the peer could not be had, which is then on record as a skip.
pub fn peer(name: &str, file: &str) -> Option<PathBuf> {
    let path = root().join("target/peers").join(name).join(file);
    if path.exists() {
        return Some(path);
    }
    let known = fs::read_to_string(root().join("target/peers/skipped.tsv")).unwrap_or_default();
    let reason = known
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'))
        .unwrap_or("not there; `cargo xtask peers` sets it up");
    skip(name, reason);
    None
}

/// Puts on record that something could not be tested, and why.
///
/// # Panics
/// When the record cannot be written: a skip that nobody sees would pass for a success.
pub fn skip(name: &str, reason: &str) {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(root().join("target/skips.log"))
        .expect("target/skips.log can be written");
    // One call, so that tests that run side by side do not mix their lines.
    let line = format!("{name}: {reason}\n");
    log.write_all(line.as_bytes())
        .expect("target/skips.log can be written");
}

/// Our server: from the environment, or built now.
///
/// # Panics
/// When it does not build.
fn kvorum() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("KVORUM_ETCD") {
        return path.into();
    }
    BUILT.get_or_init(|| build("kvorum-server", "etcd")).clone()
}

/// Our etcdctl: from the environment, or built now.
///
/// # Panics
/// When it does not build.
pub fn etcdctl() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("KVORUM_ETCDCTL") {
        return path.into();
    }
    BUILT
        .get_or_init(|| build("kvorum-etcdctl", "etcdctl"))
        .clone()
}

/// Our etcdutl: from the environment, or built now.
///
/// # Panics
/// When it does not build.
pub fn etcdutl() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("KVORUM_ETCDUTL") {
        return path.into();
    }
    BUILT
        .get_or_init(|| build("kvorum-etcdutl", "etcdutl"))
        .clone()
}

/// Our load generator: from the environment, or built now.
///
/// # Panics
/// When it does not build.
pub fn bench() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("KVORUM_BENCH") {
        return path.into();
    }
    BUILT.get_or_init(|| build("kvorum-bench", "bench")).clone()
}

fn build(package: &str, binary: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(root())
        .args(["build", "--quiet", "-p", package, "--bin", binary]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    assert!(
        build.status().expect("cargo starts").success(),
        "{package} does not build"
    );
    root().join("target").join(profile).join(binary)
}

/// Folder of the sources of our client programs.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}
