//! The table of commands and flags: names, help texts, defaults.
//!
//! Help, parsing and the environment are read from here and nowhere else. Commands stand in the
//! order of their names, as help shows them.
//!
//! Source: v3.7.1 `etcdctl/ctlv3`.

mod authentication;
mod concurrency;
mod keys;
mod maintenance;
mod utility;

use kvorum_cli::{Command, Flag, Kind, Tool};

const KEYS: &str = "Key-value commands";
const MAINTENANCE: &str = "Cluster maintenance commands";
const CONCURRENCY: &str = "Concurrency commands";
const AUTHENTICATION: &str = "Authentication commands";
const UTILITY: &str = "Utility commands";

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    AlarmDisarm,
    AlarmList,
    AuthDisable,
    AuthEnable,
    AuthStatus,
    CheckDatascale,
    CheckPerf,
    Compaction,
    Completion,
    Defrag,
    Del,
    DowngradeCancel,
    DowngradeEnable,
    DowngradeValidate,
    Elect,
    EndpointHashkv,
    EndpointHealth,
    EndpointStatus,
    Get,
    Help,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseRevoke,
    LeaseTimetolive,
    Lock,
    MakeMirror,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
    MoveLeader,
    Options,
    Put,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleGrantPermission,
    RoleList,
    RoleRevokePermission,
    SnapshotSave,
    Txn,
    UserAdd,
    UserDelete,
    UserGet,
    UserGrantRole,
    UserList,
    UserPasswd,
    UserRevokeRole,
    Version,
    Watch,
}

/// A command without commands below it.
const fn leaf(
    name: &'static str,
    usage: &'static str,
    short: &'static str,
    action: Action,
) -> Command<Action> {
    Command {
        name,
        usage,
        short,
        action: Some(action),
        ..Command::NONE
    }
}

/// The tool.
pub(crate) static TOOL: Tool<Action> = Tool {
    root: Command {
        name: "etcdctl",
        usage: "etcdctl",
        short: "A simple command line client for etcd3.",
        persistent: GLOBAL,
        children: &[
            maintenance::ALARM,
            authentication::AUTH,
            utility::CHECK,
            keys::COMPACTION,
            utility::COMPLETION,
            maintenance::DEFRAG,
            keys::DEL,
            maintenance::DOWNGRADE,
            concurrency::ELECT,
            maintenance::ENDPOINT,
            keys::GET,
            utility::HELP,
            keys::LEASE,
            concurrency::LOCK,
            utility::MAKE_MIRROR,
            maintenance::MEMBER,
            maintenance::MOVE_LEADER,
            utility::OPTIONS,
            keys::PUT,
            authentication::ROLE,
            maintenance::SNAPSHOT,
            keys::TXN,
            authentication::USER,
            utility::VERSION,
            keys::WATCH,
        ],
        ..Command::NONE
    },
    groups: &[KEYS, MAINTENANCE, CONCURRENCY, AUTHENTICATION, UTILITY],
    hint: "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n",
    describes: true,
    lists_global: false,
    repeats_errors: false,
};

/// Flags of every command. Their help is shown by `options` alone.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::text(
        "auth-jwt-token",
        "",
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    ),
    Flag::text(
        "cacert",
        "",
        "verify certificates of TLS-enabled secure servers using this CA bundle",
    ),
    Flag::text(
        "cert",
        "",
        "identify secure client using this TLS certificate file",
    ),
    Flag::new(
        "command-timeout",
        Kind::Duration,
        "5s",
        "timeout for short running command (excluding dial timeout)",
    ),
    Flag::switch("debug", "enable client-side debug logging"),
    Flag::new(
        "dial-timeout",
        Kind::Duration,
        "2s",
        "dial timeout for client connections",
    ),
    Flag::text(
        "discovery-srv",
        "",
        "domain name to query for SRV records describing cluster endpoints",
    )
    .short('d'),
    Flag::text(
        "discovery-srv-name",
        "",
        "service name to query when using DNS discovery",
    ),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "gRPC endpoints"),
    Flag::switch("hex", "print byte strings as hex encoded strings"),
    Flag::new(
        "insecure-discovery",
        Kind::Bool,
        "true",
        "accept insecure SRV records describing cluster endpoints",
    ),
    Flag::switch(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag::new(
        "insecure-transport",
        Kind::Bool,
        "true",
        "disable transport security for client connections",
    ),
    Flag::new(
        "keepalive-time",
        Kind::Duration,
        "2s",
        "keepalive time for client connections",
    ),
    Flag::new(
        "keepalive-timeout",
        Kind::Duration,
        "6s",
        "keepalive timeout for client connections",
    ),
    Flag::text("key", "", "identify secure client using this TLS key file"),
    Flag::int(
        "max-recv-bytes",
        "0",
        "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")",
    ),
    Flag::int(
        "max-request-bytes",
        "0",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    ),
    Flag::text(
        "password",
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::text(
        "user",
        "",
        "username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::text(
        "write-out",
        "simple",
        "set the output format (fields, json, protobuf, simple, table)",
    )
    .short('w')
    .choices(&["fields", "json", "protobuf", "simple", "table"]),
];

#[cfg(test)]
mod tests {
    use kvorum_cli::line::{Value, find};

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// What a line calls: the command, its arguments, and one flag's value.
    fn check(text: &str, command: &str, arguments: &str, flag: &str, value: &Value) {
        let found = find(&TOOL, &words(text)).expect(text);
        assert_eq!(found.command.name, command, "{text}");
        let line = found.parse().expect(text);
        assert_eq!(line.arguments, words(arguments), "{text}");
        assert_eq!(line.value(flag), *value, "{text}");
    }

    #[test]
    fn flags_stand_anywhere_and_in_every_form() {
        let json = Value::Text("json".to_owned());
        for text in [
            "get k -w json",
            "get -w json k",
            "-w json get k",
            "get -wjson k",
            "get -w=json k",
            "get --write-out=json k",
            "--write-out json ge k",
        ] {
            check(text, "get", "k", "write-out", &json);
        }
        check(
            "put -- -k -v",
            "put",
            "-k -v",
            "prev-kv",
            &Value::Bool(false),
        );
        check(
            "get k --prefix=false",
            "get",
            "k",
            "prefix",
            &Value::Bool(false),
        );
        check(
            "lease timeto 1 --keys",
            "timetolive",
            "1",
            "keys",
            &Value::Bool(true),
        );
        let both = Value::List(words("a:1 b:2 c:3"));
        check(
            "--endpoints a:1,b:2 get --endpoints=c:3 k",
            "get",
            "k",
            "endpoints",
            &both,
        );
        check("get --limit 0x10 k", "get", "k", "limit", &Value::Int(16));
    }

    #[test]
    fn an_unknown_command_is_refused_with_suggestions() {
        let refused = |text: &str| {
            find(&TOOL, &words(text))
                .err()
                .map(|failure| format!("{failure:?}"))
        };
        assert!(refused("gett").is_some_and(|text| text.contains(r"Did you mean this?\n\tget\n")));
        assert!(refused("nonsense").is_some_and(|text| !text.contains("Did you mean")));
        // Two commands begin with it.
        assert!(refused("l").is_some());
        assert!(refused("pu").is_none());
    }
}
