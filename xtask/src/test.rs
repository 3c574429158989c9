//! `cargo xtask test`: every check, in the order in which a mistake is cheapest to find.
//!
//! The last line is `N passed, N failed`: a test function counts as one, and so does a stage that
//! has no test functions. Before it stands what failed, with the first words of why, since the output
//! is long. What could not run is printed with its reason; where `CI=true`, a skip that `skips.toml`
//! does not list is a failure.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::programs::{Programs, TestProgram};
use crate::{compat, root};

/// What tests write when a program they need is missing: one line `NAME: REASON` each.
const SKIP_LOG: &str = "target/skips.log";

/// A program that takes longer hangs: it is ended and has failed, so that the others still run.
const LONGEST_PROGRAM: Duration = Duration::from_secs(30 * 60);

/// Between two looks whether a program has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct Stage {
    name: &'static str,
    work: Work,
}

enum Work {
    /// A command of cargo: the words after `cargo`, and variables.
    Cargo(
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
    ),
    /// Building every program of the workspace.
    Build,
    /// The test programs of some packages, with arguments.
    Tests(fn(&str) -> bool, &'static [&'static str]),
}

const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        work: Work::Cargo(&["fmt", "--all", "--check"], &[]),
    },
    Stage {
        name: "tidy",
        work: Work::Cargo(&["xtask", "tidy"], &[]),
    },
    Stage {
        name: "clippy",
        work: Work::Cargo(
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-Dwarnings",
            ],
            &[],
        ),
    },
    Stage {
        name: "docs",
        work: Work::Cargo(
            &[
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--quiet",
            ],
            &[("RUSTDOCFLAGS", "-Dwarnings")],
        ),
    },
    Stage {
        name: "build",
        work: Work::Build,
    },
    Stage {
        name: "unit",
        work: Work::Tests(|package| !matches!(package, SIMULATOR | END_TO_END), &[]),
    },
    Stage {
        name: "examples",
        work: Work::Cargo(&["test", "--workspace", "--doc", "--no-fail-fast"], &[]),
    },
    Stage {
        name: "simulation",
        work: Work::Tests(|package| package == SIMULATOR, &[]),
    },
    Stage {
        name: "peers",
        work: Work::Cargo(&["xtask", "peers"], &[]),
    },
    Stage {
        name: "end-to-end",
        work: Work::Tests(|package| package == END_TO_END, &["--test-threads=2"]),
    },
];

const SIMULATOR: &str = "kvorum-sim";
const END_TO_END: &str = "kvorum-e2e";

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    ran: BTreeSet<String>,
    /// What failed and why.
    failures: Vec<String>,
}

/// Lines of a failed test's output that are told again at the end.
const TOLD_AGAIN_LINES: usize = 4;

/// The outputs of failed tests, which stand at the end of their program's.
#[derive(Default)]
struct FailedTests {
    /// A test with the first lines of what it wrote.
    found: Vec<(String, Vec<String>)>,
    is_inside: bool,
}

impl FailedTests {
    fn see(&mut self, line: &str) {
        let begun = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = begun {
            self.found.push((test.to_owned(), Vec::new()));
            self.is_inside = true;
        } else if line == "failures:" {
            self.is_inside = false;
        } else if self.is_inside
            && !line.is_empty()
            && let Some((_, lines)) = self.found.last_mut()
            && lines.len() < TOLD_AGAIN_LINES
        {
            lines.push(line.to_owned());
        }
    }

