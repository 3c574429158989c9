//! The command line, read the way Go's flag package reads it.
//!
//! `-name`, `--name`, `-name=value` and `-name value` are the same flag; a switch takes a value
//! only behind `=`; `--` and the first text that is no flag end the flags. The first fault ends
//! the reading.
//!
//! Source: go1.24 `flag/flag.go` (`FlagSet.parseOne`).

use std::collections::BTreeSet;

use super::flags::{self, Flag};
use super::settings::Config;

/// What a command line said.
#[derive(Debug)]
pub(super) struct Arguments {
    /// Names of the flags that were set.
    pub(super) set: BTreeSet<&'static str>,
    /// The first text behind the flags.
    pub(super) positional: Option<String>,
}

/// Why a command line was not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Help was asked for.
    Help,
    /// The text to print in front of the usage.
    Usage(String),
}

/// Reads the arguments behind the program's name into `config`.
pub(super) fn read(arguments: &[String], config: &mut Config) -> Result<Arguments, Fault> {
    let mut set = BTreeSet::new();
    let mut rest = arguments.iter();
    let mut positional = None;
    while let Some(argument) = rest.next() {
        let Some(body) = flag_body(argument) else {
            positional = Some(argument.clone());
            break;
        };
        if body.is_empty() {
            // A bare `--`; whatever follows is no flag.
            positional = rest.next().cloned();
            break;
        }
        if body.starts_with(['-', '=']) {
            return Err(Fault::Usage(format!("bad flag syntax: {argument}")));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let flag = match (flags::find(name), name) {
            (Some(flag), _) => flag,
            (None, "help" | "h") => return Err(Fault::Help),
            (None, _) => {
                return Err(Fault::Usage(format!(
                    "flag provided but not defined: -{name}"
                )));
            }
        };
        let value = value.or_else(|| next_value(flag, &mut rest));
        let Some(value) = value else {
            return Err(Fault::Usage(format!("flag needs an argument: -{name}")));
        };
        flag.kind
            .set(config, &value)
            .map_err(|error| Fault::Usage(bad_value(flag, &value, &error)))?;
        set.insert(flag.name);
    }
    Ok(Arguments { set, positional })
}

/// What stands behind the dashes; `None` when the text is no flag, empty for a bare `--`.
fn flag_body(argument: &str) -> Option<&str> {
    let body = argument.strip_prefix('-')?;
    if body.is_empty() {
        return None;
    }
    Some(body.strip_prefix('-').unwrap_or(body))
}

/// The value of a flag without `=`: true for a switch, else the next argument whatever it is.
fn next_value<'a>(flag: &Flag, rest: &mut impl Iterator<Item = &'a String>) -> Option<String> {
    if flag.kind.is_switch() {
        Some("true".to_owned())
    } else {
        rest.next().cloned()
    }
}

fn bad_value(flag: &Flag, value: &str, error: &str) -> String {
    let name = flag.name;
    if flag.kind.is_switch() {
        format!("invalid boolean value {value:?} for -{name}: {error}")
    } else {
        format!("invalid value {value:?} for flag -{name}: {error}")
    }
}
