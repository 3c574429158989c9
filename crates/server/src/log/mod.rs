//! The log: lines in the shape of etcd's logger.
//!
//! Two ways lead in. The core and everything that runs emit `tracing` events; start-up code that
//! reports lists or many fields writes a [`Line`]. Both end in the process's one logger, which
//! encodes a line and hands it to its outputs in one write, at once. Before [`init`] lines go to
//! standard error as JSON from the level `info` on, so nothing is lost and nothing that is not
//! JSON appears there.
//!
//! Unlike etcd's logger, this one does not drop lines that repeat within a second.
//!
//! Source: v3.7.1 `server/embed/config_logging.go` (`setupLogging`),
//! `client/pkg/logutil/zap.go`.

mod encode;
mod events;
mod line;
mod output;

use std::collections::BTreeSet;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tracing_subscriber::layer::SubscriberExt as _;

pub use line::{Level, Line};

use crate::config::Config;
use encode::Format;
use events::Events;
use output::Output;

/// The status of a process that ended in a panic, as in Go.
const PANIC_STATUS: i32 = 2;

/// The logger of the process; empty until [`init`].
static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `--log-level` is none of the levels.
    #[error("unrecognized level: {0:?}")]
    Level(String),
    /// `--log-format` is none of the formats.
    #[error("unknown log format: {0}, supported values json, console")]
    Format(String),
    /// A log file cannot be opened.
    #[error("couldn't open sink {path:?}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no journal on this machine.
    #[error("failed to connect to the journal: {0}")]
    Journal(io::Error),
    /// The log was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// Checks a value of `--log-level`.
///
/// # Errors
/// It is none of the levels.
pub fn check_level(text: &str) -> Result<Level, LogError> {
    Level::parse(text).ok_or_else(|| LogError::Level(text.to_owned()))
}

/// Checks a value of `--log-format`.
///
/// # Errors
/// It is none of the formats.
pub fn check_format(text: &str) -> Result<(), LogError> {
    Format::parse(text)
        .map(|_| ())
        .ok_or_else(|| LogError::Format(text.to_owned()))
}

/// Sets up the log of the process and the panic hook.
///
/// # Errors
/// The settings are wrong, an output cannot be opened, or the log was set up before.
pub fn init(config: &Config) -> Result<(), LogError> {
    let logger = Logger::open(config)?;
    let lowest = logger.lowest;
    LOGGER.set(logger).map_err(|_| LogError::Twice)?;
    let subscriber = tracing_subscriber::registry().with(Events { lowest });
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    take_over_panics();
    Ok(())
}

/// Makes a panic a line of the log and the end of the process, with status 2. [`init`] does it
/// too; a program calls it first of all, so that a panic before [`init`] is a line as well.
pub fn take_over_panics() {
    std::panic::set_hook(Box::new(end_with_panic));
}

impl Line {
    /// Writes the line to the log of the process, or to standard error before [`init`].
    pub fn write(&self) {
        static EARLY: Logger = Logger {
            lowest: Level::Info,
            format: Format::Json,
            outputs: Outputs::Early,
        };
        LOGGER.get().unwrap_or(&EARLY).write(self);
    }
}

/// A logger: what is written, how, and where to.
#[derive(Debug)]
struct Logger {
    lowest: Level,
    format: Format,
    outputs: Outputs,
}

/// Where a logger writes to.
#[derive(Debug)]
enum Outputs {
    /// Standard error, before anything is known.
    Early,
    /// What the settings say.
    Chosen(Vec<Output>),
}

impl Logger {
    fn open(config: &Config) -> Result<Self, LogError> {
        let settings = &config.log;
        let lowest = check_level(&settings.level)?;
        let format = Format::parse(&settings.format)
            .ok_or_else(|| LogError::Format(settings.format.clone()))?;
        Ok(Self {
            lowest,
            format,
            outputs: Outputs::Chosen(open_outputs(&settings.outputs)?),
        })
    }

    fn write(&self, line: &Line) {
        if line.level < self.lowest {
            return;
        }
        let encoded = self.format.encode(line, SystemTime::now());
        match &self.outputs {
            Outputs::Early => Output::Stderr.write(line, &encoded),
            Outputs::Chosen(outputs) => {
                for output in outputs {
                    output.write(line, &encoded);
                }
            }
        }
    }
}

/// Opens the outputs of `--log-outputs`. `/dev/null` among them discards everything, and two
/// names of standard error are one output.
fn open_outputs(names: &BTreeSet<String>) -> Result<Vec<Output>, LogError> {
    if names.contains("/dev/null") {
        return Ok(Vec::new());
    }
    let mut outputs = Vec::new();
    if names.is_empty() || names.contains("default") || names.contains("stderr") {
        outputs.push(Output::Stderr);
    }
    for name in names {
        match name.as_str() {
            "default" | "stderr" => {}
            "stdout" => outputs.push(Output::Stdout),
            "systemd/journal" => outputs.push(Output::journal().map_err(LogError::Journal)?),
            path => outputs.push(Output::file(path).map_err(|source| LogError::File {
                path: path.to_owned(),
                source,
            })?),
        }
    }
    Ok(outputs)
}

/// The present as log lines write it.
pub(crate) fn timestamp() -> String {
    let now = SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    encode::timestamp(now.unwrap_or_default())
}

/// A panic is a broken invariant: it is logged with its place and stack, and the process ends at
/// once, before another thread can act on what the panicking one left behind.
fn end_with_panic(info: &PanicHookInfo<'_>) {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    if PANICKED.swap(true, Ordering::SeqCst) {
        // A second panic, perhaps of the logger itself: the first one is the story.
        return;
    }
    let message = info
        .payload_as_str()
        .unwrap_or("panic without a message")
        .to_owned();
    let place = info.location().map_or_else(String::new, |place| {
        line::short_place(place.file(), place.line())
    });
    Line::at(Level::Panic, place, message)
        .text("thread", std::thread::current().name().unwrap_or("unnamed"))
        .text("stacktrace", std::backtrace::Backtrace::force_capture())
        .write();
    std::process::exit(PANIC_STATUS);
}

#[cfg(test)]
mod tests;
