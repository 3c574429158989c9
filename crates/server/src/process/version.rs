//! What the binary says it is.
//!
//! Tools take the first line of `etcd --version` for the release, so it names the release of etcd
//! whose behaviour this is; Kvorum's own version stands on a line of its own.

/// The release of etcd whose behaviour this server has.
pub const ETCD: &str = "3.7.1";
/// Major and minor number of [`ETCD`], the version of a cluster of such members.
pub const ETCD_MINOR: &str = "3.7";
/// The version of this software.
pub const KVORUM: &str = env!("CARGO_PKG_VERSION");
/// The commit this binary was built from, when the build said so.
pub const GIT_SHA: &str = match option_env!("KVORUM_GIT_SHA") {
    Some(sha) => sha,
    None => "not provided",
};
/// What stands where etcd names its Go release.
pub const GO: &str = concat!("none (Rust ", env!("CARGO_PKG_RUST_VERSION"), ")");

/// The text of `--version`.
#[must_use]
pub fn text() -> String {
    format!(
        "etcd Version: {ETCD}\nGit SHA: {GIT_SHA}\nGo Version: {GO}\nGo OS/Arch: {}/{}\n\
         Kvorum Version: {KVORUM}\n",
        go_os(),
        go_arch()
    )
}

/// The operating system by its Go name.
#[must_use]
pub fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// The architecture by its Go name.
#[must_use]
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn the_first_line_is_the_release_of_etcd() {
        let text = text();
        let starts: Vec<_> = text
            .lines()
            .map(|line| line.split_once(": ").map(|p| p.0))
            .collect();
        let expected = [
            "etcd Version",
            "Git SHA",
            "Go Version",
            "Go OS/Arch",
            "Kvorum Version",
        ]
        .map(Some);
        assert_eq!(starts, expected);
        assert!(text.starts_with("etcd Version: 3.7.1\n"));
    }
}
