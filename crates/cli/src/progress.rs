//! A bar for long work, on a terminal only: whoever pipes standard error away wants no bar in it.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::go;

/// Shortest time between two pictures.
const REDRAW: Duration = Duration::from_millis(100);
/// Width of the bar between its brackets, in characters.
const WIDTH: u64 = 40;

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown with decimal units.
    Bytes,
    /// Things of this name.
    Things(&'static str),
}

/// A bar on standard error. It vanishes when it is dropped.
#[derive(Debug)]
pub struct Progress {
    is_shown: bool,
    unit: Unit,
    done: u64,
    /// 0 while it is not known.
    total: u64,
    started: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// A bar that ends at `total`; 0: the end is not known.
    pub fn new(unit: Unit, total: u64) -> Self {
        Self {
            is_shown: std::io::stderr().is_terminal(),
            unit,
            done: 0,
            total,
            started: Instant::now(),
            drawn: None,
        }
    }

    /// Moves it on.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        let now = Instant::now();
        let is_due = self.drawn.is_none_or(|drawn| now - drawn >= REDRAW);
        if self.is_shown && is_due {
            self.drawn = Some(now);
            let seconds = (now - self.started).as_secs_f64();
            let picture = picture(self.unit, self.done, self.total, seconds);
            // A terminal that went away is none of this work's business.
            let _ = write!(std::io::stderr(), "\r\x1b[K{picture}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn picture(unit: Unit, done: u64, total: u64, seconds: f64) -> String {
    let amount = |amount: u64| match unit {
        Unit::Bytes => go::bytes_short(amount),
        Unit::Things(_) => amount.to_string(),
    };
    let rate = if seconds > 0.0 {
        done as f64 / seconds
    } else {
        0.0
    };
    let name = match unit {
        Unit::Bytes => String::new(),
        Unit::Things(name) => format!(" {name}"),
    };
    let rate = amount(rate as u64);
    if total == 0 {
        return format!("{}{name}, {rate}/s", amount(done));
    }
    let share = done.min(total) as f64 / total as f64;
    let full = (share * WIDTH as f64) as usize;
    let bar = "=".repeat(full);
    format!(
        "[{bar:<0$}] {1:3.0}% {2} of {3}{name}, {rate}/s",
        WIDTH as usize,
        share * 100.0,
        amount(done),
        amount(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_share_amount_and_rate() {
        let half = picture(Unit::Bytes, 50_000, 100_000, 1.0);
        let bar = format!("[{}{}]", "=".repeat(20), " ".repeat(20));
        assert_eq!(half, format!("{bar}  50% 50 kB of 100 kB, 50 kB/s"));
        assert_eq!(picture(Unit::Things("keys"), 7, 0, 0.0), "7 keys, 0/s");
        // More than was announced is no more than all.
        assert!(picture(Unit::Things("keys"), 9, 3, 1.0).contains("100%"));
    }
}