    fn told(self, program: &str) -> impl Iterator<Item = String> {
        self.found.into_iter().map(move |(test, lines)| {
            let lines = lines.iter().map(|line| format!("\n    {line}"));
            format!("{program}: {test}{}", lines.collect::<String>())
        })
    }
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
    let built = OnceCell::new();
    for stage in STAGES
        .iter()
        .filter(|stage| only.is_empty() || only.contains(&stage.name))
    {
        let started = Instant::now();
        println!("== {} ==", stage.name);
        run_stage(stage, &built, &mut tally)?;
        println!(
            "== {}: {:.0} s ==",
            stage.name,
            started.elapsed().as_secs_f64()
        );
    }
    let skips = report_skips(&mut tally)?;
    if only.is_empty() && skips == 0 {
        for finding in compat::rows_not_run(&tally.ran)? {
            tally.failures.push(finding);
            tally.failed += 1;
        }
    }
    for failure in &tally.failures {
        println!("failed: {failure}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    ensure!(tally.failed == 0, "{} failed", tally.failed);
    ensure!(tally.passed > 0, "nothing ran");
    Ok(())
}

fn run_stage(stage: &Stage, built: &OnceCell<Programs>, tally: &mut Tally) -> Result<()> {
    let programs = || match built.get() {
        Some(programs) => Ok(programs),
        None => Programs::build().map(|programs| built.get_or_init(|| programs)),
    };
    match &stage.work {
        Work::Cargo(arguments, environment) => {
            let mut command = Command::new(env!("CARGO"));
            command
                .args(*arguments)
                .envs(environment.iter().copied())
                .current_dir(root());
            if run_program(stage.name, command, tally)? {
                tally.passed += 1;
            }
            Ok(())
        }
        Work::Build => {
            programs()?;
            tally.passed += 1;
            Ok(())
        }
        Work::Tests(wanted, arguments) => {
            let programs = programs()?;
            for program in programs.tests.iter().filter(|test| wanted(&test.package)) {
                let TestProgram {
                    package, target, ..
                } = program;
                let name = format!("{package}: {target}");
                let started = Instant::now();
                println!("-- {name} --");
                let mut command = program.command();
                command.args(*arguments).envs(programs.environment());
                run_program(&name, command, tally)?;
                println!("-- {name}: {:.0} s --", started.elapsed().as_secs_f64());
            }
            Ok(())
        }
    }
}

/// Runs one program, passing its output on while counting test functions in it. Says whether it succeeded without any.
fn run_program(name: &str, mut command: Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let guard = thread::spawn(move || see_to_the_end(&mut child));
    let (mut failures, mut functions) = (0, 0);
    let mut failed_tests = FailedTests::default();
    for line in lines {
        let line = line?;
        println!("{line}");
        failed_tests.see(&line);
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
    let End { succeeded, late } = guard
        .join()
        .map_err(|_| anyhow!("lost {name}"))?
        .with_context(|| format!("wait for {name}"))?;
    tally.passed += functions;
    tally.failed += failures;
    if !succeeded && failures == 0 {
        tally.failed += 1;
    }
    if !succeeded {
        println!("failed: {name}");
    }
    let told = tally.failures.len();
    tally.failures.extend(failed_tests.told(name));
    if late {
        let limit = LONGEST_PROGRAM.as_secs();
        tally
            .failures
            .push(format!("{name} took longer than {limit} s and was ended"));
    } else if !succeeded && tally.failures.len() == told {
        // It ended before it could say why.
        tally.failures.push(name.to_owned());
    }
    Ok(succeeded && functions == 0)
}

struct End {
    succeeded: bool,
    late: bool,
}

/// Waits for a program, and ends it when it is late. What it started and left running is ended with it: it holds the
/// output open, and nobody would see that the program is over.
fn see_to_the_end(child: &mut Child) -> io::Result<End> {
    let started = Instant::now();
    let end_group = |group: u32| {
        Command::new("kill")
            .args(["-KILL", "--", &format!("-{group}")])
            .stderr(Stdio::null())
            .status()
    };
    let group = child.id();
    let mut late = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !late && started.elapsed() > LONGEST_PROGRAM {
            late = true;
            end_group(group)?;
        }
        thread::sleep(LOOK_AGAIN);
    };
    end_group(group)?;
    Ok(End {
        succeeded: status.success(),
        late,
    })
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
            tally.failures.push(format!("{skip} (skipped)"));
            tally.failed += 1;
        }
    }
    Ok(skips.len())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Tally, run_program};

    #[test]
    fn what_failed_is_told_again_with_the_first_words_of_why() {
        let output = [
            "test one ... ok",
            "test two ... FAILED",
            "failures:",
            "",
            "---- two stdout ----",
            "",
            "thread two panicked at x.rs:1:1:",
            "2, not 1",
            "failures:",
            "    two",
        ];
        let mut program = Command::new("sh");
        let script = format!("printf '%s\\n' '{}'; exit 101", output.join("' '"));
        program.args(["-c", &script]);
        let mut tally = Tally::default();
        run_program("a shell", program, &mut tally).expect("it starts");
        let told = "a shell: two\n    thread two panicked at x.rs:1:1:\n    2, not 1";
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.failures, [told]);
        let mut program = Command::new("sh");
        program.args(["-c", "echo 'test two ... FAILED'; kill -ABRT $$"]);
        let mut tally = Tally::default();
        run_program("a shell", program, &mut tally).expect("it starts");
        assert_eq!(
            (tally.failed, tally.failures),
            (1, vec!["a shell".to_owned()])
        );
    }

    #[test]
    fn a_program_is_over_when_it_has_ended_whatever_it_left_running() {
        let mut program = Command::new("sh");
        program.args(["-c", "sleep 1000 & echo 'test a::b ... ok'"]);
        let mut tally = Tally::default();
        run_program("a shell", program, &mut tally).expect("it starts");
        assert_eq!((tally.passed, tally.failed), (1, 0));
    }
}
