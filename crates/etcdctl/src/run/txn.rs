//! `txn`: a transaction from three paragraphs of standard input.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/txn_command.go`; `util.go`, `Argify`.

use std::io::BufRead as _;

use kvorum_client::{
    CompareResult, Operation, Txn, compare_create_revision, compare_lease, compare_mod_revision,
    compare_value, compare_version,
};
use kvorum_proto::etcdserverpb::Compare;

use super::{keys, settings};
use crate::commands::{Action, TOOL};
use crate::failure::failed;
use crate::output::Reply;
use kvorum_cli::Command;
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::failure::INVALID_INPUT;
use kvorum_cli::{go, print_text, usage};

pub(super) async fn run(mut line: Line) -> Result<(), Failure> {
    if !line.arguments.is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let interactive = line.flag("interactive");
    let settings = settings(&mut line).await?;
    let client = settings.patient_client().await?;
    let prompt = |text: &str| {
        if interactive {
            print_text(text);
        }
    };
    let mut txn = Txn::new();
    prompt("compares:\n");
    while let Some(text) = next_line()? {
        txn = txn.when(condition(&text).map_err(invalid)?);
    }
    prompt("success requests (get, put, del):\n");
    while let Some(text) = next_line()? {
        txn = txn.and_then(operation(&text).await?);
    }
    prompt("failure requests (get, put, del):\n");
    while let Some(text) = next_line()? {
        txn = txn.or_else(operation(&text).await?);
    }
    let response = client.txn(&txn.build()).await.map_err(failed)?;
    settings.printer.print(&Reply::Txn(response))
}

fn invalid(message: String) -> Failure {
    Failure::new(INVALID_INPUT, message)
}

/// The next line of the paragraph; none at the empty line that ends it.
fn next_line() -> Result<Option<String>, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text);
    read.map_err(|error| invalid(error.to_string()))?;
    if !text.ends_with('\n') {
        return Err(invalid("EOF".to_owned()));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A condition like `mod("key") > "0"`.
fn condition(line: &str) -> Result<Compare, String> {
    let Some((target, rest)) = line.split_once('(') else {
        return Err(format!("malformed comparison: {line}"));
    };
    let (key, operator, value) = parts(rest);
    let text = |bytes: &Option<Vec<u8>>| go::quote(bytes.as_deref().unwrap_or_default());
    let (Some(key_bytes), Some(value_bytes)) = (&key, &value) else {
        let (key, value) = (text(&key), text(&value));
        return Err(format!(
            "malformed comparison: {line}; got {target}({key}) {operator} {value}"
        ));
    };
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        ">" => CompareResult::Greater,
        _ => {
            return Err(format!(
                "malformed comparison: {line} (unknown result op {operator})"
            ));
        }
    };
    let key = key_bytes.clone();
    let number = |base| {
        let text = String::from_utf8_lossy(value_bytes);
        go::parse_int(&text, base).map_err(|_| format!("invalid txn compare request: {line}"))
    };
    Ok(match target {
        "ver" | "version" => compare_version(key, result, number(10)?),
        "c" | "create" => compare_create_revision(key, result, number(10)?),
        "m" | "mod" => compare_mod_revision(key, result, number(10)?),
        "val" | "value" => compare_value(key, result, value_bytes.clone()),
        // In hex, as leases are written everywhere else. Official releases crash here.
        "lease" => compare_lease(key, result, number(16)?),
        _ => {
            return Err(format!(
                "malformed comparison: {line} (unknown target {target})"
            ));
        }
    })
}

/// Key, operator and value of `"key") OP "value"`, as far as they are there.
fn parts(rest: &str) -> (Option<Vec<u8>>, &str, Option<Vec<u8>>) {
    let Some((key, rest)) = go::scan_quoted(rest.trim_start()) else {
        return (None, "", None);
    };
    let Some(rest) = rest.strip_prefix(')') else {
        return (Some(key), "", None);
    };
    // The operator stands apart from both.
    let blank = rest.starts_with(char::is_whitespace);
    let rest = if blank { rest.trim_start() } else { "" };
    let (operator, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let value = go::scan_quoted(rest.trim_start()).map(|(value, _)| value);
    (Some(key), operator, value)
}

/// A request like `put key "value"`.
async fn operation(text: &str) -> Result<Operation, Failure> {
    let words = words(text).map_err(invalid)?;
    let refused = || invalid(format!("invalid txn request: {text}"));
    let [name, rest @ ..] = words.as_slice() else {
        return Err(refused());
    };
    if rest.is_empty() {
        return Err(invalid(format!("invalid txn compare request: {text}")));
    }
    let of_name = |command: &&Command<Action>| {
        ["put", "get", "del"].contains(&command.name) && command.name.starts_with(name)
    };
    let mut fitting = TOOL.root.children.iter().filter(of_name);
    let (Some(command), None) = (fitting.next(), fitting.next()) else {
        return Err(refused());
    };
    let line = Line::parse_alone(command, rest).map_err(|_| {
        eprintln!("{}", usage::usage_alone(command));
        refused()
    })?;
    match command.name {
        "put" => Ok(keys::put_request(&line)?.into()),
        "get" => Ok(keys::get_request(&line)?.into()),
        _ => Ok(keys::delete_request(&line).await?.into()),
    }
}

/// Splits at blanks, but not in quotes. Double quotes have escapes, single ones have none.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => double_quoted(rest),
            '\'' => rest[1..].find('\'').map(|at| at + 2),
            _ if first.is_whitespace() => None,
            _ => Some(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        let Some(length) = length else {
            // A blank, or a quote that nothing closes.
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (word, tail) = rest.split_at(length);
        words.push(match first {
            '"' => {
                let (bytes, _) = go::scan_quoted(word).ok_or("bad verb '%q' for string")?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            '\'' => word[1..length - 1].to_owned(),
            _ => word.to_owned(),
        });
        rest = tail;
    }
    Ok(words)
}

/// Length of the double-quoted word at the beginning.
fn double_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_outside_quotes() {
        for (text, split) in [
            ("put k v", &["put", "k", "v"][..]),
            (r#"put "a b" 'c "d'"#, &["put", "a b", "c \"d"]),
            (r#"put k "\x41\"""#, &["put", "k", "A\""]),
            ("  get   k ", &["get", "k"]),
            ("put it's", &["put", "it's"]),
            (r#"put "open"#, &["put", "open"]),
            ("", &[]),
        ] {
            assert_eq!(words(text).expect(text), split);
        }
    }

    #[test]
    fn a_condition_has_a_target_a_key_an_operator_and_a_value() {
        let error = |text: &str| condition(text).expect_err(text);
        assert!(condition(r#"lease("k") = "1f""#).is_ok());
        assert!(condition(r#"val("k")   !=   "v""#).is_ok());
        assert_eq!(error("bad"), "malformed comparison: bad");
        assert_eq!(
            error(r#"mod("k1") > "abc""#),
            r#"invalid txn compare request: mod("k1") > "abc""#
        );
        assert_eq!(
            error(r#"mod("k")>"1""#),
            r#"malformed comparison: mod("k")>"1"; got mod("k")  """#
        );
        assert_eq!(
            error(r#"what("k") = "1""#),
            r#"malformed comparison: what("k") = "1" (unknown target what)"#
        );
    }
}
