//! One line of the log before it is written: level, place in the source, message, fields.

use std::borrow::Cow;
use std::panic::Location;

use serde_json::Value;

/// How serious a line is. The order is that of seriousness.
///
/// The two highest are written by a panic and by a start that fails; nothing is allowed to hide
/// behind a log level, so code that goes on running uses the lower four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For people who look for a fault.
    Debug,
    /// What an operator wants to read afterwards.
    Info,
    /// Something is odd, and the member goes on.
    Warn,
    /// Something failed, and the member goes on.
    Error,
    /// A broken invariant; the process ends.
    Panic,
    /// The member cannot run; the process ends.
    Fatal,
}

impl Level {
    /// The level as a line writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    /// Reads a value of `--log-level`: the names in lower or upper case; empty means `info`.
    ///
    /// Source: go.uber.org/zap `zapcore/level.go` (`Level.unmarshalText`), which also knows
    /// `dpanic`; a level between `error` and `panic` that this server never writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "" | "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "dpanic" | "panic" => Some(Self::Panic),
            "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    pub(super) level: Level,
    pub(super) caller: String,
    pub(super) message: Cow<'static, str>,
    pub(super) fields: Vec<(Cow<'static, str>, Value)>,
}

impl Line {
    /// A line that names its caller as the place in the source.
    #[track_caller]
    pub fn new(level: Level, message: impl Into<Cow<'static, str>>) -> Self {
        let place = Location::caller();
        Self::at(level, short_place(place.file(), place.line()), message)
    }

    /// A line of the level `info`.
    #[track_caller]
    pub fn info(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Info, message)
    }

    /// A line of the level `warn`.
    #[track_caller]
    pub fn warn(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Warn, message)
    }

    /// A line of the level `fatal`; ending the process is left to the caller.
    #[track_caller]
    pub fn fatal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Level::Fatal, message)
    }

    pub(super) fn at(level: Level, caller: String, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            level,
            caller,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// Adds a field. Fields keep their order.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds a field that is printed as text.
    #[must_use]
    pub fn text(self, name: impl Into<Cow<'static, str>>, value: impl std::fmt::Display) -> Self {
        self.field(name, value.to_string())
    }

    /// Adds a field of a list of texts.
    #[must_use]
    pub fn texts<T: ToString>(
        self,
        name: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        let values: Vec<Value> = values
            .into_iter()
            .map(|value| Value::String(value.to_string()))
            .collect();
        self.field(name, values)
    }

    /// How serious the line is.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The value of a field.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value)
    }
}

/// The place of a line in the source, as `server/runtime.rs:123`: for our own code the crate's
/// folder and the path inside `src`, for other code the last two parts of the path.
pub(super) fn short_place(file: &str, line: u32) -> String {
    if let Some((folder, rest)) = file.rsplit_once("/src/") {
        let name = folder.rsplit_once('/').map_or(folder, |(_, name)| name);
        if file.starts_with("crates/") || file.contains("/crates/") {
            return format!("{name}/{rest}:{line}");
        }
    }
    let mut parts = file.rsplitn(3, '/');
    match (parts.next(), parts.next()) {
        (Some(name), Some(folder)) => format!("{folder}/{name}:{line}"),
        _ => format!("{file}:{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::short_place;

    #[test]
    fn a_place_is_short_and_tells_the_crate() {
        let check = |file: &str, place: &str| assert_eq!(short_place(file, 7), place);
        check(
            "crates/server/src/runtime/mod.rs",
            "server/runtime/mod.rs:7",
        );
        check("/build/crates/server/src/main.rs", "server/main.rs:7");
        check(
            "/registry/src/index/h2-0.4.20/src/codec/framed_read.rs",
            "codec/framed_read.rs:7",
        );
        check("main.rs", "main.rs:7");
    }
}
