//! Results as a page: made from the raw numbers alone, so that it can be made again.

use std::fmt::Write;

use crate::compare::Comparison;
use crate::measure::{Run, ServerUse};

/// The page of a comparison, in Markdown.
pub(crate) fn page(comparison: &Comparison) -> String {
    let mut page = Page(String::new());
    let Comparison { a, b, machine, .. } = comparison;
    page.line(&format!("# {}\n", comparison.title));
    page.line("Made by `bench table` from the raw results beside this page; not edited by hand.\n");
    for note in &comparison.notes {
        page.line(&format!("- {note}"));
    }
    page.line(&format!(
        "- Machine: {}, {} cores, {:.0} GiB, Linux {}",
        machine.processor,
        machine.cores,
        machine.memory_bytes as f64 / GIBIBYTE,
        machine.kernel
    ));
    for (letter, side) in [('A', a), ('B', b)] {
        let version = side.version.join("; ");
        page.line(&format!("- {letter}: {} ({version})", side.name));
    }
    page.line(&format!(
        "- Each number is the median of {} runs of {} s after {} s of warm-up, A and B in turn, each run on a new \
         member with an empty data directory.",
        comparison.rounds, comparison.seconds, comparison.warm_up_seconds
    ));
    page.line(
        "- CPU is that of the server's process (user and kernel) by the kernel's accounting.",
    );
    page.line(&format!("\n```\n{}\n```\n", comparison.command));
    speed(comparison, &mut page);
    latency(comparison, &mut page);
    memory(comparison, &mut page);
    loads(comparison, &mut page);
    page.0
}

const GIBIBYTE: f64 = (1_u64 << 30) as f64;
const MEGABYTE: f64 = 1e6;

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn head(&mut self, cells: &[&str]) {
        self.row(
            &cells
                .iter()
                .map(|cell| (*cell).to_owned())
                .collect::<Vec<_>>(),
        );
        let rule = cells.iter().enumerate();
        let rule = rule.map(|(place, _)| if place == 0 { "---" } else { "---:" });
        self.row(&rule.map(str::to_owned).collect::<Vec<_>>());
    }
}

/// A number with three digits that matter.
fn short(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

fn ratio(a: f64, b: f64) -> String {
    if b == 0.0 {
        "-".to_owned()
    } else {
        format!("{:.2}", a / b)
    }
}

fn server(run: &Run, number: impl Fn(&ServerUse) -> f64) -> f64 {
    run.server.as_ref().map_or(0.0, number)
}

fn speed(comparison: &Comparison, page: &mut Page) {
    page.line("## Operations and CPU\n");
    page.head(&[
        "",
        "A op/s",
        "B op/s",
        "A/B",
        "A CPU µs/op",
        "B CPU µs/op",
        "A/B",
        "A kernel part",
        "B kernel part",
        "generator µs/op, A and B",
    ]);
    for scenario in &comparison.scenarios {
        let both = |number: &dyn Fn(&Run) -> f64| {
            ['a', 'b'].map(|side| comparison.median(&scenario.name, side, number))
        };
        let rate = both(&|run| run.per_second);
        let cpu = both(&|run| server(run, |used| used.cpu_us));
        let system = both(&|run| server(run, |used| used.cpu_system_us));
        let own = both(&|run| run.generator_cpu_us);
        page.row(&[
            scenario.what.clone(),
            short(rate[0]),
            short(rate[1]),
            ratio(rate[0], rate[1]),
            short(cpu[0]),
            short(cpu[1]),
            ratio(cpu[0], cpu[1]),
            short(system[0]),
            short(system[1]),
            format!("{}, {}", short(own[0]), short(own[1])),
        ]);
    }
    page.line("");
}

fn latency(comparison: &Comparison, page: &mut Page) {
    page.line("## Latency, µs\n");
    page.head(&[
        "", "A p50", "B p50", "A/B", "A p90", "B p90", "A p99", "B p99", "A p99.9", "B p99.9",
        "A max", "B max",
    ]);
    for scenario in &comparison.scenarios {
        let at = |side, number: fn(&Run) -> f64| comparison.median(&scenario.name, side, number);
        let both = |number: fn(&Run) -> f64| [short(at('a', number)), short(at('b', number))];
        let p50: fn(&Run) -> f64 = |run| run.latency_us.p50;
        let mut row = vec![scenario.what.clone()];
        row.extend(both(p50));
        row.push(ratio(at('a', p50), at('b', p50)));
        row.extend(both(|run| run.latency_us.p90));
        row.extend(both(|run| run.latency_us.p99));
        row.extend(both(|run| run.latency_us.p99_9));
        row.extend(both(|run| run.latency_us.max));
        page.row(&row);
    }
    page.line("");
}

fn memory(comparison: &Comparison, page: &mut Page) {
    page.line("## Memory of the server at the end, MB\n");
    page.head(&["", "A resident", "B resident", "A/B", "A peak", "B peak"]);
    for scenario in &comparison.scenarios {
        let at = |side, number: fn(&ServerUse) -> f64| {
            comparison.median(&scenario.name, side, |run| server(run, number)) / MEGABYTE
        };
        let resident: fn(&ServerUse) -> f64 = |used| used.memory.resident_bytes as f64;
        let peak: fn(&ServerUse) -> f64 = |used| used.memory.peak_bytes as f64;
        page.row(&[
            scenario.what.clone(),
            short(at('a', resident)),
            short(at('b', resident)),
            ratio(at('a', resident), at('b', resident)),
            short(at('a', peak)),
            short(at('b', peak)),
        ]);
    }
    page.line("\nThe faster server has written more by then: a put stays until compaction.\n");
}

fn loads(comparison: &Comparison, page: &mut Page) {
    page.line("## Loads\n");
    page.head(&[
        "",
        "connections",
        "in flight each",
        "keys",
        "value bytes",
        "written before",
    ]);
    for scenario in &comparison.scenarios {
        let load = &scenario.load;
        page.row(&[
            scenario.what.clone(),
            load.connections.to_string(),
            load.in_flight.to_string(),
            load.keys.to_string(),
            load.value_bytes.to_string(),
            scenario.written_before.clone(),
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
    if let Some(used) = &run.server {
        page.line(&format!(
            "server: {} us CPU per operation ({} in the kernel), {:.2} cores, {:.1} MB resident",
            short(used.cpu_us),
            short(used.cpu_system_us),
            used.cores,
            used.memory.resident_bytes as f64 / MEGABYTE
        ));
    }
    page.line(&format!(
        "generator: {} us CPU per operation",
        short(run.generator_cpu_us)
    ));
    page.0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::page;
    use crate::compare::Comparison;

    #[test]
    fn committed_pages_are_made_from_the_raw_results_beside_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks");
        let mut pages = 0;
        for file in fs::read_dir(folder).unwrap() {
            let raw = file.unwrap().path();
            if raw.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let comparison: Comparison = serde_json::from_slice(&fs::read(&raw).unwrap()).unwrap();
            let written = fs::read_to_string(raw.with_extension("md")).unwrap();
            assert_eq!(
                page(&comparison),
                written,
                "run bench table on {}",
                raw.display()
            );
            pages += 1;
        }
        assert!(pages > 0, "no results are committed");
    }
}
