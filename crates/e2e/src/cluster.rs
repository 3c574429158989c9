//! Several members on this machine, each a process of its own, ours and official ones mixed as the test wants.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::MutexGuard;
use std::time::Duration;

use rustix::process::Signal;

use crate::hosts::Hosts;
use crate::network::Residents;
use crate::peers::{Subject, peer};
use crate::process::{Outcome, Process, run};
use crate::server::{START_LIMIT, free_port, new_folder, wait_for};

/// How long a process may take to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// How long a command of etcdctl may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What a member says of every change while it is not connected with all others, and for five seconds afterwards.
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";

/// One member.
struct Node {
    subject: Subject,
    binary: PathBuf,
    name: String,
    /// Address of the host that it runs on.
    host: String,
    client_port: u16,
    peer_port: u16,
    /// Where peers are told to reach it: its own port, or something in between.
    advertised_peer_port: u16,
    /// `https` where peers speak TLS.
    peer_scheme: &'static str,
    flags: Vec<String>,
    /// What starts the binary, before its own name; empty for nothing.
    wrapper: Vec<String>,
    process: Option<Process>,
    earlier: Vec<String>,
}

/// A cluster; killed and cleaned up at the end.
pub struct Cluster {
    etcdctl: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
    /// Members that there ever were: each has a name of its own.
    named: usize,
    flags: Vec<String>,
    residents: Residents,
}

