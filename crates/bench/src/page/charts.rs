//! Which charts some results have.

use super::chart::{Bar, Line, bars, lines};
use crate::measure::Run;
use crate::results::Results;

/// A file beside the page.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// All charts of some results.
pub(crate) fn all(results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    if results.sides.len() == 2 {
        let speeds = ratios(results, |run| Some(run.per_second), |a, b| a / b);
        let cpu = ratios(
            results,
            |run| run.server.map(|server| server.cpu_us),
            |a, b| b / a,
        );
        let [a, b] = [0, 1].map(|side| results.sides[side].name.clone());
        for (what, title, found) in [
            (
                "speed",
                format!("{a} against {b}: times as many operations per second"),
                speeds,
            ),
            (
                "cpu",
                format!("{a} against {b}: times as little server CPU per operation"),
                cpu,
            ),
        ] {
            if !found.is_empty() {
                charts.push(Chart {
                    file: format!("{}-{what}.svg", results.name),
                    svg: bars(&title, &found),
                    title,
                });
            }
        }
    }
    charts.extend(timelines(results));
    charts.extend(series(results));
    charts
}

/// Closed loops only: at a fixed rate both are equally fast.
fn ratios(
    results: &Results,
    number: impl Fn(&Run) -> Option<f64>,
    ratio: impl Fn(f64, f64) -> f64,
) -> Vec<Bar> {
    let mut found = Vec::new();
    for scenario in &results.scenarios {
        if scenario
            .load
            .as_ref()
            .is_none_or(|load| load.rate.is_some())
        {
            continue;
        }
        let median = |side| {
            let number = |run: &Run| number(run).unwrap_or_default();
            results.median(&scenario.name, "", side, number)
        };
        if let (Some(a), Some(b)) = (median('a'), median('b'))
            && a > 0.0
            && b > 0.0
        {
            found.push(Bar {
                label: scenario.what.clone(),
                ratio: ratio(a, b),
            });
        }
    }
    found
}

/// The p99 of runs that were counted in slices: the first turn of each side, all conditions.
fn timelines(results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    for scenario in &results.scenarios {
        let mut found = Vec::new();
        for (colour, phase) in results.phases(&scenario.name).into_iter().enumerate() {
            for (side, letter) in results.sides.iter().zip(results.letters()) {
                let turn = results.turns(&scenario.name, *letter).next();
                let phases = turn.into_iter().flat_map(|turn| &turn.phases);
                let Some(one) = phases.into_iter().find(|one| one.name == phase) else {
                    continue;
                };
                let slices = one.run.timeline.iter();
                let points: Vec<_> = slices
                    .filter(|slice| slice.operations > 0)
                    .map(|slice| (slice.until, slice.latency_us.p99))
                    .collect();
                if !points.is_empty() {
                    let label = format!("{} {phase}", side.name);
                    found.push(Line {
                        label,
                        colour,
                        is_dashed: *letter == 'b',
                        points,
                    });
                }
            }
        }
        if !found.is_empty() {
            let title = format!("{}: p99 of puts over time", scenario.what);
            charts.push(Chart {
                file: format!("{}-{}-p99.svg", results.name, scenario.name),
                svg: lines(&title, "µs", &found, true),
                title,
            });
        }
    }
    charts
}

/// Series of the first turn of each side.
fn series(results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    for scenario in &results.scenarios {
        let mut found = Vec::new();
        let mut unit = "";
        for (side, letter) in results.sides.iter().zip(results.letters()) {
            let turn = results.turns(&scenario.name, *letter).next();
            // A handful of numbers is a table's matter.
            let all = turn.into_iter().flat_map(|turn| &turn.series);
            for (colour, series) in all.enumerate() {
                if series.points.len() < 8 {
                    continue;
                }
                unit = &series.unit;
                found.push(Line {
                    label: format!("{}: {}", side.name, series.name),
                    colour,
                    is_dashed: *letter == 'b',
                    points: series.points.clone(),
                });
            }
        }
        if !found.is_empty() {
            charts.push(Chart {
                file: format!("{}-{}.svg", results.name, scenario.name),
                svg: lines(&scenario.what, unit, &found, false),
                title: scenario.what.clone(),
            });
        }
    }
    charts
}
