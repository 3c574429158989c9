//! `cargo xtask test`: every check, in the order in which a mistake is cheapest to find.
//!
//! The last line is `N passed, N failed`: a test function counts as one, and so does a stage that
//! has no test functions. What could not run is printed with its reason; where `CI=true`, a skip
//! that `skips.toml` does not list is a failure.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{compat, root};

/// What tests write when a program they need is missing: one line `NAME: REASON` each.
const SKIP_LOG: &str = "target/skips.log";

struct Stage {
    name: &'static str,
    /// The words after `cargo`.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        arguments: &["fmt", "--all", "--check"],
        environment: &[],
    },
    Stage {
        name: "tidy",
        arguments: &["xtask", "tidy"],
        environment: &[],
    },
    Stage {
        name: "clippy",
        arguments: &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-Dwarnings",
        ],
        environment: &[],
    },
    Stage {
        name: "docs",
        arguments: &[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ],
        environment: &[("RUSTDOCFLAGS", "-Dwarnings")],
    },
    Stage {
        name: "unit",
        arguments: &[
            "test",
            "--workspace",
            "--no-fail-fast",
            "--exclude=kvorum-e2e",
            "--exclude=kvorum-sim",
        ],
        environment: &[],
    },
    Stage {
        name: "simulation",
        arguments: &["test", "--no-fail-fast", "--package=kvorum-sim"],
        environment: &[],
    },
    Stage {
        name: "peers",
        arguments: &["xtask", "peers"],
        environment: &[],
    },
    Stage {
        name: "end-to-end",
        arguments: &[
            "test",
            "--no-fail-fast",
            "--package=kvorum-e2e",
            "--",
            "--test-threads=2",
        ],
        environment: &[],
    },
];

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    ran: BTreeSet<String>,
}

/// Runs the stages named, or all of them.
pub(crate) fn run(only: &[&str]) -> Result<()> {
    if let Some(unknown) = only
        .iter()
        .find(|name| STAGES.iter().all(|s| s.name != **name))
    {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        bail!("no stage {unknown}; there are {}", known.join(", "));
    }
    let _ = std::fs::remove_file(root().join(SKIP_LOG));
    let mut tally = Tally::default();
    for stage in STAGES
        .iter()
        .filter(|stage| only.is_empty() || only.contains(&stage.name))
    {
        let started = Instant::now();
        println!("== {} ==", stage.name);
        run_stage(stage, &mut tally)?;
        println!(
            "== {}: {:.0} s ==",
            stage.name,
            started.elapsed().as_secs_f64()
        );
    }
    let skips = report_skips(&mut tally)?;
    if only.is_empty() && skips == 0 {
        for finding in compat::rows_not_run(&tally.ran)? {
            println!("failed: {finding}");
            tally.failed += 1;
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    ensure!(tally.failed == 0, "{} failed", tally.failed);
    ensure!(tally.passed > 0, "nothing ran");
    Ok(())
}

/// Runs one stage, passing its output on while counting test functions in it.
fn run_stage(stage: &Stage, tally: &mut Tally) -> Result<()> {
    let mut child = Command::new(env!("CARGO"))
        .args(stage.arguments)
        .envs(stage.environment.iter().copied())
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start stage {}", stage.name))?;
    let mut failures = 0;
    let mut functions = 0;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        println!("{line}");
        let Some((path, verdict)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        match verdict {
            "ok" => {
                functions += 1;
                tally.ran.insert(path.to_owned());
            }
            "FAILED" => failures += 1,
            _ => {}
        }
    }
    let succeeded = child.wait()?.success();
    tally.passed += functions;
    tally.failed += failures;
    match (succeeded, functions, failures) {
        (true, 0, _) => tally.passed += 1,
        (false, _, 0) => tally.failed += 1,
        _ => {}
    }
    if !succeeded {
        println!("failed: stage {}", stage.name);
    }
    Ok(())
}

/// Prints what was skipped; counts it as failed where the continuous integration does not expect it.
fn report_skips(tally: &mut Tally) -> Result<usize> {
    let log = std::fs::read_to_string(root().join(SKIP_LOG)).unwrap_or_default();
    let allowed = std::fs::read_to_string(root().join("skips.toml")).unwrap_or_default();
    let skips: BTreeSet<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    for skip in &skips {
        let name = skip.split(':').next().unwrap_or_default();
        let listed = allowed.lines().any(|line| {
            line.split_once('=')
                .is_some_and(|(key, _)| key.trim().trim_matches('"') == name)
        });
        println!(
            "skipped: {skip}{}",
            if listed {
                " (listed in skips.toml)"
            } else {
                ""
            }
        );
        if strict && !listed {
            tally.failed += 1;
        }
    }
    Ok(skips.len())
}
