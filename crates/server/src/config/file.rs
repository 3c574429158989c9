//! The configuration file: YAML or JSON, and it wins completely.
//!
//! Keys are the names of flags, with the exceptions the flag table notes: TLS, socket options and
//! discovery live in maps of their own. Lists of URLs are one text with commas, other lists are
//! lists, spans of time are whole nanoseconds. Keys of no flag are passed over, so that files of
//! older releases stay usable.
//!
//! Source: v3.7.1 `server/embed/config.go` (`configFromFile`, `configJSON`, `securityConfig`).

use std::collections::BTreeSet;

use serde_norway::Value;

use super::duration::Span;
use super::flags::{self, Flag};
use super::settings::Config;
use super::url::Url;
use super::value::Kind;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The file cannot be read.
    #[error("open {path}: {source}")]
    Open {
        path: String,
        source: std::io::Error,
    },
    /// The text is no YAML.
    #[error("error converting YAML to JSON: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// The text is YAML, but no map of keys.
    #[error("the configuration file holds no map of keys")]
    NoMap,
    /// A value of the wrong form.
    #[error("configuration file: key {key:?}: expected {expected}, found {found}")]
    Form {
        key: String,
        expected: &'static str,
        found: String,
    },
    /// A value of the right form that means nothing.
    #[error("configuration file: key {key:?}: {error}")]
    Meaning { key: String, error: String },
    /// A URL; etcd ends with this text on standard error and no log line.
    #[error("unexpected error setting up {key}: {error}")]
    Url { key: String, error: String },
}

/// Reads the file into `config` and returns the flags it set.
pub(super) fn read(path: &str, config: &mut Config) -> Result<BTreeSet<&'static str>, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Open {
        path: path.to_owned(),
        source,
    })?;
    read_text(&text, config)
}

/// Reads the text of a file into `config` and returns the flags it set.
pub(super) fn read_text(
    text: &str,
    config: &mut Config,
) -> Result<BTreeSet<&'static str>, FileError> {
    let document: Value = serde_norway::from_str(text)?;
    if !matches!(document, Value::Mapping(_) | Value::Null) {
        return Err(FileError::NoMap);
    }
    let mut set = BTreeSet::new();
    for flag in flags::all().filter(|flag| !flag.file_key.is_empty()) {
        if let Some(value) = find(&document, flag)? {
            store(flag, value, config)?;
            set.insert(flag.name);
        }
    }
    Ok(set)
}

/// The value under a flag's path of keys; a null counts as missing.
fn find<'a>(document: &'a Value, flag: &Flag) -> Result<Option<&'a Value>, FileError> {
    let mut value = document;
    let mut rest = flag.file_key;
    loop {
        let (key, deeper) = rest.split_once('.').unwrap_or((rest, ""));
        match value {
            Value::Null => return Ok(None),
            Value::Mapping(map) => match map.get(key) {
                Some(inner) => value = inner,
                None => return Ok(None),
            },
            other => {
                let read = flag.file_key.len() - rest.len();
                let key = flag.file_key[..read].trim_end_matches('.');
                return Err(wrong_form(key, "a map", other));
            }
        }
        if deeper.is_empty() {
            return Ok((!value.is_null()).then_some(value));
        }
        rest = deeper;
    }
}

/// Stores one value in the form its kind has in a file.
fn store(flag: &Flag, value: &Value, config: &mut Config) -> Result<(), FileError> {
    let key = flag.file_key;
    let text = |value: &Value| scalar_text(value).ok_or_else(|| wrong_form(key, "a text", value));
    let meaning = |error| FileError::Meaning {
        key: key.to_owned(),
        error,
    };
    match &flag.kind {
        Kind::Bool(field) => {
            *field(config) = value
                .as_bool()
                .ok_or_else(|| wrong_form(key, "a boolean", value))?;
        }
        Kind::Count(field) => *field(config) = count(key, value)?,
        Kind::Count32(field) => {
            *field(config) = u32::try_from(count(key, value)?)
                .map_err(|_| wrong_form(key, "a number of 32 bits", value))?;
        }
        Kind::Number(field) => *field(config) = number(key, "a whole number", value)?,
        Kind::Span(field) => {
            *field(config) = Span::from_nanos(number(key, "a number of nanoseconds", value)?);
        }
        // What a choice allows is checked later, with etcd's text for a file.
        Kind::Text(field) | Kind::Choice(_, field) => *field(config) = text(value)?,
        Kind::EnforcedChoice(_) => {
            text(value)?;
        }
        Kind::Urls(field) => {
            let list = text(value)?;
            if !list.is_empty() {
                *field(config) = Url::parse_list(&list).map_err(|error| FileError::Url {
                    key: key.into(),
                    error: error.to_string(),
                })?;
            }
        }
        Kind::Origins(_) | Kind::Hosts(_) | Kind::Gates => {
            let list = text(value)?;
            if !list.is_empty() {
                flag.kind.set(config, &list).map_err(meaning)?;
            }
        }
        Kind::Set(field) => *field(config) = texts(key, value)?.into_iter().collect(),
        Kind::List(field) => *field(config) = texts(key, value)?,
        Kind::Ignored => {}
    }
    Ok(())
}

fn count(key: &str, value: &Value) -> Result<u64, FileError> {
    value
        .as_u64()
        .ok_or_else(|| wrong_form(key, "a whole number not below zero", value))
}

fn number(key: &str, expected: &'static str, value: &Value) -> Result<i64, FileError> {
    value
        .as_i64()
        .ok_or_else(|| wrong_form(key, expected, value))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, FileError> {
    let Value::Sequence(items) = value else {
        return Err(wrong_form(key, "a list of texts", value));
    };
    items
        .iter()
        .map(|item| scalar_text(item).ok_or_else(|| wrong_form(key, "a list of texts", item)))
        .collect()
}

/// A text, or a number or boolean where YAML took a text for one.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(switch) => Some(switch.to_string()),
        _ => None,
    }
}

fn wrong_form(key: &str, expected: &'static str, value: &Value) -> FileError {
    let found = match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(switch) => format!("the boolean {switch}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a map".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    };
    FileError::Form {
        key: key.to_owned(),
        expected,
        found,
    }
}
