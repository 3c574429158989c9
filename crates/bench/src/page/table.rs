//! Tables in Markdown.

use std::fmt::Write;

use crate::measure::{Run, ServerUse};
use crate::page;
use crate::results::{Results, Scenario};

const GIBIBYTE: f64 = (1_u64 << 30) as f64;
const MEGABYTE: f64 = 1e6;

/// The page of some results. Charts are expected beside it.
pub(crate) fn results(results: &Results) -> String {
    let mut page = Page(String::new());
    head(results, &mut page);
    for chart in page::charts(results) {
        page.line(&format!("![{}]({})\n", chart.title, chart.file));
    }
    speed(results, &mut page);
    latency(results, &mut page);
    figures(results, &mut page);
    memory(results, &mut page);
    stolen(results, &mut page);
    failures(results, &mut page);
    loads(results, &mut page);
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn head(&mut self, cells: &[String]) {
        self.row(cells);
        let rule = cells.iter().enumerate();
        let rule = rule.map(|(place, _)| if place == 0 { "---" } else { "---:" });
        self.row(&rule.map(str::to_owned).collect::<Vec<_>>());
    }
}

fn head(results: &Results, page: &mut Page) {
    page.line(&format!("# {}\n", results.title));
    page.line("Made by `bench table` from the raw results beside this page; not edited by hand.\n");
    for note in &results.notes {
        page.line(&format!("- {note}"));
    }
    let machine = &results.machine;
    page.line(&format!(
        "- Machine: {}, {} cores, {:.0} GiB, Linux {}. Servers and generator share it.",
        machine.processor,
        machine.cores,
        machine.memory_bytes as f64 / GIBIBYTE,
        machine.kernel
    ));
    for (letter, side) in ["A", "B"].iter().zip(&results.sides) {
        let version = side.version.join("; ");
        page.line(&format!("- {letter}: {} ({version})", side.name));
    }
    page.line(&format!(
        "- Each number is the median of up to {} turns per side, the sides in turn; runs of {} s after {} s of warm-up \
         unless the scenario says otherwise.",
        results.rounds, results.seconds, results.warm_up_seconds
    ));
    page.line(
        "- CPU is that of the servers' processes (user and kernel, all members) by the kernel's accounting. A/B of \
         speeds: more is better. A/B of CPU, latency, memory: less is better.",
    );
    if results.sides.len() == 2
        && let Some((ratio, what)) = slowest(results)
    {
        page.line(&format!(
            "- Operations per second, A against B: {} at least ({what}).",
            short(ratio)
        ));
    }
    page.line(&format!("- Working copy: `{}`", results.commit));
    page.line(&format!("\n```\n{}\n```\n", results.command));
}

/// Where A is slowest against B. Loads at a fixed rate are equal by intent.
fn slowest(results: &Results) -> Option<(f64, String)> {
    let rows = rows(results).filter_map(|row| {
        let rate = |side| results.median(&row.scenario.name, row.phase, side, |run| run.per_second);
        row.scenario
            .load
            .as_ref()
            .filter(|load| load.rate.is_none())?;
        Some((rate('a')? / rate('b')?, row.label()))
    });
    rows.min_by(|(one, _), (other, _)| one.total_cmp(other))
}

/// A line of a table: a scenario under one condition.
struct Row<'a> {
    scenario: &'a Scenario,
    phase: &'a str,
}

impl Row<'_> {
    fn label(&self) -> String {
        if self.phase.is_empty() {
            self.scenario.what.clone()
        } else {
            format!("{}: *{}*", self.scenario.what, self.phase)
        }
    }
}

fn rows(results: &Results) -> impl Iterator<Item = Row<'_>> {
    results.scenarios.iter().flat_map(|scenario| {
        let phases = results.phases(&scenario.name);
        phases.into_iter().map(move |phase| Row { scenario, phase })
    })
}

/// A number with three digits that matter.
pub(super) fn short(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

fn cell(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), short)
}

/// The titles of a number: one per side, and the ratio of two.
fn titles(results: &Results, what: &str, has_ratio: bool) -> Vec<String> {
    if results.sides.len() == 1 {
        return vec![what.to_owned()];
    }
    let mut titles = vec![format!("A {what}"), format!("B {what}")];
    titles.extend(has_ratio.then(|| "A/B".to_owned()));
    titles
}

