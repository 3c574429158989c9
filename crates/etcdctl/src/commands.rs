//! The table of commands and flags: names, help texts, defaults.
//!
//! Help, parsing and the environment are read from here and nowhere else. Commands stand in the
//! order of their names, as help shows them.
//!
//! Source: v3.7.1 `etcdctl/ctlv3`.

/// A command, its flags and its subcommands.
pub(crate) struct Command {
    /// The word that calls it.
    pub(crate) name: &'static str,
    /// Name and arguments as help shows them.
    pub(crate) usage: &'static str,
    /// One line.
    pub(crate) short: &'static str,
    /// The text of its own help, empty if the line says all.
    pub(crate) long: &'static str,
    pub(crate) group: Group,
    /// Flags of this command alone.
    pub(crate) flags: &'static [Flag],
    /// Flags of this command and those below it.
    pub(crate) persistent: &'static [Flag],
    pub(crate) children: &'static [Command],
    /// What it does; a command without it shows its help.
    pub(crate) action: Option<Action>,
}

/// Under which heading help shows a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    None,
    Keys,
    Maintenance,
    Concurrency,
    Utility,
}

/// The headings, in the order of help.
pub(crate) const GROUPS: [(Group, &str); 4] = [
    (Group::Keys, "Key-value commands"),
    (Group::Maintenance, "Cluster maintenance commands"),
    (Group::Concurrency, "Concurrency commands"),
    (Group::Utility, "Utility commands"),
];

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

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` and `=false`.
    Bool,
    Text,
    /// Texts separated by commas; given twice, both count.
    List,
    /// A number of 64 bits.
    Int,
    /// A duration like `5s`.
    Duration,
}

/// A flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) usage: &'static str,
}

impl Flag {
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        usage: &'static str,
    ) -> Self {
        Self {
            name,
            short: None,
            kind,
            default,
            usage,
        }
    }

    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
}

/// `etcdctl` itself, with the flags that every command takes.
pub(crate) static ROOT: Command = Command {
    name: "etcdctl",
    usage: "etcdctl",
    short: "A simple command line client for etcd3.",
    long: "",
    group: Group::None,
    flags: &[],
    persistent: GLOBAL,
    children: &[
        Command {
            name: "alarm",
            usage: "alarm <subcommand>",
            short: "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
            long: "Alarm related commands",
            group: Group::Maintenance,
            flags: &[],
            persistent: &[],
            children: &[
                Command {
                    name: "disarm",
                    usage: "disarm",
                    short: "Disarms all alarms",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::AlarmDisarm),
                },
                Command {
                    name: "list",
                    usage: "list",
                    short: "Lists all alarms",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::AlarmList),
                },
            ],
            action: None,
        },
        Command {
            name: "compaction",
            usage: "compaction [options] <revision>",
            short: "Compacts the event history in etcd",
            long: "",
            group: Group::Keys,
            flags: &[Flag::new(
                "physical",
                Kind::Bool,
                "false",
                "'true' to wait for compaction to physically remove all old revisions",
            )],
            persistent: &[],
            children: &[],
            action: Some(Action::Compaction),
        },
        Command {
            name: "defrag",
            usage: "defrag",
            short: "Defragments the storage of the etcd members with given endpoints",
            long: "",
            group: Group::Maintenance,
            flags: &[],
            persistent: &[Flag::new(
                "cluster",
                Kind::Bool,
                "false",
                "use all endpoints from the cluster member list",
            )],
            children: &[],
            action: Some(Action::Defrag),
        },
        Command {
            name: "del",
            usage: "del [options] <key> [range_end]",
            short: "Removes the specified key or range of keys [key, range_end)",
            long: "",
            group: Group::Keys,
            flags: &[
                Flag::new(
                    "from-key",
                    Kind::Bool,
                    "false",
                    "delete keys that are greater than or equal to the given key using byte compare",
                ),
                Flag::new(
                    "prefix",
                    Kind::Bool,
                    "false",
                    "delete keys with matching prefix",
                ),
                Flag::new(
                    "prev-kv",
                    Kind::Bool,
                    "false",
                    "return deleted key-value pairs",
                ),
                Flag::new("range", Kind::Bool, "false", "delete range of keys"),
            ],
            persistent: &[],
            children: &[],
            action: Some(Action::Del),
        },
        Command {
            name: "elect",
            usage: "elect <election-name> [proposal]",
            short: "Observes and participates in leader election",
            long: "",
            group: Group::Concurrency,
            flags: &[Flag::new("listen", Kind::Bool, "false", "observation mode").short('l')],
            persistent: &[],
            children: &[],
            action: Some(Action::Elect),
        },
        Command {
            name: "endpoint",
            usage: "endpoint <subcommand>",
            short: "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
            long: "Endpoint related commands",
            group: Group::Maintenance,
            flags: &[],
            persistent: &[Flag::new(
                "cluster",
                Kind::Bool,
                "false",
                "use all endpoints from the cluster member list",
            )],
            children: &[
                Command {
                    name: "hashkv",
                    usage: "hashkv",
                    short: "Prints the KV history hash for each endpoint in --endpoints",
                    long: "",
                    group: Group::None,
                    flags: &[Flag::new(
                        "rev",
                        Kind::Int,
                        "0",
                        "maximum revision to hash (default: latest revision)",
                    )],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::EndpointHashkv),
                },
                Command {
                    name: "health",
                    usage: "health",
                    short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::EndpointHealth),
                },
                Command {
                    name: "status",
                    usage: "status",
                    short: "Prints out the status of endpoints specified in `--endpoints` flag",
                    long: r#"When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors."#,
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::EndpointStatus),
                },
            ],
            action: None,
        },
        Command {
            name: "get",
            usage: "get [options] <key> [range_end]",
            short: "Gets the key or a range of keys",
            long: "",
            group: Group::Keys,
            flags: &[
                Flag::new(
                    "consistency",
                    Kind::Text,
                    "l",
                    "Linearizable(l) or Serializable(s)",
                ),
                Flag::new("count-only", Kind::Bool, "false", "Get only the count"),
                Flag::new(
                    "from-key",
                    Kind::Bool,
                    "false",
                    "Get keys that are greater than or equal to the given key using byte compare",
                ),
                Flag::new("keys-only", Kind::Bool, "false", "Get only the keys"),
                Flag::new("limit", Kind::Int, "0", "Maximum number of results"),
                Flag::new("max-create-rev", Kind::Int, "0", "Maximum create revision"),
                Flag::new(
                    "max-mod-rev",
                    Kind::Int,
                    "0",
                    "Maximum modification revision",
                ),
                Flag::new("min-create-rev", Kind::Int, "0", "Minimum create revision"),
                Flag::new(
                    "min-mod-rev",
                    Kind::Int,
                    "0",
                    "Minimum modification revision",
                ),
                Flag::new(
                    "order",
                    Kind::Text,
                    "",
                    "Order of results; ASCEND or DESCEND (ASCEND by default)",
                ),
                Flag::new(
                    "prefix",
                    Kind::Bool,
                    "false",
                    "Get keys with matching prefix",
                ),
                Flag::new(
                    "print-value-only",
                    Kind::Bool,
                    "false",
                    "Only write values when using the \"simple\" output format",
                ),
                Flag::new("rev", Kind::Int, "0", "Specify the kv revision"),
                Flag::new(
                    "sort-by",
                    Kind::Text,
                    "",
                    "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION",
                ),
                Flag::new("stream", Kind::Bool, "false", "Use the RangeStream RPC"),
            ],
            persistent: &[],
            children: &[],
            action: Some(Action::Get),
        },
        Command {
            name: "help",
            usage: "help [command]",
            short: "Help about any command",
            long: r#"Help provides help for any command in the application.
Simply type etcdctl help [path to command] for full details."#,
            group: Group::Utility,
            flags: &[],
            persistent: &[],
            children: &[],
            action: Some(Action::Help),
        },
        Command {
            name: "lease",
            usage: "lease <subcommand>",
            short: "Lease related commands. Use `etcdctl lease --help` to see subcommands",
            long: "Lease related commands",
            group: Group::Keys,
            flags: &[],
            persistent: &[],
            children: &[
                Command {
                    name: "grant",
                    usage: "grant <ttl>",
                    short: "Creates leases",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::LeaseGrant),
                },
                Command {
                    name: "keep-alive",
                    usage: "keep-alive [options] <leaseID>",
                    short: "Keeps leases alive (renew)",
                    long: "",
                    group: Group::None,
                    flags: &[Flag::new(
                        "once",
                        Kind::Bool,
                        "false",
                        "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
                    )],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::LeaseKeepAlive),
                },
                Command {
                    name: "list",
                    usage: "list",
                    short: "List all active leases",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::LeaseList),
                },
                Command {
                    name: "revoke",
                    usage: "revoke <leaseID>",
                    short: "Revokes leases",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::LeaseRevoke),
                },
                Command {
                    name: "timetolive",
                    usage: "timetolive <leaseID> [options]",
                    short: "Get lease information",
                    long: "",
                    group: Group::None,
                    flags: &[Flag::new(
                        "keys",
                        Kind::Bool,
                        "false",
                        "Get keys attached to this lease",
                    )],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::LeaseTimetolive),
                },
            ],
            action: None,
        },
        Command {
            name: "lock",
            usage: "lock <lockname> [exec-command arg1 arg2 ...]",
            short: "Acquires a named lock",
            long: "",
            group: Group::Concurrency,
            flags: &[Flag::new("ttl", Kind::Int, "10", "timeout for session")],
            persistent: &[],
            children: &[],
            action: Some(Action::Lock),
        },
        Command {
            name: "member",
            usage: "member <subcommand>",
            short: "Membership related commands. Use `etcdctl member --help` to see subcommands",
            long: "Membership related commands",
            group: Group::Maintenance,
            flags: &[],
            persistent: &[],
            children: &[
                Command {
                    name: "add",
                    usage: "add <memberName> [options]",
                    short: "Adds a member into the cluster",
                    long: "",
                    group: Group::None,
                    flags: &[
                        Flag::new(
                            "learner",
                            Kind::Bool,
                            "false",
                            "indicates if the new member is raft learner",
                        ),
                        Flag::new(
                            "peer-urls",
                            Kind::Text,
                            "",
                            "comma separated peer URLs for the new member.",
                        ),
                    ],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::MemberAdd),
                },
                Command {
                    name: "list",
                    usage: "list",
                    short: "Lists all members in the cluster",
                    long: r#"When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner."#,
                    group: Group::None,
                    flags: &[Flag::new(
                        "consistency",
                        Kind::Text,
                        "l",
                        "Linearizable(l) or Serializable(s)",
                    )],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::MemberList),
                },
                Command {
                    name: "promote",
                    usage: "promote <memberID>",
                    short: "Promotes a non-voting member in the cluster",
                    long: "Promotes a non-voting learner member to a voting one in the cluster.",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::MemberPromote),
                },
                Command {
                    name: "remove",
                    usage: "remove <memberID>",
                    short: "Removes a member from the cluster",
                    long: "",
                    group: Group::None,
                    flags: &[],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::MemberRemove),
                },
                Command {
                    name: "update",
                    usage: "update <memberID> [options]",
                    short: "Updates a member in the cluster",
                    long: "",
                    group: Group::None,
                    flags: &[Flag::new(
                        "peer-urls",
                        Kind::Text,
                        "",
                        "comma separated peer URLs for the updated member.",
                    )],
                    persistent: &[],
                    children: &[],
                    action: Some(Action::MemberUpdate),
                },
            ],
            action: None,
        },
        Command {
            name: "move-leader",
            usage: "move-leader <transferee-member-id>",
            short: "Transfers leadership to another etcd cluster member.",
            long: "",
            group: Group::Maintenance,
            flags: &[],
            persistent: &[],
            children: &[],
            action: Some(Action::MoveLeader),
        },
        Command {
            name: "options",
            usage: "options",
            short: "Show the global command-line flags",
            long: "",
            group: Group::Utility,
            flags: &[],
            persistent: &[],
            children: &[],
            action: Some(Action::Options),
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
            group: Group::Keys,
            flags: &[
                Flag::new(
                    "ignore-lease",
                    Kind::Bool,
                    "false",
                    "updates the key using its current lease",
                ),
                Flag::new(
                    "ignore-value",
                    Kind::Bool,
                    "false",
                    "updates the key using its current value",
                ),
                Flag::new(
                    "lease",
                    Kind::Text,
                    "0",
                    "lease ID (in hexadecimal) to attach to the key",
                ),
                Flag::new(
                    "prev-kv",
                    Kind::Bool,
                    "false",
                    "return the previous key-value pair before modification",
                ),
            ],
            persistent: &[],
            children: &[],
            action: Some(Action::Put),
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
            group: Group::Keys,
            flags: &[Flag::new(
                "interactive",
                Kind::Bool,
                "false",
                "Input transaction in interactive mode",
            )
            .short('i')],
            persistent: &[],
            children: &[],
            action: Some(Action::Txn),
        },
        Command {
            name: "version",
            usage: "version",
            short: "Prints the version of etcdctl",
            long: "",
            group: Group::Utility,
            flags: &[],
            persistent: &[],
            children: &[],
            action: Some(Action::Version),
        },
        Command {
            name: "watch",
            usage: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
            short: "Watches events stream on keys or prefixes",
            long: "",
            group: Group::Keys,
            flags: &[
                Flag::new("interactive", Kind::Bool, "false", "Interactive mode").short('i'),
                Flag::new(
                    "prefix",
                    Kind::Bool,
                    "false",
                    "Watch on a prefix if prefix is set",
                ),
                Flag::new(
                    "prev-kv",
                    Kind::Bool,
                    "false",
                    "get the previous key-value pair before the event happens",
                ),
                Flag::new(
                    "progress-notify",
                    Kind::Bool,
                    "false",
                    "get periodic watch progress notification from server",
                ),
                Flag::new("rev", Kind::Int, "0", "Revision to start watching"),
            ],
            persistent: &[],
            children: &[],
            action: Some(Action::Watch),
        },
    ],
    action: None,
};

/// Flags of every command. Their help is shown by `options` alone.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::new(
        "auth-jwt-token",
        Kind::Text,
        "",
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    ),
    Flag::new(
        "cacert",
        Kind::Text,
        "",
        "verify certificates of TLS-enabled secure servers using this CA bundle",
    ),
    Flag::new(
        "cert",
        Kind::Text,
        "",
        "identify secure client using this TLS certificate file",
    ),
    Flag::new(
        "command-timeout",
        Kind::Duration,
        "5s",
        "timeout for short running command (excluding dial timeout)",
    ),
    Flag::new(
        "debug",
        Kind::Bool,
        "false",
        "enable client-side debug logging",
    ),
    Flag::new(
        "dial-timeout",
        Kind::Duration,
        "2s",
        "dial timeout for client connections",
    ),
    Flag::new(
        "discovery-srv",
        Kind::Text,
        "",
        "domain name to query for SRV records describing cluster endpoints",
    )
    .short('d'),
    Flag::new(
        "discovery-srv-name",
        Kind::Text,
        "",
        "service name to query when using DNS discovery",
    ),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "gRPC endpoints"),
    Flag::new(
        "hex",
        Kind::Bool,
        "false",
        "print byte strings as hex encoded strings",
    ),
    Flag::new(
        "insecure-discovery",
        Kind::Bool,
        "true",
        "accept insecure SRV records describing cluster endpoints",
    ),
    Flag::new(
        "insecure-skip-tls-verify",
        Kind::Bool,
        "false",
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
    Flag::new(
        "key",
        Kind::Text,
        "",
        "identify secure client using this TLS key file",
    ),
    Flag::new(
        "max-recv-bytes",
        Kind::Int,
        "0",
        "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")",
    ),
    Flag::new(
        "max-request-bytes",
        Kind::Int,
        "0",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    ),
    Flag::new(
        "password",
        Kind::Text,
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::new(
        "user",
        Kind::Text,
        "",
        "username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::new(
        "write-out",
        Kind::Text,
        "simple",
        "set the output format (fields, json, protobuf, simple, table)",
    )
    .short('w'),
];
