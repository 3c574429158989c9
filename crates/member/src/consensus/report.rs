//! What the raft crate has to say goes to `tracing`, like everything else.

/// Hands the crate's lines on; what is below information was compiled out or is dropped here.
struct Report;

impl slog::Drain for Report {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let line = record.msg();
        match record.level() {
            slog::Level::Critical | slog::Level::Error => tracing::error!(target: "raft", "{line}"),
            slog::Level::Warning => tracing::warn!(target: "raft", "{line}"),
            slog::Level::Info => tracing::info!(target: "raft", "{line}"),
            slog::Level::Debug | slog::Level::Trace => {}
        }
        Ok(())
    }
}

/// The logger that the crate asks for.
pub(super) fn logger() -> slog::Logger {
    slog::Logger::root(Report, slog::o!())
}
