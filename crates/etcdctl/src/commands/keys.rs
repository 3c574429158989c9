//! Commands about keys and leases.

use kvorum_cli::{Command, Flag};

use super::{Action, KEYS};

pub(super) const COMPACTION: Command<Action> = Command {
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
};

pub(super) const DEL: Command<Action> = Command {
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
};

pub(super) const GET: Command<Action> = Command {
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
};

pub(super) const LEASE: Command<Action> = Command {
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
};

pub(super) const PUT: Command<Action> = Command {
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
};

pub(super) const TXN: Command<Action> = Command {
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
    flags: &[Flag::switch("interactive", "Input transaction in interactive mode").short('i')],
    action: Some(Action::Txn),
    ..Command::NONE
};

pub(super) const WATCH: Command<Action> = Command {
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
};
