//! Commands about the tool itself, and larger tasks.

use kvorum_cli::{Command, Flag, Kind};

use super::{Action, UTILITY, leaf};

pub(super) const CHECK: Command<Action> = Command {
    name: "check",
    usage: "check <subcommand>",
    short: "commands for checking properties of the etcd cluster. Use `etcdctl check --help` to see subcommands",
    long: "commands for checking properties of the etcd cluster",
    group: UTILITY,
    children: &[
        Command {
            long: "If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.",
            flags: &[
                AUTO_COMPACT,
                AUTO_DEFRAG,
                Flag::text(
                    "load",
                    "s",
                    "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
                ).choices(&["small", "medium", "large", "xLarge"]),
                Flag::text(
                    "prefix",
                    "/etcdctl-check-datascale/",
                    "The prefix for writing the datascale check's keys.",
                ),
            ],
            ..leaf(
                "datascale",
                "datascale [options]",
                "Check the memory usage of holding data for different workloads on a given server endpoint.",
                Action::CheckDatascale,
            )
        },
        Command {
            flags: &[
                AUTO_COMPACT,
                AUTO_DEFRAG,
                Flag::text(
                    "load",
                    "s",
                    "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge). Different workload models use different configurations in terms of number of clients and expected throughput.",
                ).choices(&["small", "medium", "large", "xLarge"]),
                Flag::text(
                    "prefix",
                    "/etcdctl-check-perf/",
                    "The prefix for writing the performance check's keys.",
                ),
            ],
            ..leaf(
                "perf",
                "perf [options]",
                "Check the performance of the etcd cluster",
                Action::CheckPerf,
            )
        },
    ],
    ..Command::NONE
};

const AUTO_COMPACT: Flag = Flag::switch(
    "auto-compact",
    "Compact storage with last revision after test is finished.",
);
const AUTO_DEFRAG: Flag = Flag::switch("auto-defrag", "Defragment storage after test is finished.");

pub(super) const COMPLETION: Command<Action> = Command {
    long: r#"To load completions:

Bash:

  $ source <(etcdctl completion bash)

  # To load completions for each session, execute once:
  # Linux:
  $ etcdctl completion bash > /etc/bash_completion.d/etcdctl
  # macOS:
  $ etcdctl completion bash > /usr/local/etc/bash_completion.d/etcdctl

Zsh:

  # If shell completion is not already enabled in your environment,
  # you will need to enable it.  You can execute the following once:

  $ echo "autoload -U compinit; compinit" >> ~/.zshrc

  # To load completions for each session, execute once:
  $ etcdctl completion zsh > "${fpath[1]}/_etcdctl"

  # You will need to start a new shell for this setup to take effect.

fish:

  $ etcdctl completion fish | source

  # To load completions for each session, execute once:
  $ etcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

PowerShell:

  PS> etcdctl completion powershell | Out-String | Invoke-Expression

  # To load completions for every new session, run:
  PS> etcdctl completion powershell > etcdctl.ps1
  # and source this file from your PowerShell profile.
"#,
    group: UTILITY,
    hides_flags: true,
    values: &["bash", "zsh", "fish", "powershell"],
    ..leaf(
        "completion",
        "completion [bash|zsh|fish|powershell]",
        "Generate completion script",
        Action::Completion,
    )
};

pub(super) const HELP: Command<Action> = Command {
    name: "help",
    usage: "help [command]",
    short: "Help about any command",
    long: r#"Help provides help for any command in the application.
Simply type etcdctl help [path to command] for full details."#,
    group: UTILITY,
    action: Some(Action::Help),
    ..Command::NONE
};

pub(super) const MAKE_MIRROR: Command<Action> = Command {
    group: UTILITY,
    flags: &[
        Flag::text(
            "dest-cacert",
            "",
            "Verify certificates of TLS enabled secure servers using this CA bundle",
        ),
        Flag::text(
            "dest-cert",
            "",
            "Identify secure client using this TLS certificate file for the destination cluster",
        ),
        Flag::new(
            "dest-insecure-transport",
            Kind::Bool,
            "true",
            "Disable transport security for client connections",
        ),
        Flag::text(
            "dest-key",
            "",
            "Identify secure client using this TLS key file",
        ),
        Flag::text(
            "dest-password",
            "",
            "Destination password for authentication (if this option is used, --user option shouldn't include password)",
        ),
        Flag::text(
            "dest-prefix",
            "",
            "destination prefix to mirror a prefix to a different prefix in the destination cluster",
        ),
        Flag::text(
            "dest-user",
            "",
            "Destination username[:password] for authentication (prompt if password is not supplied)",
        ),
        Flag::new(
            "max-txn-ops",
            Kind::Uint,
            "128",
            "Maximum number of operations permitted in a transaction during syncing updates.",
        ),
        Flag::switch(
            "no-dest-prefix",
            "mirror key-values to the root of the destination cluster",
        ),
        Flag::text("prefix", "", "Key-value prefix to mirror"),
        Flag::int("rev", "0", "Specify the kv revision to start to mirror"),
    ],
    ..leaf(
        "make-mirror",
        "make-mirror [options] <destination>",
        "Makes a mirror at the destination etcd cluster",
        Action::MakeMirror,
    )
};

pub(super) const OPTIONS: Command<Action> = Command {
    name: "options",
    usage: "options",
    short: "Show the global command-line flags",
    group: UTILITY,
    action: Some(Action::Options),
    ..Command::NONE
};

pub(super) const VERSION: Command<Action> = Command {
    name: "version",
    usage: "version",
    short: "Prints the version of etcdctl",
    group: UTILITY,
    action: Some(Action::Version),
    ..Command::NONE
};
