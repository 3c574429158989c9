//! SIGTERM and SIGINT: the orderly end of the process.
//!
//! The first signal starts the shutdown, later ones are taken and forgotten. When the member has
//! stopped, the process ends by the same signal with the system's own action, so that its parent
//! sees the status of a signalled process (143 and 130 in a shell) and a service manager a clean
//! stop. A process with the id 1 cannot be ended that way and exits with 0.
//!
//! Source: v3.7.1 `pkg/osutil/interrupt_unix.go` (`HandleInterrupts`).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log::Line;

/// The process id whose signals the kernel does not act upon by itself.
const INIT_PROCESS: u32 = 1;

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

impl StopSignal {
    /// The signal by the name Go prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminated",
            Self::Interrupt => "interrupt",
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Terminate => SignalKind::terminate().as_raw_value(),
            Self::Interrupt => SignalKind::interrupt().as_raw_value(),
        }
    }

    /// Ends the process as the signal would have ended it.
    pub fn end_process(self) -> ! {
        if std::process::id() != INIT_PROCESS {
            // It returns only when the system does not know the signal.
            let _ = signal_hook::low_level::emulate_default_handler(self.number());
        }
        std::process::exit(0);
    }
}

/// The signals of the process, from the moment they are taken over.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over both signals. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn take_over() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and logs it.
    pub async fn next(&mut self) -> StopSignal {
        let signal = tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        };
        Line::info("received signal; shutting down")
            .field("signal", signal.name())
            .write();
        signal
    }
}
