use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{charts, markdown};
use crate::latency::Percentiles;
use crate::load::{Kind, Load};
use crate::measure::{Run, ServerUse, Slice, Stolen};
use crate::results::{Figure, Outcome, Results, Scenario, Series, Side, Turn};
use crate::usage::{Machine, Memory};

fn latency(p50: f64) -> Percentiles {
    Percentiles {
        p50,
        p90: p50 * 2.0,
        p99: p50 * 3.0,
        p99_9: p50 * 4.0,
        max: p50 * 5.0,
    }
}

fn run(per_second: f64) -> Run {
    Run {
        seconds: 2.0,
        operations: (per_second * 2.0) as u64,
        per_second,
        latency_us: latency(1e6 / per_second),
        refused: BTreeMap::from([(8, 1)]),
        refusal: Some("too many".to_owned()),
        unanswered: 2,
        conflicts: 3,
        events_per_second: 4.0,
        timeline: vec![Slice {
            until: 1.0,
            operations: 5,
            latency_us: latency(6.0),
        }],
        server: Some(ServerUse {
            cpu_us: 1e5 / per_second,
            cpu_system_us: 1.0,
            cores: 1.5,
            memory: Memory {
                resident_bytes: 3_000_000,
                anonymous_bytes: 2_000_000,
                mapped_bytes: 1_000_000,
                peak_bytes: 4_000_000,
            },
        }),
        generator_cpu_us: 0.5,
        load_average: 0.25,
        stolen: None,
    }
}

#[test]
fn pieces_of_the_same_servers_are_joined() {
    let whole = results();
    let piece = |name: &str| {
        let mut piece = whole.clone();
        piece.scenarios.retain(|scenario| scenario.name == name);
        piece.turns.retain(|turn| turn.scenario == name);
        piece
    };
    let pieces = || -> Vec<Results> {
        let names = whole.scenarios.iter().map(|scenario| piece(&scenario.name));
        names.collect()
    };
    let mut joined = Results::join(pieces()).unwrap();
    assert_eq!(
        joined.command,
        [whole.command.as_str(); 2].join("\n"),
        "each piece tells how it was made"
    );
    joined.command.clone_from(&whole.command);
    joined.notes.clone_from(&whole.notes);
    assert_eq!(joined, whole);
    let mut others = pieces();
    others[1].commit.push('x');
    assert!(Results::join(others).is_err(), "another commit");
    assert!(Results::join(Vec::new()).is_err());
}

/// Two scenarios, two sides, two rounds; the second round of B failed.
fn results() -> Results {
    let scenario = |name: &str, load| Scenario {
        name: name.to_owned(),
        what: format!("what {name} does"),
        members: 1,
        is_fresh: true,
        written_before: "nothing".to_owned(),
        load,
        figures: vec![Figure {
            name: "end".to_owned(),
            what: "until its end".to_owned(),
            unit: "s".to_owned(),
        }],
    };
    let turn = |scenario: &str, side, round, outcome| Turn {
        scenario: scenario.to_owned(),
        side,
        round,
        outcome,
    };
    let mut with_series = Outcome::of(run(50.0)).phase("busy", run(25.0));
    with_series.series.push(Series {
        name: "size".to_owned(),
        unit: "MB".to_owned(),
        points: (0..9).map(|at| (f64::from(at), 1.5)).collect(),
    });
    let failed = Outcome {
        failure: Some("it\nended".to_owned()),
        ..Outcome::default()
    };
    let both = |number| Outcome::of(run(1000.0)).figure("end", number);
    Results {
        name: "2026-11-21-test".to_owned(),
        title: "A test".to_owned(),
        notes: vec!["A remark.".to_owned()],
        command: "bench suite lone".to_owned(),
        commit: "abcdef".to_owned(),
        machine: Machine::default(),
        sides: ["ours", "theirs"]
            .map(|name| Side {
                name: name.to_owned(),
                version: vec!["1".to_owned(), "2".to_owned()],
            })
            .to_vec(),
        flags: vec!["--flag".to_owned()],
        rounds: 2,
        warm_up_seconds: 0.5,
        seconds: 2.0,
        scenarios: vec![
            scenario("put", Some(Load::new(Kind::Put))),
            scenario("churn", None),
        ],
        turns: vec![
            turn("put", 'a', 1, both(1.0)),
            turn("put", 'b', 1, Outcome::of(run(250.0)).figure("end", 4.0)),
            turn("put", 'a', 2, both(3.0)),
            turn("put", 'b', 2, failed),
            turn("churn", 'a', 1, with_series),
        ],
    }
}

