//! Rules of STYLE.md that a machine can see.

use anyhow::{Result, bail};

use crate::source::{self, Source};
use crate::{arrows, codegen, compat};

/// Lines of a source file, tests included; past this it is split or named in [`LONG_FILES`].
const FILE_LINES_MAX: usize = 1_000;

/// Files over the limit, each with its reason: flat tables and generated code.
const LONG_FILES: &[&str] = &["crates/proto/src/generated/etcdserverpb.rs"];

/// Words that mark unfinished work. Written in two parts, so that this file passes its own rule.
const MARKERS: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

/// What lets `unsafe` in, and the one file that may say it.
const UNSAFE_ALLOWED: &str = concat!("allow(unsafe", "_code)");
const UNSAFE_FILE: &str = "crates/storage/src/vfs/map.rs";

/// Names that say nothing about what lies inside.
const NAMELESS_MODULES: &[&str] = &["util", "utils", "common", "helpers", "misc", "manager"];

/// Checks the whole project; every finding is printed.
pub(crate) fn run() -> Result<()> {
    codegen::check()?;
    let mut findings = arrows::violations()?;
    let sources = source::files(".rs")?;
    for source in &sources {
        file_findings(source, &mut findings);
    }
    findings.extend(compat::rows_without_a_test(&sources)?);
    findings.extend(architecture_length()?);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}

fn file_findings(source: &Source, findings: &mut Vec<String>) {
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX && !LONG_FILES.contains(&source.path.as_str()) {
        findings.push(format!(
            "{}: {lines} lines, at most {FILE_LINES_MAX}",
            source.path
        ));
    }
    if source.text.contains(UNSAFE_ALLOWED) && source.path != UNSAFE_FILE {
        findings.push(format!(
            "{}: only {UNSAFE_FILE} may hold unsafe code",
            source.path
        ));
    }
    for (number, line) in source.text.lines().enumerate() {
        for marker in MARKERS.iter().filter(|marker| line.contains(**marker)) {
            findings.push(format!(
                "{}:{}: left-over {marker}",
                source.path,
                number + 1
            ));
        }
    }
    let stem = source
        .path
        .trim_end_matches("/mod.rs")
        .trim_end_matches(".rs");
    if stem
        .rsplit('/')
        .next()
        .is_some_and(|name| NAMELESS_MODULES.contains(&name))
    {
        findings.push(format!(
            "{}: a module needs a name that says what is inside",
            source.path
        ));
    }
}

fn architecture_length() -> Result<Option<String>> {
    const LINES_MAX: usize = 400;
    let text = std::fs::read_to_string(crate::root().join("ARCHITECTURE.md")).unwrap_or_default();
    let lines = text.lines().count();
    Ok(match lines {
        0 => Some("ARCHITECTURE.md is missing".to_owned()),
        1..=LINES_MAX => None,
        _ => Some(format!(
            "ARCHITECTURE.md: {lines} lines, at most {LINES_MAX}"
        )),
    })
}
