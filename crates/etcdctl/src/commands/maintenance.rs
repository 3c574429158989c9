//! Commands about members and their state.

use kvorum_cli::{Command, Flag};

use super::{Action, MAINTENANCE, leaf};

pub(super) const ALARM: Command<Action> = Command {
    name: "alarm",
    usage: "alarm <subcommand>",
    short: "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
    long: "Alarm related commands",
    group: MAINTENANCE,
    children: &[
        Command {
            name: "disarm",
            usage: "disarm",
            short: "Disarms all alarms",
            action: Some(Action::AlarmDisarm),
            ..Command::NONE
        },
        Command {
            name: "list",
            usage: "list",
            short: "Lists all alarms",
            action: Some(Action::AlarmList),
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

pub(super) const DEFRAG: Command<Action> = Command {
    name: "defrag",
    usage: "defrag",
    short: "Defragments the storage of the etcd members with given endpoints",
    group: MAINTENANCE,
    persistent: &[Flag::switch(
        "cluster",
        "use all endpoints from the cluster member list",
    )],
    action: Some(Action::Defrag),
    ..Command::NONE
};

pub(super) const DOWNGRADE: Command<Action> = Command {
    name: "downgrade",
    usage: "downgrade <TARGET_VERSION>",
    short: "Downgrade related commands. Use `etcdctl downgrade --help` to see subcommands",
    long: "Downgrade related commands",
    group: MAINTENANCE,
    children: &[
        leaf(
            "cancel",
            "cancel",
            "Cancel the ongoing downgrade action to cluster",
            Action::DowngradeCancel,
        ),
        leaf(
            "enable",
            "enable <TARGET_VERSION>",
            "Start a downgrade action to cluster",
            Action::DowngradeEnable,
        ),
        leaf(
            "validate",
            "validate <TARGET_VERSION>",
            "Validate downgrade capability before starting downgrade",
            Action::DowngradeValidate,
        ),
    ],
    ..Command::NONE
};

pub(super) const ENDPOINT: Command<Action> = Command {
    name: "endpoint",
    usage: "endpoint <subcommand>",
    short: "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
    long: "Endpoint related commands",
    group: MAINTENANCE,
    persistent: &[Flag::switch(
        "cluster",
        "use all endpoints from the cluster member list",
    )],
    children: &[
        Command {
            name: "hashkv",
            usage: "hashkv",
            short: "Prints the KV history hash for each endpoint in --endpoints",
            flags: &[Flag::int(
                "rev",
                "0",
                "maximum revision to hash (default: latest revision)",
            )],
            action: Some(Action::EndpointHashkv),
            ..Command::NONE
        },
        Command {
            name: "health",
            usage: "health",
            short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
            action: Some(Action::EndpointHealth),
            ..Command::NONE
        },
        Command {
            name: "status",
            usage: "status",
            short: "Prints out the status of endpoints specified in `--endpoints` flag",
            long: r#"When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors."#,
            action: Some(Action::EndpointStatus),
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

pub(super) const MEMBER: Command<Action> = Command {
    name: "member",
    usage: "member <subcommand>",
    short: "Membership related commands. Use `etcdctl member --help` to see subcommands",
    long: "Membership related commands",
    group: MAINTENANCE,
    children: &[
        Command {
            name: "add",
            usage: "add <memberName> [options]",
            short: "Adds a member into the cluster",
            flags: &[
                Flag::switch("learner", "indicates if the new member is raft learner"),
                Flag::text(
                    "peer-urls",
                    "",
                    "comma separated peer URLs for the new member.",
                ),
            ],
            action: Some(Action::MemberAdd),
            ..Command::NONE
        },
        Command {
            name: "list",
            usage: "list",
            short: "Lists all members in the cluster",
            long: r#"When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner."#,
            flags: &[Flag::text(
                "consistency",
                "l",
                "Linearizable(l) or Serializable(s)",
            )],
            action: Some(Action::MemberList),
            ..Command::NONE
        },
        Command {
            name: "promote",
            usage: "promote <memberID>",
            short: "Promotes a non-voting member in the cluster",
            long: "Promotes a non-voting learner member to a voting one in the cluster.",
            action: Some(Action::MemberPromote),
            ..Command::NONE
        },
        Command {
            name: "remove",
            usage: "remove <memberID>",
            short: "Removes a member from the cluster",
            action: Some(Action::MemberRemove),
            ..Command::NONE
        },
        Command {
            name: "update",
            usage: "update <memberID> [options]",
            short: "Updates a member in the cluster",
            flags: &[Flag::text(
                "peer-urls",
                "",
                "comma separated peer URLs for the updated member.",
            )],
            action: Some(Action::MemberUpdate),
            ..Command::NONE
        },
    ],
    ..Command::NONE
};

pub(super) const MOVE_LEADER: Command<Action> = Command {
    name: "move-leader",
    usage: "move-leader <transferee-member-id>",
    short: "Transfers leadership to another etcd cluster member.",
    group: MAINTENANCE,
    action: Some(Action::MoveLeader),
    ..Command::NONE
};

/// Shown by `snapshot` and `snapshot save`.
const SNAPSHOT_EXAMPLE: &str = r#"  # Save snapshot to a given file
  etcdctl snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address and save it to file
  etcdctl snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
  
  # Get snapshot from given address with certificates
  etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot with certain user and password
  etcdctl --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address with timeout
  etcdctl --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
  
  # Save snapshot with desirable time format
  etcdctl snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db"#;

pub(super) const SNAPSHOT: Command<Action> = Command {
    name: "snapshot",
    usage: "snapshot <subcommand>",
    short: "Manages etcd node snapshots",
    example: SNAPSHOT_EXAMPLE,
    group: MAINTENANCE,
    children: &[Command {
        example: SNAPSHOT_EXAMPLE,
        ..leaf(
            "save",
            "save <filename>",
            "Stores an etcd node backend snapshot to a given file",
            Action::SnapshotSave,
        )
    }],
    ..Command::NONE
};
