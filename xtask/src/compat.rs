//! COMPAT.md: each row of its tables names the tests that prove it.
//!
//! A row is `| what | state | note | test |`. The state is `same`, `different`, `missing`; a row
//! that is `same` or `different` names at least one test function in back quotes. `tidy` checks
//! that the function exists; after a test run [`rows_not_run`] checks that it ran. A check that
//! runs on official etcd and on ours is named by its function, and only the run on ours counts.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::root;
use crate::source::Source;

struct Row {
    what: String,
    state: String,
    tests: Vec<String>,
}

/// Rows that name no test, or one that does not exist.
pub(crate) fn rows_without_a_test(sources: &[Source]) -> Result<Vec<String>> {
    let known: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| functions(&source.text))
        .collect();
    let mut findings = Vec::new();
    for row in rows()? {
        if !["same", "different", "missing"].contains(&row.state.as_str()) {
            findings.push(format!(
                "COMPAT.md: {}: unknown state {:?}",
                row.what, row.state
            ));
        } else if row.tests.is_empty() && row.state != "missing" {
            findings.push(format!("COMPAT.md: {}: no test named", row.what));
        }
        for test in row
            .tests
            .iter()
            .filter(|test| !known.contains(test.as_str()))
        {
            findings.push(format!("COMPAT.md: {}: there is no test {test}", row.what));
        }
    }
    Ok(findings)
}

/// Rows whose test is not among those that ran; `ran` holds full test paths.
pub(crate) fn rows_not_run(ran: &BTreeSet<String>) -> Result<Vec<String>> {
    let names: BTreeSet<&str> = ran.iter().map(|path| function(path)).collect();
    let mut findings = Vec::new();
    for row in rows()? {
        for test in row
            .tests
            .iter()
            .filter(|test| !names.contains(test.as_str()))
        {
            findings.push(format!("COMPAT.md: {}: test {test} did not run", row.what));
        }
    }
    Ok(findings)
}

/// The function behind the path of a test. `on_each_server!` of the end-to-end tests makes a module
/// of each check, with one test for official etcd and one for ours.
fn function(path: &str) -> &str {
    let path = path.strip_suffix("::kvorum").unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

fn rows() -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(root().join("COMPAT.md")).context("read COMPAT.md")?;
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, state, _note, tests] = cells.as_slice() else {
            continue;
        };
        if *what == "what" || what.starts_with("--") {
            continue;
        }
        let tests = tests
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        rows.push(Row {
            what: (*what).to_owned(),
            state: (*state).to_owned(),
            tests,
        });
    }
    Ok(rows)
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")?.split(['(', '<']).next()
    })
}

#[cfg(test)]
mod tests {
    use super::function;

    #[test]
    fn a_check_is_proved_by_its_run_on_our_server() {
        assert_eq!(function("config::tests::a_flag_works"), "a_flag_works");
        assert_eq!(function("a_page_answers::kvorum"), "a_page_answers");
        assert_eq!(function("a_page_answers::official"), "official");
    }
}
