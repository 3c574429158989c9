//! The bridge from `tracing`: every event of the core and of the libraries becomes a line.
//!
//! Names of fields are turned from `local_member_id` into `local-member-id`, which is how etcd
//! writes them. Events of other people's crates are taken from the level `warn` on, so that the
//! level `debug` shows what the member does and not each frame of a connection.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{Level, Line, short_place};

/// Targets that are this project's own.
const OWN_TARGETS: [&str; 2] = ["kvorum", "etcd"];

/// Turns events into lines of the process's log.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) lowest: Level,
}

impl Events {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let Some(level) = level_of(metadata) else {
            return false;
        };
        let own = OWN_TARGETS
            .iter()
            .any(|target| metadata.target().starts_with(target));
        !metadata.is_span() && level >= self.lowest && (own || level >= Level::Warn)
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.lowest {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
            Level::Panic | Level::Fatal => LevelFilter::OFF,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(level) = level_of(metadata) else {
            return;
        };
        let place = short_place(metadata.file().unwrap_or(""), metadata.line().unwrap_or(0));
        let mut fields = Fields {
            line: Line::at(level, place, ""),
        };
        event.record(&mut fields);
        fields.line.write();
    }
}

/// The level of an event; `None` for the level `trace`, which etcd does not have.
fn level_of(metadata: &Metadata<'_>) -> Option<Level> {
    match *metadata.level() {
        tracing::Level::ERROR => Some(Level::Error),
        tracing::Level::WARN => Some(Level::Warn),
        tracing::Level::INFO => Some(Level::Info),
        tracing::Level::DEBUG => Some(Level::Debug),
        tracing::Level::TRACE => None,
    }
}

/// Collects the fields of an event.
struct Fields {
    line: Line,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            self.line.message = text.into();
            return;
        }
        let name = field.name().replace('_', "-");
        self.line.fields.push((name.into(), value));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}
