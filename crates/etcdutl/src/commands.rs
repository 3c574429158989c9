//! The table of commands and flags: names, help texts, defaults.
//!
//! Help and parsing are read from here and nowhere else.
//!
//! Source: v3.7.1 `etcdutl/ctl.go`, `etcdutl/etcdutl`.

use kvorum_cli::{Command, Flag, Kind, Tool};

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Completion,
    Defrag,
    Hashkv,
    Help,
    Migrate,
    SnapshotRestore,
    SnapshotStatus,
    Version,
}

/// The tool.
pub(crate) static TOOL: Tool<Action> = Tool {
    root: Command {
        name: "etcdutl",
        usage: "etcdutl",
        short: "An administrative command line tool for etcd3.",
        persistent: GLOBAL,
        children: &[
            Command {
                name: "completion",
                usage: "completion [bash|zsh|fish|powershell]",
                short: "Generate completion script",
                hides_flags: true,
                action: Some(Action::Completion),
                ..Command::NONE
            },
            Command {
                name: "defrag",
                usage: "defrag",
                short: "Defragments the storage of the etcd",
                flags: &[Flag::text(
                    "data-dir",
                    "",
                    "Required. Defragments a data directory not in use by etcd.",
                )],
                action: Some(Action::Defrag),
                ..Command::NONE
            },
            Command {
                name: "hashkv",
                usage: "hashkv <filename>",
                short: "Prints the KV history hash of a given file",
                flags: &[Flag::int(
                    "rev",
                    "0",
                    "maximum revision to hash (default: latest revision)",
                )],
                action: Some(Action::Hashkv),
                ..Command::NONE
            },
            Command {
                name: "help",
                usage: "help [command]",
                short: "Help about any command",
                action: Some(Action::Help),
                ..Command::NONE
            },
            Command {
                name: "migrate",
                usage: "migrate",
                short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
                flags: MIGRATE,
                action: Some(Action::Migrate),
                ..Command::NONE
            },
            Command {
                name: "snapshot",
                usage: "snapshot <subcommand>",
                short: "Manages etcd node snapshots",
                children: &[
                    Command {
                        name: "restore",
                        usage: "restore <filename> --data-dir {output dir} [options]",
                        short: "Restores an etcd member snapshot to an etcd directory",
                        flags: RESTORE,
                        action: Some(Action::SnapshotRestore),
                        ..Command::NONE
                    },
                    Command {
                        name: "status",
                        usage: "status <filename>",
                        short: "Gets backend snapshot status of a given file",
                        action: Some(Action::SnapshotStatus),
                        ..Command::NONE
                    },
                ],
                ..Command::NONE
            },
            Command {
                name: "version",
                usage: "version",
                short: "Prints the version of etcdutl",
                action: Some(Action::Version),
                ..Command::NONE
            },
        ],
        ..Command::NONE
    },
    groups: &[],
    hint: "",
    describes: false,
    lists_global: true,
    repeats_errors: true,
};

const GLOBAL: &[Flag] = &[
    Flag::new(
        "timeout",
        Kind::Duration,
        "10s",
        "time to wait to obtain a file lock on db file, 0 to block indefinitely",
    ),
    Flag::text(
        "write-out",
        "simple",
        "set the output format (fields, json, protobuf, simple, table)",
    )
    .short('w'),
];

const MIGRATE: &[Flag] = &[
    Flag::text("data-dir", "", "Path to the etcd data dir"),
    Flag::switch(
        "force",
        "Ignore migration failure and forcefully override storage version. Not recommended.",
    ),
    Flag::text(
        "target-version",
        "",
        "Target etcd version to migrate contents of data dir. Minimal value 3.5. Format \"X.Y\" for example 3.6.",
    ),
    Flag::text(
        "to-etcd",
        "",
        "Kvorum only: turn a data dir of Kvorum into one of the official server of this version (3.4 to 3.7).",
    ),
    Flag::text(
        "wal-dir",
        "",
        "Kvorum only, with --to-etcd: where the log lies, if not in the data dir",
    ),
];

const RESTORE: &[Flag] = &[
    Flag::new(
        "bump-revision",
        Kind::Uint,
        "0",
        "How much to increase the latest revision after restore",
    ),
    Flag::text("data-dir", "", "Path to the output data directory"),
    Flag::text(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "List of this member's peer URLs to advertise to the rest of the cluster",
    ),
    Flag::text(
        "initial-cluster",
        "default=http://localhost:2380",
        "Initial cluster configuration for restore bootstrap",
    ),
    Flag::text(
        "initial-cluster-token",
        "etcd-cluster",
        "Initial cluster token for the etcd cluster during restore bootstrap",
    ),
    Flag::new(
        "initial-memory-map-size",
        Kind::Uint,
        "10737418240",
        "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0",
    ),
    Flag::switch(
        "mark-compacted",
        "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)",
    ),
    Flag::text("name", "default", "Human-readable name for this member"),
    Flag::switch(
        "skip-hash-check",
        "Ignore snapshot integrity hash value (required if copied from data directory)",
    ),
    Flag::text(
        "wal-dir",
        "",
        "Path to the WAL directory (use --data-dir if none given)",
    ),
];