impl Node {
    /// Where peers reach it.
    fn peer_url(&self) -> String {
        let (scheme, port) = (self.peer_scheme, self.advertised_peer_port);
        format!("{scheme}://{}:{port}", self.host)
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub member: u64,
    /// Who leads, as it knows; 0 for nobody.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// The revision of its store.
    pub revision: i64,
    /// The last entry it applied.
    pub applied: u64,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl Cluster {
    /// Chooses ports and folders for these members without starting any. None when a binary is not to be had, which
    /// is then on record as a skip.
    pub fn prepare(subjects: &[Subject], flags: &[&str]) -> Option<Self> {
        let mut cluster = Self {
            etcdctl: peer("etcd-3.7.1", "etcdctl")?,
            folder: new_folder(),
            nodes: Vec::new(),
            named: 0,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            residents: Residents::default(),
        };
        for &subject in subjects {
            cluster.prepare_node(subject)?;
        }
        cluster.list_all();
        Some(cluster)
    }

    /// Starts a new cluster of these members and waits until all serve.
    ///
    /// # Panics
    /// When one does not become ready.
    pub fn start(subjects: &[Subject], flags: &[&str]) -> Option<Self> {
        let mut cluster = Self::prepare(subjects, flags)?;
        cluster.launch_all();
        Some(cluster)
    }

    /// Starts all members and waits until they serve.
    ///
    /// # Panics
    /// When one runs already or does not become ready.
    pub fn launch_all(&mut self) {
        for place in 0..self.size() {
            self.launch(place);
        }
        for place in 0..self.size() {
            self.wait_ready(place);
        }
    }

    /// Chooses ports for one more member; its place.
    fn prepare_node(&mut self, subject: Subject) -> Option<usize> {
        let binary = subject.etcd()?;
        let peer_port = free_port();
        self.nodes.push(Node {
            subject,
            binary,
            name: format!("n{}", self.named),
            host: "127.0.0.1".to_owned(),
            client_port: free_port(),
            peer_port,
            advertised_peer_port: peer_port,
            peer_scheme: "http",
            flags: Vec::new(),
            wrapper: Vec::new(),
            process: None,
            earlier: Vec::new(),
        });
        self.named += 1;
        Some(self.nodes.len() - 1)
    }

    /// The list of all members, as flags give it.
    pub fn list(&self) -> String {
        let parts = self
            .nodes
            .iter()
            .map(|node| format!("{}={}", node.name, node.peer_url()));
        parts.collect::<Vec<_>>().join(",")
    }

    /// Adds a member with `etcdctl member add` and prepares its process; its place. `learner`: without a vote.
    ///
    /// # Panics
    /// When it is refused.
    pub fn add(&mut self, subject: Subject, learner: bool) -> Option<usize> {
        let place = self.prepare_node(subject)?;
        let (name, url) = (self.nodes[place].name.clone(), self.peer_url(place));
        let mut command = vec!["member", "add", &name, "--peer-urls", &url];
        if learner {
            command.push("--learner");
        }
        self.change(&command);
        let list = self.list();
        self.nodes[place].flags = [
            "--initial-cluster",
            &list,
            "--initial-cluster-state",
            "existing",
        ]
        .map(str::to_owned)
        .to_vec();
        Some(place)
    }

    /// Changes the membership with the official etcdctl, as soon as the members allow it: all have to be connected
    /// for five seconds, and a learner has to have caught up. A member is not asked about itself: one that is removed
    /// ends, and may do so before it has answered. What etcdctl printed; nothing when the answer was lost and the change
    /// was found to be made.
    ///
    /// # Panics
    /// When it is refused for another reason.
    pub fn change(&self, arguments: &[&str]) -> String {
        const LATER: [&str; 2] = [
            UNHEALTHY,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ];
        const MADE: [&str; 3] = [
            "etcdserver: Peer URLs already exists",
            "etcdserver: member not found",
            "etcdserver: can only promote a learner member",
        ];
        let was_lost = Cell::new(false);
        let running = (0..self.size()).filter(|&place| self.is_running(place));
        let asked: Vec<_> = running
            .filter(|&place| {
                self.standing(place)
                    .is_none_or(|it| !arguments.contains(&format!("{:x}", it.member).as_str()))
            })
            .map(|place| self.endpoint(place))
            .collect();
        self.wait("healthy cluster", || {
            let outcome = self.etcdctl_at(&asked.join(","), arguments);
            let says = |texts: &[&str]| texts.iter().any(|text| outcome.stderr.contains(text));
            let (later, lost) = (says(&LATER), is_lost(&outcome));
            let made = outcome.code == Some(0) || was_lost.get() && !later && says(&MADE);
            was_lost.set(was_lost.get() || lost);
            assert!(made || later || lost, "{arguments:?}: {outcome:?}");
            made.then_some(outcome.stdout)
        })
    }

    /// Asks, with the official etcdctl, for a change of the membership that has to be refused with this text, as soon as the
    /// members allow changes at all. Nothing is changed, so a question whose answer was lost is asked again.
    ///
    /// # Panics
    /// When it is not refused, or for another reason.
    pub fn refuses(&self, arguments: &[&str], text: &str) {
        self.wait("refusal", || {
            let outcome = self.etcdctl(arguments);
            let is_refused = outcome.stderr.contains(text);
            let later = outcome.stderr.contains(UNHEALTHY) || is_lost(&outcome);
            assert!(is_refused || later, "{arguments:?}: {outcome:?}");
            is_refused.then_some(())
        });
    }

    /// Forgets a member that was removed and has ended. Those behind it move up by one place.
    ///
    /// # Panics
    /// When it runs.
    pub fn forget(&mut self, place: usize) {
        assert!(self.nodes[place].process.is_none(), "the member runs");
        self.nodes.remove(place);
        let running = self.nodes.iter().enumerate();
        let running = running.filter_map(|(place, node)| Some((place, node.process.as_ref()?)));
        *self.lock_residents() = running.map(|(place, it)| (place, it.pid())).collect();
    }

    /// Whether a member's process was started and not ended by the test.
    pub fn is_running(&self, place: usize) -> bool {
        self.nodes[place].process.is_some()
    }

    /// Process id of a member that runs.
    pub fn pid(&self, place: usize) -> u32 {
        self.process(place).pid()
    }

    /// How many members there are, running or not.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// URL of a member's peer port as peers know it.
    pub fn peer_url(&self, place: usize) -> String {
        self.nodes[place].peer_url()
    }

    /// A member's own peer port.
    pub fn peer_port(&self, place: usize) -> u16 {
        self.nodes[place].peer_port
    }

    /// Has peers reach a member at another port, which leads to its own. Before the first start.
    pub fn advertise(&mut self, place: usize, port: u16) {
        self.nodes[place].advertised_peer_port = port;
        self.list_all();
    }

    /// Has members speak TLS with each other; each has to be given a certificate. Before the first start.
    pub fn secure_peers(&mut self) {
        for node in &mut self.nodes {
            node.peer_scheme = "https";
        }
        self.list_all();
    }

    /// Has each member run on a host of its own. Before the first start.
    pub fn settle(&mut self, hosts: &Hosts) {
        for (place, node) in self.nodes.iter_mut().enumerate() {
            node.host = hosts.address(place);
            node.wrapper = hosts.wrapper(place);
        }
        self.list_all();
    }

    /// Every member is told of all.
    fn list_all(&mut self) {
        let list = self.list();
        for node in &mut self.nodes {
            node.flags = vec!["--initial-cluster".to_owned(), list.clone()];
        }
    }

    /// More flags for one member.
    pub fn add_flags(&mut self, place: usize, flags: &[&str]) {
        let flags = flags.iter().map(|&flag| flag.to_owned());
        self.nodes[place].flags.extend(flags);
    }

    /// The flags of one member about the cluster in place of the list of all.
    pub fn replace_flags(&mut self, place: usize, flags: &[&str]) {
        self.nodes[place].flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Has another server run a member from its next start on. None when its binary is not to be had.
    pub fn replace_binary(&mut self, place: usize, subject: Subject) -> Option<()> {
        let node = &mut self.nodes[place];
        node.binary = subject.etcd()?;
        node.subject = subject;
        Some(())
    }

    /// Has a program start a member: its words, before the name of the member's binary.
    pub fn wrap(&mut self, place: usize, wrapper: &[&str]) {
        self.nodes[place].wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// URL of a member's client port.
    pub fn endpoint(&self, place: usize) -> String {
        format!("http://{}", self.client_address(place))
    }

    /// Where a member serves clients.
    ///
    /// # Panics
    /// When its host has no address.
    pub fn client_address(&self, place: usize) -> SocketAddr {
        let node = &self.nodes[place];
        let host: IpAddr = node.host.parse().expect("hosts have addresses");
        (host, node.client_port).into()
    }

    /// A member's client port.
    pub fn client_port(&self, place: usize) -> u16 {
        self.nodes[place].client_port
    }

    /// The client URLs of all members whose processes run.
    pub fn endpoints(&self) -> Vec<String> {
        let running = (0..self.nodes.len()).filter(|&place| self.nodes[place].process.is_some());
        running.map(|place| self.endpoint(place)).collect()
    }

    /// Where a member keeps its data.
    pub fn data_directory(&self, place: usize) -> PathBuf {
        self.folder.join(&self.nodes[place].name)
    }

    /// Loses a member's data.
    ///
    /// # Panics
    /// When it runs, or the files cannot be removed.
    pub fn wipe(&mut self, place: usize) {
        assert!(self.nodes[place].process.is_none(), "the member runs");
        fs::remove_dir_all(self.data_directory(place)).expect("data to remove");
    }

    fn command(&self, place: usize) -> Command {
        let node = &self.nodes[place];
        let (client, peers) = (self.endpoint(place), self.peer_url(place));
        let listen = format!("{}://{}:{}", node.peer_scheme, node.host, node.peer_port);
        let mut words = node.wrapper.iter().map(OsString::from).collect::<Vec<_>>();
        words.push(node.binary.clone().into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(&self.folder)
            .arg("--data-dir")
            .arg(self.data_directory(place))
            .args(["--name", &node.name])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &listen])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(&node.flags)
            .args(&self.flags);
        if node.subject == Subject::Official3423 {
            command.args(["--logger", "zap"]);
        }
        command
    }

    /// Starts a member's process and does not wait.
    ///
    /// # Panics
    /// When it runs already.
    pub fn launch(&mut self, place: usize) {
        assert!(self.nodes[place].process.is_none(), "the member runs");
        let process = Process::spawn(&mut self.command(place));
        self.lock_residents().insert(place, process.pid());
        self.nodes[place].process = Some(process);
    }

    /// The processes that run, for as long as the cluster is there.
    pub fn residents(&self) -> Residents {
        Residents::clone(&self.residents)
    }

    fn lock_residents(&self) -> MutexGuard<'_, BTreeMap<usize, u32>> {
        self.residents.lock().expect("nobody panics with it")
    }

    /// Waits until a member says that it serves.
    ///
    /// # Panics
    /// When it ends or takes too long instead.
    pub fn wait_ready(&self, place: usize) {
        let line = self.nodes[place].subject.ready_line();
        let ready = self.logs(place, line, START_LIMIT);
        assert!(
            ready,
            "member {place} is not ready:\n{}",
            self.log(place).join("\n")
        );
    }

    /// Waits for a line of a member's running process that contains `text`.
    pub fn logs(&self, place: usize, text: &str, limit: Duration) -> bool {
        self.process(place).wait_for(text, 0, limit).is_some()
    }

    /// Everything that a member's processes wrote.
    pub fn log(&self, place: usize) -> Vec<String> {
        let node = &self.nodes[place];
        let mut lines = node.earlier.clone();
        lines.extend(node.process.iter().flat_map(Process::lines));
        lines
    }

    fn process(&self, place: usize) -> &Process {
        self.nodes[place].process.as_ref().expect("the member runs")
    }

    /// Ends a member with SIGKILL.
    pub fn kill(&mut self, place: usize) {
        self.lock_residents().remove(&place);
        let node = &mut self.nodes[place];
        if let Some(mut process) = node.process.take() {
            process.kill();
            node.earlier.extend(process.lines());
        }
    }

    /// Sends a member any signal.
    pub fn signal(&self, place: usize, signal: Signal) {
        self.process(place).signal(signal);
    }

    /// Ends a member with SIGTERM: how it ended and how long it took.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self, place: usize) -> (ExitStatus, Duration) {
        self.process(place).terminate();
        self.wait_exit(place)
    }

    /// Waits until a member ends.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait_exit(&mut self, place: usize) -> (ExitStatus, Duration) {
        self.lock_residents().remove(&place);
        let node = &mut self.nodes[place];
        let mut process = node.process.take().expect("the member runs");
        let ended = process.wait_exit(STOP_LIMIT);
        node.earlier.extend(process.lines());
        ended.unwrap_or_else(|| panic!("still running:\n{}", node.earlier.join("\n")))
    }

