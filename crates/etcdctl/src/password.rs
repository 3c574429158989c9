//! Passwords that a person types.

use std::io::{BufRead as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// Exit code when the person gives up.
const GIVEN_UP: i32 = 255;

/// Shows a prompt and reads a line, which a terminal does not show. An input that has ended is an
/// empty line.
///
/// # Errors
/// The input cannot be read.
pub(crate) async fn ask(prompt: &str) -> Result<String, String> {
    let mut out = std::io::stdout();
    // Before the prompt: a script types as soon as it sees it, and nothing of that may be shown.
    let quiet = Quiet::start();
    // Nobody reads the prompt when this fails; the line may come all the same.
    let _ = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = read => line,
        () = stopped() => {
            drop(quiet);
            std::process::exit(GIVEN_UP);
        }
    };
    drop(quiet);
    // The line feed that was typed was not shown.
    let _ = out.write_all(b"\n").and_then(|()| out.flush());
    let failed = |error: String| format!("failed during password entry: {error}");
    let line = line.map_err(|error| failed(error.to_string()))?;
    let line = line.map_err(|error| failed(error.to_string()))?;
    Ok(line.trim().to_owned())
}

/// SIGINT, SIGTERM or SIGHUP.
async fn stopped() {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// A terminal that does not show what is typed, until this is dropped. It keeps what was typed ahead.
struct Quiet(Option<Termios>);

impl Quiet {
    fn start() -> Self {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Self(None);
        }
        let Ok(before) = tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        let changed = tcsetattr(&stdin, OptionalActions::Now, &quiet);
        Self(changed.is_ok().then_some(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that went away needs no repair.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
