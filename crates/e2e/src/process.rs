//! Processes: run one to its end, or keep one running and wait for what it writes.

use std::io::{BufRead as _, BufReader, PipeReader, Read, Write as _, pipe};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::machine_time::{MachineTime, wait_steps};

/// Lines that a process wrote so far, and whether it closed its outputs.
#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

type Shared = Arc<(Mutex<Written>, Condvar)>;

/// A process in the background. It is killed when this is dropped.
pub struct Process {
    child: Child,
    written: Shared,
}

impl Process {
    /// Starts `command` with an empty standard input and both outputs read as one.
    ///
    /// # Panics
    /// When it does not start.
    pub fn spawn(command: &mut Command) -> Self {
        Self::start(command, Stdio::null())
    }

    /// The same with an input that stays open and empty until [`Process::close_input`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn spawn_with_input(command: &mut Command) -> Self {
        Self::start(command, Stdio::piped())
    }

    fn start(command: &mut Command, input: Stdio) -> Self {
        let (reader, writer) = pipe().expect("a pipe");
        let second = writer.try_clone().expect("a second handle of the pipe");
        let child = command.stdin(input).stdout(writer).stderr(second).spawn();
        let child = child.unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        // The command keeps the writing ends; without them the pipe ends with the process.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let written = Shared::default();
        let shared = Arc::clone(&written);
        thread::spawn(move || collect(reader, &shared));
        Self { child, written }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the input.
    ///
    /// # Panics
    /// When the process has no input or does not take it.
    pub fn write(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("an open input");
        input.write_all(text.as_bytes()).expect("the process reads");
    }

    /// Ends the input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Everything written so far, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits until a line at or after number `from` contains `text`, and returns its number.
    /// None when the process ended or `limit` of [`MachineTime`] passed before that.
    pub fn wait_for(&self, text: &str, from: usize, limit: Duration) -> Option<usize> {
        let find = |written: &Written| {
            let later = written.lines.iter().enumerate().skip(from);
            later
                .filter(|(_, line)| line.contains(text))
                .map(|(number, _)| number)
                .next()
        };
        let written = self.wait_while(limit, |written| !written.ended && find(written).is_none());
        find(&written)
    }

    /// Waits until what was written is enough, or for `limit` of [`MachineTime`].
    fn wait_while(
        &self,
        limit: Duration,
        waiting: impl Fn(&Written) -> bool,
    ) -> MutexGuard<'_, Written> {
        let mut written = self.lock();
        for step in wait_steps(limit) {
            (written, _) = self
                .written
                .1
                .wait_timeout_while(written, step, |written| waiting(written))
                .expect("the reader does not panic");
        }
        written
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        // It may have ended by itself, which is the same here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        // A process that has ended by itself is found by whoever waits for it.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for the end: how it ended and how long that took, in [`MachineTime`]. None after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<(ExitStatus, Duration)> {
        let took = MachineTime::start();
        if !self.wait_while(limit, |written| !written.ended).ended {
            return None;
        }
        let status = self.child.wait().expect("our own child can be waited for");
        Some((status, took.elapsed()))
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.0.lock().expect("the reader does not panic")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(reader: PipeReader, shared: &Shared) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        shared
            .0
            .lock()
            .expect("readers do not panic")
            .lines
            .push(text);
        shared.1.notify_all();
        line.clear();
    }
    shared.0.lock().expect("readers do not panic").ended = true;
    shared.1.notify_all();
}

/// How a process ended that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code; none when a signal ended it, which is also what happens at the time limit.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `command` to its end, or kills it after `limit`.
///
/// # Panics
/// When it does not start.
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Outcome {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may close it, which is its own affair.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = read_all(child.stdout.take().expect("asked for"));
    let stderr = read_all(child.stderr.take().expect("asked for"));
    let texts = [stdout, stderr].map(|text| {
        let in_time = wait_steps(limit).find_map(|step| text.recv_timeout(step).ok());
        in_time.unwrap_or_else(|| {
            let _ = child.kill();
            text.recv().unwrap_or_default()
        })
    });
    let status = child.wait().expect("our own child can be waited for");
    let [stdout, stderr] = texts;
    Outcome {
        code: status.code(),
        stdout,
        stderr,
    }
}

fn read_all(mut reader: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        // Nobody waits any more when the test has failed already.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