    /// Starts a member again on its data and waits until it serves.
    pub fn restart(&mut self, place: usize) {
        self.kill(place);
        self.launch(place);
        self.wait_ready(place);
    }

    /// Runs the official etcdctl on all members that run.
    pub fn etcdctl(&self, arguments: &[&str]) -> Outcome {
        self.etcdctl_at(&self.endpoints().join(","), arguments)
    }

    /// Runs the official etcdctl on one member.
    pub fn etcdctl_on(&self, place: usize, arguments: &[&str]) -> Outcome {
        self.etcdctl_at(&self.endpoint(place), arguments)
    }

    /// Runs the official etcdctl on any endpoints.
    pub fn etcdctl_at(&self, endpoints: &str, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(&self.etcdctl);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .arg("--endpoints")
            .arg(endpoints)
            .args(["--command-timeout", "20s"])
            .args(arguments);
        run(&mut command, "", COMMAND_LIMIT)
    }

    /// Runs the official etcdctl on all members that run: what it printed. See [`must_on`](Self::must_on).
    ///
    /// # Panics
    /// When it fails.
    pub fn must(&self, arguments: &[&str]) -> String {
        self.must_at(&self.endpoints().join(","), arguments)
    }

    /// Puts until it is acknowledged: what is under way while a leader dies may be lost, and the client told so.
    ///
    /// # Panics
    /// When it never is.
    pub fn put(&self, key: &str, value: &str) {
        self.wait("acknowledged put", || {
            let outcome = self.etcdctl(&["put", key, value]);
            (outcome.code == Some(0)).then_some(())
        });
    }

