//! The service manager: it is told when the member is ready.
//!
//! Source: v3.7.1 `server/etcdmain/main.go` (`notifySystemd`).

use sd_notify::NotifyState;

use crate::log::{Level, Line};

/// Sends `READY=1` to the socket that `NOTIFY_SOCKET` names; without one nothing is sent.
pub fn notify_ready() {
    Line::info("notifying init daemon").write();
    match sd_notify::notify(&[NotifyState::Ready]) {
        Ok(()) => Line::info("successfully notified init daemon").write(),
        Err(error) => Line::new(Level::Error, "failed to notify systemd for readiness")
            .text("error", error)
            .write(),
    }
}
