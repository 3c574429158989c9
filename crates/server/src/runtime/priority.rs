//! Which threads may wait for a processor.

use tracing::debug;

/// How much nicer background threads are: against a thread of usual priority they get about a quarter of a processor, and
/// all of it when nobody else wants one. More would let a busy machine starve them, and with them what they free.
const NICER: i32 = 5;

/// Lets the calling thread give way to those that clients wait for. A thread that may not do so goes on as it is.
pub(crate) fn lower_priority() {
    // On Linux niceness belongs to a thread, not to its process.
    if let Err(error) = rustix::process::nice(NICER) {
        debug!(%error, "a background thread keeps its priority");
    }
}
