//! The environment: every flag has a variable `ETCD_` + its name in capitals.
//!
//! An empty variable is no variable. A variable beside its flag is fatal: one of them would be
//! ignored, and nobody could tell which one the operator meant. Variables that belong to no flag
//! are only named.
//!
//! Source: v3.7.1 `pkg/flags/flag.go` (`SetFlagsFromEnv`, `verifyEnv`),
//! `server/etcdmain/config.go` (`configFromCmdLine`).

use std::collections::BTreeSet;

use super::flags;
use super::settings::Config;
use crate::log::Line;

/// The beginning of all variables that may be meant for the server.
const PREFIX: &str = "ETCD_";
/// The variable of `--version`, which other tools set to a version number.
const VERSION: &str = "ETCD_VERSION";
/// Variables that are read elsewhere than in the flag table.
///
/// etcd calls them unrecognized, although it reads them; a reader of the log is not sent after
/// them here.
const READ_ELSEWHERE: [&str; 1] = ["ETCD_UNSUPPORTED_ARCH"];

/// What the environment said.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Names of the flags that were set by their variable.
    pub(super) set: BTreeSet<&'static str>,
    /// Lines to log.
    pub(super) lines: Vec<Line>,
    /// A variable with a value that cannot be read; of several the last by name.
    pub(super) bad_value: Option<String>,
    /// A variable that is set beside its flag.
    pub(super) conflict: bool,
}

/// The value of a variable; an empty one counts as missing.
pub(super) fn lookup<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables
        .iter()
        .find(|(variable, value)| variable == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

/// Reads the variables of all flags that are not in `already_set` into `config`.
pub(super) fn read(
    variables: &[(String, String)],
    already_set: &BTreeSet<&'static str>,
    config: &mut Config,
) -> Environment {
    let mut out = Environment::default();
    if let Some(value) = lookup(variables, VERSION) {
        let line = Line::warn("cannot set special environment variable");
        out.lines
            .push(line.field("key", VERSION).field("value", value));
    }
    let mut flags: Vec<_> = flags::all().filter(|flag| flag.name != "version").collect();
    flags.sort_by_key(|flag| flag.name);
    for flag in flags.iter().filter(|flag| !already_set.contains(flag.name)) {
        let variable = flag.variable();
        let Some(value) = lookup(variables, &variable) else {
            continue;
        };
        match flag.kind.set(config, value) {
            Ok(()) => {
                out.set.insert(flag.name);
                let line = Line::info("recognized and used environment variable");
                let line = line
                    .field("variable-name", variable)
                    .field("variable-value", value);
                out.lines.push(line);
            }
            Err(error) => {
                out.set.insert(flag.name);
                out.bad_value = Some(format!("invalid value {value:?} for {variable}: {error}"));
            }
        }
    }
    find_strays(variables, already_set, &mut out);
    out
}

/// Names the variables that were not used: those beside their flag, and those of no flag.
fn find_strays(
    variables: &[(String, String)],
    already_set: &BTreeSet<&'static str>,
    out: &mut Environment,
) {
    let names = |set: &BTreeSet<&'static str>| -> BTreeSet<String> {
        set.iter()
            .filter_map(|name| flags::find(name))
            .map(flags::Flag::variable)
            .collect()
    };
    let (used, shadowed) = (names(&out.set), names(already_set));
    for (variable, value) in variables {
        if used.contains(variable) || variable == VERSION {
            continue;
        }
        if shadowed.contains(variable) {
            // The odd second bracket is etcd's, and tests look for the whole text.
            let line = Line::fatal(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag))",
            );
            out.lines
                .push(line.field("environment-variable", variable.clone()));
            out.conflict = true;
            return;
        }
        if variable.starts_with(PREFIX) && !READ_ELSEWHERE.contains(&variable.as_str()) {
            let line = Line::warn("unrecognized environment variable");
            out.lines
                .push(line.field("environment-variable", format!("{variable}={value}")));
        }
    }
}
