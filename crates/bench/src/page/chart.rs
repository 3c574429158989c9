//! Drawings as SVG text: bars of ratios, and lines over time. No more than a page of results needs.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const TEXT: &str = "font-family=\"sans-serif\" font-size=\"12\"";
const COLOURS: [&str; 6] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#7f7f7f",
];

/// A ratio under a name; none where one of the two was not measured.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) ratio: f64,
}

/// Numbers over time under a name.
pub(super) struct Line {
    pub(super) label: String,
    /// The same number of both sides has the same colour.
    pub(super) colour: usize,
    /// Whose it is.
    pub(super) is_dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// Horizontal bars that begin at 1 and grow to the right for more, to the left for less, on a logarithmic scale.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    const LABELS: f64 = 470.0;
    const ROW: f64 = 20.0;
    const TOP: f64 = 60.0;
    const END: f64 = 50.0;
    let largest = bars.iter().map(|bar| bar.ratio.ln().abs());
    let scale = largest.fold(2.0_f64.ln(), f64::max);
    let (left, right) = (LABELS + 10.0, WIDTH - END);
    let least = bars.iter().map(|bar| bar.ratio.ln()).fold(0.0, f64::min);
    // Where nothing is less than 1, all the width is for what is more.
    let from = if least < 0.0 { -scale } else { 0.0 };
    let x = |ratio: f64| left + (ratio.ln() - from) / (scale - from) * (right - left);
    let height = TOP + bars.len() as f64 * ROW + 10.0;
    let mut drawing = Drawing::new(title, height);
    for tick in [
        0.01, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0_f64,
    ] {
        if tick.ln() >= from - 1e-9 && tick.ln() <= scale + 1e-9 {
            drawing.grid(x(tick), TOP - 6.0, x(tick), height - 8.0);
            drawing.text(x(tick), TOP - 12.0, "middle", &format!("{tick}"));
        }
    }
    for (place, bar) in bars.iter().enumerate() {
        let y = TOP + place as f64 * ROW;
        let (start, end) = (x(1.0).min(x(bar.ratio)), x(1.0).max(x(bar.ratio)));
        let colour = COLOURS[usize::from(bar.ratio < 1.0)];
        drawing.text(LABELS, y + 11.0, "end", &bar.label);
        drawing.add(&format!(
            "<rect x=\"{start:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>",
            end - start
        ));
        drawing.text(
            end + 4.0,
            y + 11.0,
            "start",
            &super::table::short(bar.ratio),
        );
    }
    drawing.end()
}

/// Lines over seconds. A logarithmic scale shows small numbers beside large ones.
pub(super) fn lines(title: &str, unit: &str, lines: &[Line], is_logarithmic: bool) -> String {
    const LEFT: f64 = 80.0;
    const TOP: f64 = 60.0;
    const PLOT: f64 = 300.0;
    const LEGEND_ROW: f64 = 18.0;
    let points = || lines.iter().flat_map(|line| &line.points);
    let seconds = points()
        .map(|(at, _)| *at)
        .fold(f64::MIN_POSITIVE, f64::max);
    let most = points()
        .map(|(_, number)| *number)
        .fold(f64::MIN_POSITIVE, f64::max);
    let positive = points()
        .map(|(_, number)| *number)
        .filter(|number| *number > 0.0);
    let least = positive.fold(most, f64::min);
    // Whole decades.
    let (low, high) = (
        least.log10().floor(),
        most.log10().ceil().max(least.log10().floor() + 1.0),
    );
    let (right, bottom) = (WIDTH - 20.0, TOP + PLOT);
    let x = |at: f64| LEFT + at / seconds * (right - LEFT);
    let y = |number: f64| {
        let part = if is_logarithmic {
            (number.max(least).log10() - low) / (high - low)
        } else {
            number / most
        };
        bottom - part * PLOT
    };
    let height = bottom + 40.0 + lines.len() as f64 * LEGEND_ROW;
    let mut drawing = Drawing::new(title, height);
    let ticks: Vec<f64> = if is_logarithmic {
        (low as i32..=high as i32)
            .map(|power| 10_f64.powi(power))
            .collect()
    } else {
        (0..=4)
            .map(|quarter| most * f64::from(quarter) / 4.0)
            .collect()
    };
    for tick in ticks {
        drawing.grid(LEFT, y(tick), right, y(tick));
        drawing.text(LEFT - 6.0, y(tick) + 4.0, "end", &super::table::short(tick));
    }
    for quarter in 0..=4 {
        let at = seconds * f64::from(quarter) / 4.0;
        drawing.text(x(at), bottom + 16.0, "middle", &format!("{at:.1} s"));
    }
    drawing.text(LEFT - 6.0, TOP - 14.0, "end", unit);
    for (place, line) in lines.iter().enumerate() {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let dashes = match line.is_dashed {
            true => " stroke-dasharray=\"5 4\"",
            false => "",
        };
        let mut path = String::new();
        for (at, number) in &line.points {
            // Writing to a string does not fail.
            let _ = write!(path, "{:.1},{:.1} ", x(*at), y(*number));
        }
        drawing.add(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes}/>",
            path.trim_end()
        ));
        let legend = bottom + 36.0 + place as f64 * LEGEND_ROW;
        drawing.add(&format!(
            "<line x1=\"{LEFT}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            legend - 4.0,
            LEFT + 18.0,
            legend - 4.0
        ));
        drawing.text(LEFT + 22.0, legend, "start", &line.label);
    }
    drawing.end()
}

struct Drawing(String);

impl Drawing {
    fn new(title: &str, height: f64) -> Self {
        let mut drawing = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\">\n"
        ));
        drawing.add("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
        drawing.text(WIDTH / 2.0, 20.0, "middle", title);
        drawing
    }

    fn add(&mut self, element: &str) {
        self.0.push_str(element);
        self.0.push('\n');
    }

    fn grid(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        self.add(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>"
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.add(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {TEXT}>{text}</text>"
        ));
    }

    fn end(mut self) -> String {
        self.add("</svg>");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Line, bars, lines};

    #[test]
    fn bars_grow_to_both_sides_of_one() {
        let bar = |label: &str, ratio| Bar {
            label: label.to_owned(),
            ratio,
        };
        let drawing = bars("ratios", &[bar("a < b", 4.0), bar("c", 0.25)]);
        let width = |colour: &str| {
            let rect = drawing.lines().find(|line| line.contains(colour)).unwrap();
            let (_, rest) = rect.split_once("width=\"").unwrap();
            let (width, _) = rest.split_once('"').unwrap();
            width.parse::<f64>().unwrap()
        };
        assert!(drawing.contains(">a &lt; b</text>"), "{drawing}");
        assert!(
            (width("#1f77b4") - width("#d62728")).abs() < 0.2,
            "{drawing}"
        );
    }

    #[test]
    fn lines_stay_within_the_plot() {
        let line = Line {
            label: "p99".to_owned(),
            colour: 0,
            is_dashed: true,
            points: vec![(0.0, 100.0), (1.0, 0.0), (2.0, 90_000.0)],
        };
        for is_logarithmic in [false, true] {
            let drawing = lines("time", "us", std::slice::from_ref(&line), is_logarithmic);
            let polyline = drawing
                .lines()
                .find(|line| line.starts_with("<polyline"))
                .unwrap();
            let points = polyline.split('"').nth(1).unwrap();
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!(
                    (80.0..=840.0).contains(&x) && (60.0..=360.0).contains(&y),
                    "{point}"
                );
            }
        }
    }
}