#[test]
fn results_read_as_written() {
    let written = serde_json::to_string_pretty(&results()).unwrap();
    let read: Results = serde_json::from_str(&written).unwrap();
    assert_eq!(read, results());
}

#[test]
fn tables_have_medians_ratios_and_gaps() {
    let page = markdown(&results());
    for line in [
        "| what put does | 1000 | 250 | 4.00 | 100 | 400 | 0.25 | 1.00 | 1.00 | 1.50 | 1.50 | 0.50 | 0.50 |",
        "| what churn does: *busy* | 25.0 | - | - |",
        "| what put does | until its end | s | 2.00 | 4.00 | 0.50 |",
        "| what churn does | until its end | s | - | - | - |",
        "- put, B, turn 2: it ended",
        "- Operations per second, A against B: 4.00 at least (what put does).",
    ] {
        assert!(
            page.lines().any(|found| found.starts_with(line)),
            "{line}\nin\n{page}"
        );
    }
}

#[test]
fn bursts_of_stolen_time_are_named() {
    let mut some = results();
    assert!(!markdown(&some).contains("gave to others"));
    let stolen = |burst_ms| Stolen {
        total_ms: 90,
        burst_ms,
        burst_at: 1.25,
    };
    some.turns[1].outcome.phases[0].run.stolen = Some(stolen(49));
    some.turns[4].outcome.phases[1].run.stolen = Some(stolen(70));
    let page = markdown(&some);
    assert!(
        page.contains(
            "- churn (busy), A, turn 1: 90 ms in all, 70 ms at once, 1.2 s after the start"
        ),
        "{page}"
    );
    assert!(!page.contains("- put, B, turn 1"), "an odd tick\n{page}");
}

#[test]
fn one_side_alone_has_no_ratios() {
    let mut one = results();
    one.sides.pop();
    one.turns.retain(|turn| turn.side == 'a');
    let page = markdown(&one);
    assert!(
        page.contains("| what put does | 1000 | 100 | 1.00 | 1.50 | 0.50 |"),
        "{page}"
    );
    assert!(!page.contains("A/B |"), "{page}");
}

#[test]
fn charts_are_named_after_the_results() {
    let charts = charts(&results());
    let files: Vec<_> = charts.iter().map(|chart| chart.file.as_str()).collect();
    let expected = [
        "2026-11-21-test-speed.svg",
        "2026-11-21-test-cpu.svg",
        "2026-11-21-test-put-p99.svg",
        "2026-11-21-test-churn-p99.svg",
        "2026-11-21-test-churn.svg",
    ];
    assert_eq!(files, expected);
    assert!(charts[0].svg.contains(">4.00</text>"), "{}", charts[0].svg);
}

#[test]
fn committed_pages_are_made_from_the_raw_results_beside_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks");
    for file in fs::read_dir(&folder).unwrap() {
        let raw = file.unwrap().path();
        if raw.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let results: Results = serde_json::from_slice(&fs::read(&raw).unwrap()).unwrap();
        let stem = raw.file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(results.name, stem, "the name of its files");
        let hint = format!("run: bench table {}", raw.display());
        let written = fs::read_to_string(raw.with_extension("md")).unwrap();
        assert!(markdown(&results) == written, "{hint}");
        for chart in charts(&results) {
            let written = fs::read_to_string(folder.join(&chart.file)).unwrap();
            assert!(chart.svg == written, "{hint}");
        }
    }
}