    /// Runs the official etcdctl on one member: what it printed. What may be done twice is repeated when its answer was lost:
    /// on a busy machine, or one that stands still for seconds, requests time out and the lead moves on by itself.
    ///
    /// # Panics
    /// When it fails.
    pub fn must_on(&self, place: usize, arguments: &[&str]) -> String {
        self.must_at(&self.endpoint(place), arguments)
    }

    fn must_at(&self, endpoints: &str, arguments: &[&str]) -> String {
        let is_repeatable = matches!(arguments, ["put" | "get", ..] | ["member", "list", ..]);
        self.wait("an answer", || {
            let outcome = self.etcdctl_at(endpoints, arguments);
            let again = is_repeatable && is_lost(&outcome);
            assert!(
                outcome.code == Some(0) || again,
                "{arguments:?}: {}",
                outcome.stderr
            );
            (outcome.code == Some(0)).then_some(outcome.stdout)
        })
    }

    /// What a member says of itself; none when it does not answer.
    pub fn standing(&self, place: usize) -> Option<Standing> {
        let outcome = self.etcdctl_on(place, &["endpoint", "status", "-w", "json"]);
        let parsed: serde_json::Value = serde_json::from_str(&outcome.stdout).ok()?;
        let status = parsed.get(0)?.get("Status")?;
        let header = status.get("header")?;
        let number = |value: &serde_json::Value, name: &str| value.get(name)?.as_u64();
        Some(Standing {
            member: number(header, "member_id")?,
            leader: number(status, "leader").unwrap_or_default(),
            term: number(status, "raftTerm").unwrap_or_default(),
            revision: header
                .get("revision")
                .and_then(|it| it.as_i64())
                .unwrap_or_default(),
            applied: number(status, "raftAppliedIndex").unwrap_or_default(),
            is_learner: status
                .get("isLearner")
                .and_then(|it| it.as_bool())
                .unwrap_or_default(),
        })
    }

