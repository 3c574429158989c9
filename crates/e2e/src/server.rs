//! A server process of a test: own ports, own folder, killed and cleaned up at the end.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::machine_time::MachineTime;
use crate::peers::Subject;
use crate::process::Process;

/// How long a start may take on a busy machine.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a process may take to end after a signal before the test calls it a hang.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at something that only shows by asking.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Ports are taken from here upwards: below the ones that the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u32> = 18_000..32_000;

/// A lone member on a port of its own.
pub struct Server {
    subject: Subject,
    binary: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    scheme: &'static str,
    port: u16,
    process: Option<Process>,
    /// Log of the processes that have ended.
    earlier: Vec<String>,
}

impl Server {
    /// Starts a member on an empty data directory and waits until it serves. None when the
    /// subject's binary is not to be had, which is then on record as a skip.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(subject: Subject, flags: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(subject, flags)?;
        server.launch();
        server.wait_ready();
        Some(server)
    }

    /// The same with TLS on the client's port; the flags name the files.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_secure(subject: Subject, flags: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(subject, flags)?;
        server.scheme = "https";
        server.launch();
        server.wait_ready();
        Some(server)
    }

    /// Chooses folder and port without starting anything.
    pub fn prepare(subject: Subject, flags: &[&str]) -> Option<Self> {
        let binary = subject.etcd()?;
        let folder = new_folder();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let port = free_port();
        Some(Self {
            subject,
            binary,
            folder,
            flags,
            scheme: "http",
            port,
            process: None,
            earlier: Vec::new(),
        })
    }

    /// Starts the process and does not wait.
    ///
    /// # Panics
    /// When one is running already.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        self.process = Some(Process::spawn(&mut self.command(self.port)));
    }

    /// The command line that starts a member on this server's data, serving clients on `port`.
    pub fn command(&self, port: u16) -> Command {
        self.command_line(port, &self.data_directory())
    }

    /// The command line that starts this server on another one's data.
    pub fn command_on(&self, data: &Path) -> Command {
        self.command_line(self.port, data)
    }

    fn command_line(&self, port: u16, data: &Path) -> Command {
        let endpoint = format!("{}://127.0.0.1:{port}", self.scheme);
        let mut command = Command::new(&self.binary);
        // What the environment of the developer says must not change what is tested.
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .current_dir(&self.folder)
            .arg("--data-dir")
            .arg(data);
        command.args([
            "--listen-client-urls",
            &endpoint,
            "--advertise-client-urls",
            &endpoint,
        ]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:0"]);
        if self.subject == Subject::Official3423 {
            command.args(["--logger", "zap"]);
        }
        command.args(&self.flags);
        command
    }

    /// Waits until the process says that it serves clients.
    ///
    /// # Panics
    /// When it ends or takes too long instead.
    pub fn wait_ready(&self) {
        let ready = self
            .process()
            .wait_for(self.subject.ready_line(), 0, START_LIMIT);
        assert!(ready.is_some(), "not ready:\n{}", self.log().join("\n"));
    }

    /// Waits until the member has written the version of its storage down: official 3.7 does so some
    /// seconds after it serves, and tells of it in its status and its database.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_storage_version(&self) {
        let written = self.subject != Subject::Official371
            || self.logs("updated storage version", START_LIMIT);
        assert!(written, "no storage version:\n{}", tail(&self.log()));
    }

    /// Waits until `look` sees something.
    ///
    /// # Panics
    /// When it sees nothing in time.
    pub fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        wait_for(what, look, || tail(&self.log()))
    }

    /// Waits for a line of the running process that contains `text`.
    pub fn logs(&self, text: &str, limit: Duration) -> bool {
        self.process().wait_for(text, 0, limit).is_some()
    }

    /// Waits for a line that contains `text` and that the running process has not written yet.
    pub fn logs_next(&self, text: &str, limit: Duration) -> bool {
        let from = self.process().lines().len();
        self.process().wait_for(text, from, limit).is_some()
    }

    /// How many lines processes wrote that have ended.
    pub fn earlier_lines(&self) -> usize {
        self.earlier.len()
    }

    /// Which server this is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Port of the client API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of the client API.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Where the member keeps its data.
    pub fn data_directory(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The newest file of the write-ahead log.
    ///
    /// # Panics
    /// When there is none.
    pub fn last_wal(&self) -> PathBuf {
        let mut files: Vec<PathBuf> = fs::read_dir(self.data_directory().join("member/wal"))
            .expect("the folder of the log")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        files.sort();
        files.pop().expect("a log has a file")
    }

    /// Every line that this and earlier processes of the server wrote.
    pub fn log(&self) -> Vec<String> {
        let mut lines = self.earlier.clone();
        lines.extend(self.process.iter().flat_map(Process::lines));
        lines
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Ends the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.earlier.extend(process.lines());
        }
    }

    /// Ends the process with SIGTERM: how it ended and how long it took.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.process().terminate();
        self.wait_exit()
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait_exit(&mut self) -> (ExitStatus, Duration) {
        let mut process = self.process.take().expect("the server runs");
        let ended = process.wait_exit(STOP_LIMIT);
        self.earlier.extend(process.lines());
        ended.unwrap_or_else(|| panic!("still running:\n{}", self.earlier.join("\n")))
    }

    /// Whether the process has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Starts again on the same data and the same port, and waits until it serves.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
        self.wait_ready();
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the server runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The log goes into the report of the failed test, the data stays to be looked at.
            eprintln!("data: {}\n{}", self.folder.display(), tail(&self.earlier));
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits until `look` sees something; `story` is told when it sees nothing in time.
pub(crate) fn wait_for<T>(
    what: &str,
    look: impl Fn() -> Option<T>,
    story: impl Fn() -> String,
) -> T {
    if let Some(seen) = look() {
        return seen;
    }
    let waited = MachineTime::start();
    while waited.elapsed() < START_LIMIT {
        sleep(LOOK_AGAIN);
        if let Some(seen) = look() {
            return seen;
        }
    }
    panic!("no {what}:\n{}", story());
}

fn tail(lines: &[String]) -> String {
    const SHOWN: usize = 40;
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// An empty folder of the caller's own. It is the caller's to remove.
///
/// # Panics
/// When it cannot be made.
pub fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("kvorum-e2e-{}-{number}", std::process::id());
    let folder = Path::new(&std::env::temp_dir()).join(name);
    fs::create_dir_all(&folder).expect("a folder below the temporary one");
    folder
}

/// A port that nobody listens on. Processes begin their search at different places, so that two
/// test runs on one machine seldom meet; a lost race shows as a failed start.
///
/// # Panics
/// When no port is free.
pub fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let length = PORTS.end - PORTS.start;
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..length {
        let step = COUNT.fetch_add(1, Ordering::Relaxed);
        let port = (PORTS.start + start.wrapping_add(step) % length) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
