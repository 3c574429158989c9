//! What happened, one line per step of the scheduler.
//!
//! The same seed gives the same lines, byte for byte: they hold virtual time, numbers and names, never an address, a
//! wall clock or the order of a random map. A run that nobody watches writes none.

use kvorum_proto::ids::Moment;

/// The lines of one run.
#[derive(Debug, Default)]
pub struct EventLog {
    lines: Option<Vec<String>>,
}

impl EventLog {
    /// A log that keeps its lines, or one that keeps none.
    #[must_use]
    pub fn new(keeps_lines: bool) -> Self {
        Self {
            lines: keeps_lines.then(Vec::new),
        }
    }

    /// Writes a line; `text` is asked for only when it is kept.
    pub fn line(&mut self, at: Moment, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let micros = at.0.as_micros();
            lines.push(format!(
                "{:4}.{:06} {}",
                micros / 1_000_000,
                micros % 1_000_000,
                text()
            ));
        }
    }

    /// Whether lines are kept.
    #[must_use]
    pub fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