    /// Which member leads, once those that run agree.
    ///
    /// # Panics
    /// When they do not agree in time.
    pub fn leader(&self) -> usize {
        let running = (0..self.size()).filter(|&place| self.nodes[place].process.is_some());
        self.leader_among(&running.collect::<Vec<_>>())
    }

    /// Which of these members leads, once they agree that one of them does.
    ///
    /// # Panics
    /// When they do not agree in time.
    pub fn leader_among(&self, places: &[usize]) -> usize {
        self.wait("a leader", || {
            let told: Option<Vec<Standing>> =
                places.iter().map(|&place| self.standing(place)).collect();
            let told = told?;
            let leader = told.first()?.leader;
            let agree = leader != 0 && told.iter().all(|it| it.leader == leader);
            let at = told.iter().position(|it| it.member == leader)?;
            agree.then(|| places[at])
        })
    }

    /// Has a member lead. On a busy machine the lead may move on by itself, and is moved once more.
    ///
    /// # Panics
    /// When it never does.
    pub fn have_lead(&self, place: usize) {
        self.wait("the lead of that member", || {
            let leads = self.leader() == place;
            if !leads {
                // Who leads may change while this is asked for.
                let _ = self.etcdctl(&["move-leader", &self.id(place)]);
            }
            leads.then_some(())
        });
    }

    /// The id of a member, as etcdctl takes it, once it answers.
    ///
    /// # Panics
    /// When it never does.
    pub fn id(&self, place: usize) -> String {
        let standing = self.wait("an answer about the id", || self.standing(place));
        format!("{:x}", standing.member)
    }

    /// Waits until `look` sees something.
    ///
    /// # Panics
    /// When it sees nothing in time.
    pub fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        wait_for(what, look, || self.tails())
    }

    /// Waits until all members that run have the same hash of the same revision, and returns both.
    ///
    /// # Panics
    /// When they do not agree in time.
    pub fn same_hash(&self) -> (u64, i64) {
        self.wait("agreement on the hash", || {
            // Who was held up for long is asked again.
            let told = self.etcdctl(&["endpoint", "hashkv", "-w", "json"]);
            let parsed: serde_json::Value = serde_json::from_str(&told.stdout).ok()?;
            let members = parsed.as_array()?;
            let hash = |member: &serde_json::Value| {
                let told = member.get("HashKV")?;
                Some((
                    told.get("hash")?.as_u64()?,
                    told.get("header")?.get("revision")?.as_i64()?,
                ))
            };
            let hashes: Option<Vec<_>> = members.iter().map(hash).collect();
            let hashes = hashes?;
            let first = *hashes.first()?;
            let all = hashes.len() == self.endpoints().len();
            (all && hashes.iter().all(|it| *it == first)).then_some(first)
        })
    }

    fn tails(&self) -> String {
        const SHOWN: usize = 25;
        let mut text = String::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let lines = self.log(place);
            let tail = &lines[lines.len().saturating_sub(SHOWN)..];
            text.push_str(&format!("--- {}\n{}\n", node.name, tail.join("\n")));
        }
        text
    }

    /// The folder of the whole cluster.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whether nobody knows what became of what etcdctl asked for, or there was no leader to ask.
fn is_lost(outcome: &Outcome) -> bool {
    const TEXTS: [&str; 4] = [
        "etcdserver: request timed out",
        "etcdserver: leader changed",
        "etcdserver: no leader",
        "context deadline exceeded",
    ];
    TEXTS.iter().any(|text| outcome.stderr.contains(text))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for place in 0..self.nodes.len() {
            self.kill(place);
        }
        if std::thread::panicking() {
            eprintln!("data: {}\n{}", self.folder.display(), self.tails());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
