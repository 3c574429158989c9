//! Locks and elections.

use kvorum_cli::{Command, Flag};

use super::{Action, CONCURRENCY};

pub(super) const ELECT: Command<Action> = Command {
    name: "elect",
    usage: "elect <election-name> [proposal]",
    short: "Observes and participates in leader election",
    group: CONCURRENCY,
    flags: &[Flag::switch("listen", "observation mode").short('l')],
    action: Some(Action::Elect),
    ..Command::NONE
};

pub(super) const LOCK: Command<Action> = Command {
    name: "lock",
    usage: "lock <lockname> [exec-command arg1 arg2 ...]",
    short: "Acquires a named lock",
    group: CONCURRENCY,
    flags: &[Flag::int("ttl", "10", "timeout for session")],
    action: Some(Action::Lock),
    ..Command::NONE
};
