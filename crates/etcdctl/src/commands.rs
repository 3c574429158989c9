//! The table of commands and flags: names, help texts, defaults.
//!
//! Help, parsing and the environment are read from here and nowhere else. Commands stand in the
//! order of their names, as help shows them.
//!
//! Source: v3.7.1 `etcdctl/ctlv3`.

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
    Compaction,
    Defrag,
    Del,
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
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
    MoveLeader,
    Options,
    Put,
    Txn,
    Version,
    Watch,
}

/// The tool.
pub(crate) static TOOL: Tool<Action> = Tool {
    root: Command {
        name: "etcdctl",
        usage: "etcdctl",
        short: "A simple command line client for etcd3.",
        persistent: GLOBAL,
        children: &[
            Command {
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
            },
            Command {
                name: "compaction",
                usage: "compaction [options] <revision>",
                short: "Compacts the event history in etcd",
                group: KEYS,
                flags: &[Flag::switch(
                    "physical",
                    "'true' to wait for compaction to physically remove all old revisions",
                )],
                action: Some(Action::Compaction),
                ..Command::NONE
            },
            Command {
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
            },
            Command {
                name: "del",
                usage: "del [options] <key> [range_end]",
                short: "Removes the specified key or range of keys [key, range_end)",
                group: KEYS,
                flags: &[
                    Flag::switch(
                        "from-key",
                        "delete keys that are greater than or equal to the given key using byte compare",
                    ),
                    Flag::switch("prefix", "delete keys with matching prefix"),
                    Flag::switch("prev-kv", "return deleted key-value pairs"),
                    Flag::switch("range", "delete range of keys"),
                ],
                action: Some(Action::Del),
                ..Command::NONE
            },
            Command {
                name: "elect",
                usage: "elect <election-name> [proposal]",
                short: "Observes and participates in leader election",
                group: CONCURRENCY,
                flags: &[Flag::switch("listen", "observation mode").short('l')],
                action: Some(Action::Elect),
                ..Command::NONE
            },
            Command {
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
            },
            Command {
                name: "get",
                usage: "get [options] <key> [range_end]",
                short: "Gets the key or a range of keys",
                group: KEYS,
                flags: &[
                    Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)"),
                    Flag::switch("count-only", "Get only the count"),
                    Flag::switch(
                        "from-key",
                        "Get keys that are greater than or equal to the given key using byte compare",
                    ),
                    Flag::switch("keys-only", "Get only the keys"),
                    Flag::int("limit", "0", "Maximum number of results"),
                    Flag::int("max-create-rev", "0", "Maximum create revision"),
                    Flag::int("max-mod-rev", "0", "Maximum modification revision"),
                    Flag::int("min-create-rev", "0", "Minimum create revision"),
                    Flag::int("min-mod-rev", "0", "Minimum modification revision"),
                    Flag::text(
                        "order",
                        "",
                        "Order of results; ASCEND or DESCEND (ASCEND by default)",
                    ),
                    Flag::switch("prefix", "Get keys with matching prefix"),
                    Flag::switch(
                        "print-value-only",
                        "Only write values when using the \"simple\" output format",
                    ),
                    Flag::int("rev", "0", "Specify the kv revision"),
                    Flag::text(
                        "sort-by",
                        "",
                        "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION",
                    ),
                    Flag::switch("stream", "Use the RangeStream RPC"),
                ],
                action: Some(Action::Get),
                ..Command::NONE
            },
            Command {
                name: "help",
                usage: "help [command]",
                short: "Help about any command",
                long: r#"Help provides help for any command in the application.
Simply type etcdctl help [path to command] for full details."#,
                group: UTILITY,
                action: Some(Action::Help),
                ..Command::NONE
            },
            Command {
                name: "lease",
                usage: "lease <subcommand>",
                short: "Lease related commands. Use `etcdctl lease --help` to see subcommands",
                long: "Lease related commands",
                group: KEYS,
                children: &[
                    Command {
                        name: "grant",
                        usage: "grant <ttl>",
                        short: "Creates leases",
                        action: Some(Action::LeaseGrant),
                        ..Command::NONE
                    },
                    Command {
                        name: "keep-alive",
                        usage: "keep-alive [options] <leaseID>",
                        short: "Keeps leases alive (renew)",
                        flags: &[Flag::switch(
                            "once",
                            "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
                        )],
                        action: Some(Action::LeaseKeepAlive),
                        ..Command::NONE
                    },
                    Command {
                        name: "list",
                        usage: "list",
                        short: "List all active leases",
                        action: Some(Action::LeaseList),
                        ..Command::NONE
                    },
                    Command {
                        name: "revoke",
                        usage: "revoke <leaseID>",
                        short: "Revokes leases",
                        action: Some(Action::LeaseRevoke),
                        ..Command::NONE
                    },
                    Command {
                        name: "timetolive",
                        usage: "timetolive <leaseID> [options]",
                        short: "Get lease information",
                        flags: &[Flag::switch("keys", "Get keys attached to this lease")],
                        action: Some(Action::LeaseTimetolive),
                        ..Command::NONE
                    },
                ],
                ..Command::NONE
            },
            Command {
                name: "lock",
                usage: "lock <lockname> [exec-command arg1 arg2 ...]",
                short: "Acquires a named lock",
                group: CONCURRENCY,
                flags: &[Flag::int("ttl", "10", "timeout for session")],
                action: Some(Action::Lock),
                ..Command::NONE
            },
            Command {
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
            },
            Command {
                name: "move-leader",
                usage: "move-leader <transferee-member-id>",
                short: "Transfers leadership to another etcd cluster member.",
                group: MAINTENANCE,
                action: Some(Action::MoveLeader),
                ..Command::NONE
            },
            Command {
                name: "options",
                usage: "options",
                short: "Show the global command-line flags",
                group: UTILITY,
                action: Some(Action::Options),
                ..Command::NONE
            },
            Command {
                name: "put",
                usage: "put [options] <key> <value> (<value> can also be given from stdin)",
                short: "Puts the given key into the store",
                long: r#"
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>."#,
                group: KEYS,
                flags: &[
                    Flag::switch("ignore-lease", "updates the key using its current lease"),
                    Flag::switch("ignore-value", "updates the key using its current value"),
                    Flag::text(
                        "lease",
                        "0",
                        "lease ID (in hexadecimal) to attach to the key",
                    ),
                    Flag::switch(
                        "prev-kv",
                        "return the previous key-value pair before modification",
                    ),
                ],
                action: Some(Action::Put),
                ..Command::NONE
            },
            Command {
                name: "txn",
                usage: "txn [options]",
                short: "Txn processes all the requests in one transaction",
                long: r#"Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod("key1") > "0"

# success requests (get, put, delete):
put key1 "overwrote-key1"

# failure requests (get, put, delete):
put key1 "created-key1"
put key2 "some extra key"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options."#,
                group: KEYS,
                flags: &[
                    Flag::switch("interactive", "Input transaction in interactive mode").short('i'),
                ],
                action: Some(Action::Txn),
                ..Command::NONE
            },
            Command {
                name: "version",
                usage: "version",
                short: "Prints the version of etcdctl",
                group: UTILITY,
                action: Some(Action::Version),
                ..Command::NONE
            },
            Command {
                name: "watch",
                usage: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
                short: "Watches events stream on keys or prefixes",
                group: KEYS,
                flags: &[
                    Flag::switch("interactive", "Interactive mode").short('i'),
                    Flag::switch("prefix", "Watch on a prefix if prefix is set"),
                    Flag::switch(
                        "prev-kv",
                        "get the previous key-value pair before the event happens",
                    ),
                    Flag::switch(
                        "progress-notify",
                        "get periodic watch progress notification from server",
                    ),
                    Flag::int("rev", "0", "Revision to start watching"),
                ],
                action: Some(Action::Watch),
                ..Command::NONE
            },
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
    .short('w'),
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