/// The cells below these titles.
fn cells(results: &Results, has_ratio: bool, number: impl Fn(char) -> Option<f64>) -> Vec<String> {
    let numbers: Vec<_> = results.letters().iter().map(|side| number(*side)).collect();
    let mut cells: Vec<_> = numbers.iter().map(|number| cell(*number)).collect();
    if let [a, b] = numbers[..]
        && has_ratio
    {
        let ratio = a.zip(b).filter(|(_, b)| *b != 0.0).map(|(a, b)| a / b);
        cells.push(cell(ratio));
    }
    cells
}

/// A number of runs, with its title; whether the ratio of the two sides is of interest.
type Column<'a> = (&'a str, bool, fn(&Run) -> Option<f64>);
const RATIO: bool = true;
const PLAIN: bool = false;

/// One table of numbers of runs.
fn table(results: &Results, page: &mut Page, columns: &[Column<'_>]) {
    let mut head = vec![String::new()];
    for (what, has_ratio, _) in columns {
        head.extend(titles(results, what, *has_ratio));
    }
    page.head(&head);
    for row in rows(results) {
        let mut line = vec![row.label()];
        for (_, has_ratio, number) in columns {
            let median = |side| {
                let name = &row.scenario.name;
                let number = |run: &Run| number(run).unwrap_or(f64::NAN);
                let found = results.median(name, row.phase, side, number);
                found.filter(|number| !number.is_nan())
            };
            line.extend(cells(results, *has_ratio, median));
        }
        page.row(&line);
    }
    page.line("");
}

fn speed(results: &Results, page: &mut Page) {
    if rows(results).next().is_none() {
        return;
    }
    page.line("## Operations and CPU\n");
    table(
        results,
        page,
        &[
            ("op/s", RATIO, |run| Some(run.per_second)),
            ("CPU µs/op", RATIO, |run| {
                of_server(run, |used| used.cpu_us)
            }),
            ("of it kernel", PLAIN, |run| {
                of_server(run, |used| used.cpu_system_us)
            }),
            ("cores", PLAIN, |run| of_server(run, |used| used.cores)),
            ("generator µs/op", PLAIN, |run| Some(run.generator_cpu_us)),
        ],
    );
}

fn of_server(run: &Run, number: impl Fn(&ServerUse) -> f64) -> Option<f64> {
    run.server.as_ref().map(number)
}

fn latency(results: &Results, page: &mut Page) {
    if rows(results).next().is_none() {
        return;
    }
    page.line("## Latency, µs\n");
    table(
        results,
        page,
        &[
            ("p50", RATIO, |run| Some(run.latency_us.p50)),
            ("p90", PLAIN, |run| Some(run.latency_us.p90)),
            ("p99", RATIO, |run| Some(run.latency_us.p99)),
            ("p99.9", PLAIN, |run| Some(run.latency_us.p99_9)),
            ("max", PLAIN, |run| Some(run.latency_us.max)),
        ],
    );
}

fn memory(results: &Results, page: &mut Page) {
    if rows(results).next().is_none() {
        return;
    }
    page.line("## Memory of the servers at the end, MB\n");
    table(
        results,
        page,
        &[
            ("anonymous", RATIO, |run| {
                of_server(run, |used| used.memory.anonymous_bytes as f64 / MEGABYTE)
            }),
            ("with mapped files", RATIO, |run| {
                of_server(run, |used| used.memory.resident_bytes as f64 / MEGABYTE)
            }),
            ("at most", PLAIN, |run| {
                of_server(run, |used| used.memory.peak_bytes as f64 / MEGABYTE)
            }),
        ],
    );
    page.line("Where puts run as fast as they can, the faster server has written more by then.\n");
}

fn figures(results: &Results, page: &mut Page) {
    let scenarios = || results.scenarios.iter();
    if scenarios().all(|scenario| scenario.figures.is_empty()) {
        return;
    }
    page.line("## Other numbers\n");
    let mut head = vec![String::new(), "number".to_owned(), "unit".to_owned()];
    head.extend(titles(results, "", RATIO));
    page.head(&head);
    for scenario in scenarios() {
        for figure in &scenario.figures {
            let mut line = vec![
                scenario.what.clone(),
                figure.what.clone(),
                figure.unit.clone(),
            ];
            line.extend(cells(results, RATIO, |side| {
                results.figure(&scenario.name, &figure.name, side)
            }));
            page.row(&line);
        }
    }
    page.line("");
}

/// Bursts of stolen time that a page names, in milliseconds of all cores added up: less is an odd tick.
const BURST_TOLD_MS: u64 = 50;

fn stolen(results: &Results, page: &mut Page) {
    let mut lines = Vec::new();
    for turn in &results.turns {
        for phase in &turn.outcome.phases {
            let Some(stolen) = phase
                .run
                .stolen
                .filter(|stolen| stolen.burst_ms >= BURST_TOLD_MS)
            else {
                continue;
            };
            let side = turn.side.to_ascii_uppercase();
            let phase = match phase.name.as_str() {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            lines.push(format!(
                "- {}{phase}, {side}, turn {}: {} ms in all, {} ms at once, {:.1} s after the start",
                turn.scenario, turn.round, stolen.total_ms, stolen.burst_ms, stolen.burst_at
            ));
        }
    }
    if lines.is_empty() {
        return;
    }
    page.line("## CPU time that the host of this virtual machine gave to others\n");
    page.line(
        "Of all cores together. Nobody here runs then; whoever has requests has them late.\n",
    );
    for line in lines {
        page.line(&line);
    }
    page.line("");
}

fn failures(results: &Results, page: &mut Page) {
    let failed: Vec<_> = results
        .turns
        .iter()
        .filter_map(|turn| Some((turn, turn.outcome.failure.as_ref()?)))
        .collect();
    if failed.is_empty() {
        return;
    }
    page.line("## Turns that failed\n");
    for (turn, why) in failed {
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        let side = turn.side.to_ascii_uppercase();
        page.line(&format!(
            "- {}, {side}, turn {}: {why}",
            turn.scenario, turn.round
        ));
    }
    page.line("");
}

fn loads(results: &Results, page: &mut Page) {
    page.line("## What was run\n");
    let titles = [
        "",
        "name",
        "members",
        "connections × in flight",
        "keys",
        "value bytes",
        "written before",
        "servers",
    ];
    page.head(&titles.map(str::to_owned));
    for scenario in &results.scenarios {
        let load = |text: &dyn Fn(&crate::load::Load) -> String| {
            scenario.load.as_ref().map_or_else(|| "-".to_owned(), text)
        };
        let servers = match scenario.is_fresh {
            true => "new ones for each turn",
            false => "the same for all turns",
        };
        page.row(&[
            scenario.what.clone(),
            format!("`{}`", scenario.name),
            scenario.members.to_string(),
            load(&|load| format!("{} × {}", load.connections, load.in_flight)),
            load(&|load| load.keys.count.to_string()),
            load(&|load| load.keys.value_bytes.to_string()),
            scenario.written_before.clone(),
            servers.to_owned(),
        ]);
    }
}

/// The result of one run, for people.
pub(crate) fn run(run: &Run) -> String {
    let mut page = Page(String::new());
    let latency = run.latency_us;
    page.line(&format!(
        "{} operations in {:.2} s: {} per second",
        run.operations,
        run.seconds,
        short(run.per_second)
    ));
    page.line("latency, us");
    for (name, value) in [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("max", latency.max),
    ] {
        page.line(&format!("  {name:<6} {value:>12.1}"));
    }
    for (code, count) in &run.refused {
        page.line(&format!("refused with code {code}: {count}"));
    }
    if let Some(text) = &run.refusal {
        page.line(&format!("the server said: {text}"));
    }
    if run.unanswered > 0 {
        page.line(&format!("without an answer: {}", run.unanswered));
    }
    if run.conflicts > 0 {
        page.line(&format!("begun again after a conflict: {}", run.conflicts));
    }
    if run.events_per_second > 0.0 {
        page.line(&format!(
            "events: {} per second",
            short(run.events_per_second)
        ));
    }
    if let Some(used) = &run.server {
        page.line(&format!(
            "server: {} us CPU per operation ({} in the kernel), {:.2} cores, {:.1} MB resident ({:.1} anonymous)",
            short(used.cpu_us),
            short(used.cpu_system_us),
            used.cores,
            used.memory.resident_bytes as f64 / MEGABYTE,
            used.memory.anonymous_bytes as f64 / MEGABYTE
        ));
    }
    page.line(&format!(
        "generator: {} us CPU per operation",
        short(run.generator_cpu_us)
    ));
    page.0
}
