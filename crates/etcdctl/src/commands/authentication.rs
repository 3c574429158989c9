//! Users, roles and permissions.

use kvorum_cli::{Command, Flag, Kind};

use super::{AUTHENTICATION, Action, leaf};

pub(super) const AUTH: Command<Action> = Command {
    name: "auth",
    usage: "auth <enable or disable>",
    short: "Enable or disable authentication. Use `etcdctl auth --help` to see subcommands",
    long: "Enable or disable authentication",
    group: AUTHENTICATION,
    children: &[
        leaf(
            "disable",
            "disable",
            "Disables authentication",
            Action::AuthDisable,
        ),
        leaf(
            "enable",
            "enable",
            "Enables authentication",
            Action::AuthEnable,
        ),
        leaf(
            "status",
            "status",
            "Returns authentication status",
            Action::AuthStatus,
        ),
    ],
    ..Command::NONE
};

pub(super) const ROLE: Command<Action> = Command {
    name: "role",
    usage: "role <subcommand>",
    short: "Role related commands. Use `etcdctl role --help` to see subcommands",
    long: "Role related commands",
    group: AUTHENTICATION,
    children: &[
        leaf("add", "add <role name>", "Adds a new role", Action::RoleAdd),
        leaf(
            "delete",
            "delete <role name>",
            "Deletes a role",
            Action::RoleDelete,
        ),
        leaf(
            "get",
            "get <role name>",
            "Gets detailed information of a role",
            Action::RoleGet,
        ),
        Command {
            flags: &[
                Flag::switch(
                    "from-key",
                    "grant a permission of keys that are greater than or equal to the given key using byte compare",
                ),
                Flag::switch("prefix", "grant a prefix permission"),
            ],
            ..leaf(
                "grant-permission",
                "grant-permission [options] <role name> <permission type> <key> [endkey]",
                "Grants a key to a role",
                Action::RoleGrantPermission,
            )
        },
        leaf("list", "list", "Lists all roles", Action::RoleList),
        Command {
            flags: &[
                Flag::switch(
                    "from-key",
                    "revoke a permission of keys that are greater than or equal to the given key using byte compare",
                ),
                Flag::switch("prefix", "revoke a prefix permission"),
            ],
            ..leaf(
                "revoke-permission",
                "revoke-permission <role name> <key> [endkey]",
                "Revokes a key from a role",
                Action::RoleRevokePermission,
            )
        },
    ],
    ..Command::NONE
};

pub(super) const USER: Command<Action> = Command {
    name: "user",
    usage: "user <subcommand>",
    short: "User related commands. Use `etcdctl user --help` to see subcommands",
    long: "User related commands",
    group: AUTHENTICATION,
    children: &[
        Command {
            flags: &[
                Flag::new(
                    "interactive",
                    Kind::Bool,
                    "true",
                    "Read password from stdin instead of interactive terminal",
                ),
                Flag::text(
                    "new-user-password",
                    "",
                    "Supply password from the command line flag",
                ),
                Flag::switch(
                    "no-password",
                    "Create a user without password (CN based auth only)",
                ),
            ],
            ..leaf(
                "add",
                "add <user name or user:password> [options]",
                "Adds a new user",
                Action::UserAdd,
            )
        },
        leaf(
            "delete",
            "delete <user name>",
            "Deletes a user",
            Action::UserDelete,
        ),
        Command {
            flags: &[Flag::switch(
                "detail",
                "Show permissions of roles granted to the user",
            )],
            ..leaf(
                "get",
                "get <user name> [options]",
                "Gets detailed information of a user",
                Action::UserGet,
            )
        },
        leaf(
            "grant-role",
            "grant-role <user name> <role name>",
            "Grants a role to a user",
            Action::UserGrantRole,
        ),
        leaf("list", "list", "Lists all users", Action::UserList),
        Command {
            flags: &[Flag::new(
                "interactive",
                Kind::Bool,
                "true",
                "If true, read password from stdin instead of interactive terminal",
            )],
            ..leaf(
                "passwd",
                "passwd <user name> [options]",
                "Changes password of user",
                Action::UserPasswd,
            )
        },
        leaf(
            "revoke-role",
            "revoke-role <user name> <role name>",
            "Revokes a role from a user",
            Action::UserRevokeRole,
        ),
    ],
    ..Command::NONE
};
