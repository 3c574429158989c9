//! Prometheus' text format 0.0.4, byte for byte as Go's client library writes it.

use super::family::{Family, FamilyValue};
use super::value::{Counter, Gauge, Histogram};

/// Value of the Content-Type header for this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Collects the text of whole metrics and puts them in the order of their names.
#[derive(Debug, Default)]
pub(super) struct TextWriter {
    metrics: Vec<(&'static str, String)>,
}

/// A metric that can be written.
pub(super) trait Metric {
    /// The word behind `# TYPE`.
    const TYPE: &'static str;

    /// Writes the samples, without HELP and TYPE.
    fn samples(&self, name: &str, text: &mut String);
}

impl TextWriter {
    /// Adds one metric. One without samples leaves nothing behind.
    pub(super) fn metric<M: Metric>(&mut self, name: &'static str, help: &str, metric: &M) {
        self.samples(name, help, M::TYPE, |text| metric.samples(name, text));
    }

    /// Adds one metric whose samples `write` writes.
    pub(super) fn samples(
        &mut self,
        name: &'static str,
        help: &str,
        kind: &str,
        write: impl FnOnce(&mut String),
    ) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let header = text.len();
        write(&mut text);
        if text.len() > header {
            self.metrics.push((name, text));
        }
    }

    /// The text of all metrics.
    pub(super) fn finish(mut self) -> String {
        self.metrics.sort_by_key(|(name, _)| *name);
        self.metrics.into_iter().map(|(_, text)| text).collect()
    }
}

/// Writes one line.
pub(super) fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    text.push_str(name);
    for (place, (label, value)) in labels.iter().enumerate() {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        text.push(if place == 0 { '{' } else { ',' });
        text.push_str(label);
        text.push_str("=\"");
        text.push_str(&value);
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    text.push(' ');
    text.push_str(&go_float(value));
    text.push('\n');
}

/// A float as Go's `%g` writes it: the shortest digits that read back, an exponent from a million on.
pub(super) fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (SMALLEST_PLAIN_EXPONENT..LARGEST_PLAIN_EXPONENT).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Numbers whose decimal exponent lies below the first or is the second or more are written with an exponent.
/// Source: Go `strconv/ftoa.go`, `%g` with the shortest precision; Prometheus' text encoder uses it.
const SMALLEST_PLAIN_EXPONENT: i32 = -4;
const LARGEST_PLAIN_EXPONENT: i32 = 6;

/// Writes the buckets, sum and count of a histogram.
pub(super) fn histogram_samples(
    text: &mut String,
    name: &str,
    labels: &[(&str, &str)],
    histogram: &Histogram,
) {
    let bucket = format!("{name}_bucket");
    let cumulative = histogram.cumulative();
    for (bound, count) in &cumulative {
        let bound = go_float(*bound);
        let labels: Vec<_> = labels
            .iter()
            .copied()
            .chain([("le", bound.as_str())])
            .collect();
        sample(text, &bucket, &labels, *count as f64);
    }
    let count = cumulative.last().map_or(0, |(_, count)| *count);
    sample(text, &format!("{name}_sum"), labels, histogram.sum());
    sample(text, &format!("{name}_count"), labels, count as f64);
}

/// A value with or without labels.
pub(super) trait LabelledSamples {
    const TYPE: &'static str;
    fn labelled(&self, text: &mut String, name: &str, labels: &[(&str, &str)]);
}

impl LabelledSamples for Counter {
    const TYPE: &'static str = "counter";
    fn labelled(&self, text: &mut String, name: &str, labels: &[(&str, &str)]) {
        sample(text, name, labels, self.value() as f64);
    }
}

impl LabelledSamples for Gauge {
    const TYPE: &'static str = "gauge";
    fn labelled(&self, text: &mut String, name: &str, labels: &[(&str, &str)]) {
        sample(text, name, labels, self.value());
    }
}

impl LabelledSamples for Histogram {
    const TYPE: &'static str = "histogram";
    fn labelled(&self, text: &mut String, name: &str, labels: &[(&str, &str)]) {
        histogram_samples(text, name, labels, self);
    }
}

impl<T: LabelledSamples> Metric for T {
    const TYPE: &'static str = <T as LabelledSamples>::TYPE;

    fn samples(&self, name: &str, text: &mut String) {
        self.labelled(text, name, &[]);
    }
}

impl<T: LabelledSamples + FamilyValue> Metric for Family<T> {
    const TYPE: &'static str = T::TYPE;

    fn samples(&self, name: &str, text: &mut String) {
        self.each(|labels, value| value.labelled(text, name, labels));
    }
}
