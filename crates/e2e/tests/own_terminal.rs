//! What our etcdctl does where a person sits: bars, advice, hidden passwords, completion. And that a
//! pipe sees none of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kvorum_e2e::peers::{self, Subject};
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::{Server, free_port, new_folder};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long any command may take: the longest one writes 10,000 values.
const LIMIT: Duration = Duration::from_secs(300);

/// A terminal: the side of the person and the side of the program.
fn terminal() -> (OwnedFd, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&person).expect("its rights");
    unlockpt(&person).expect("it is unlocked");
    let name = ptsname(&person, Vec::new()).expect("its name");
    let name = name.to_str().expect("a path in ASCII");
    let mut options = File::options();
    // Or it becomes that of this process, where it leads a session, and ends it when it is closed.
    options.custom_flags(OFlags::NOCTTY.bits().cast_signed());
    let program = options.read(true).write(true).open(name);
    (person, program.expect("the side of the program"))
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(peers::etcdctl());
    command.env("ETCDCTL_ENDPOINTS", endpoint).args(arguments);
    command
}

fn piped(endpoint: &str, arguments: &[&str]) -> Outcome {
    run(&mut etcdctl(endpoint, arguments), "", LIMIT)
}

/// Runs a command on a terminal, types these lines, and returns what the screen shows.
fn on_terminal(mut command: Command, typed: &str) -> (Option<i32>, String) {
    let (person, program) = terminal();
    let side = || Stdio::from(program.try_clone().expect("a handle"));
    let mut child = command
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn()
        .expect("it starts");
    // With the last handle of the program's side the reading ends.
    drop(command);
    drop(program);
    let mut person = File::from(person);
    let mut writer = person.try_clone().expect("a handle");
    let mut lines = typed
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter();
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut answered = 0;
    // The end of a terminal is an error of input.
    while let Ok(length @ 1..) = person.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..length]);
        // A line is typed at each prompt.
        let prompts = String::from_utf8_lossy(&shown).matches(": ").count();
        while answered < prompts {
            answered += 1;
            if let Some(line) = lines.next() {
                writer
                    .write_all(format!("{line}\n").as_bytes())
                    .expect("the terminal takes it");
            }
        }
    }
    let status = child.wait().expect("our own child");
    (status.code(), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn errors_name_the_endpoint_and_the_remedy_on_a_terminal_alone() {
    let endpoint = format!("127.0.0.1:{}", free_port());
    // Long enough for a first try, on a machine that is busy with something else.
    let get = ["get", "a", "--command-timeout=4s"];
    let (code, shown) = on_terminal(etcdctl(&endpoint, &get), "");
    assert_eq!(code, Some(1));
    let shown: Vec<&str> = shown.lines().collect();
    assert_eq!(shown[0], "Error: context deadline exceeded");
    assert!(
        shown[1].contains(&endpoint) && shown[1].contains("refused"),
        "{shown:?}"
    );
    assert!(shown[2].contains("does the server run"), "{shown:?}");
    let outcome = piped(&endpoint, &get);
    assert!(
        !outcome.stderr.contains("does the server run"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome
            .stderr
            .ends_with("\nError: context deadline exceeded\n")
    );
}

#[test]
fn long_work_shows_a_bar_on_a_terminal_alone() {
    let Some(server) = Server::start(Subject::Official371, &[]) else {
        return;
    };
    let folder = new_folder();
    let file = folder.join("snapshot");
    let file = file.to_str().expect("UTF-8");
    let endpoint = server.endpoint();
    for arguments in [
        &["snapshot", "save", file][..],
        &[
            "check",
            "datascale",
            "--load=s",
            "--auto-compact",
            "--auto-defrag",
        ],
    ] {
        let (code, shown) = on_terminal(etcdctl(&endpoint, arguments), "");
        assert_eq!(code, Some(0), "{shown}");
        assert!(
            shown.contains("\r\x1b[K[") && shown.contains("% "),
            "{shown}"
        );
        let outcome = piped(&endpoint, arguments);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(!(outcome.stdout + &outcome.stderr).contains('\x1b'));
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn a_check_of_memory_says_what_it_did() {
    let Some(server) = Server::start(Subject::Kvorum, &[]) else {
        return;
    };
    let check = ["check", "datascale", "--auto-compact", "--auto-defrag"];
    let outcome = piped(&server.endpoint(), &check);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let defragmented = format!("Defragmented \"{}\"", server.endpoint());
    assert_eq!(
        lines[0],
        "Start data scale check for work load [10000 key-value pairs, 1024 bytes per key-value, 50 \
         concurrent clients]."
    );
    assert_eq!(lines[1], "Compacting with revision 10002");
    assert_eq!(lines[4], defragmented);
    assert!(
        lines[5].starts_with("PASS: Approximate system memory used : "),
        "{lines:?}"
    );
    let left = piped(&server.endpoint(), &["get", "", "--prefix"]);
    assert_eq!(left.stdout, "");
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let Some(server) = Server::start(Subject::Official371, &[]) else {
        return;
    };
    let endpoint = server.endpoint();
    let add = etcdctl(&endpoint, &["user", "add", "root"]);
    let (code, shown) = on_terminal(add, "hidden word\nhidden word\n");
    assert_eq!(code, Some(0), "{shown}");
    let expected = "Password of root: \r\nType password of root again for confirmation: \r\n\
                    User root created\r\n";
    assert_eq!(shown, expected);
    let passwd = etcdctl(&endpoint, &["user", "passwd", "root"]);
    let (code, shown) = on_terminal(passwd, "one\nother\n");
    assert_eq!(code, Some(128));
    assert!(
        shown.ends_with("Error: given passwords are different\r\n"),
        "{shown}"
    );
    let outcome = piped(&endpoint, &["auth", "enable"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let login = etcdctl(&endpoint, &["--user=root", "get", "a"]);
    let (code, shown) = on_terminal(login, "wrong\n");
    assert_eq!((code, shown.contains("wrong")), (Some(2), false), "{shown}");
    let advice = "Is the name and password of --user right?";
    assert!(shown.contains(advice), "{shown}");
}

/// Asks a shell that has read the script what it offers for a line.
fn offered(line: &str) -> Vec<String> {
    let tool = peers::etcdctl();
    let folder = tool
        .parent()
        .expect("a folder")
        .to_str()
        .expect("UTF-8")
        .to_owned();
    let script = format!(
        "PATH={folder}:$PATH; source <(etcdctl completion bash); COMP_LINE='{line}'; \
         COMP_POINT=${{#COMP_LINE}}; _etcdctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let outcome = run(Command::new("bash").args(["-c", &script]), "", LIMIT);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    for (line, expected) in [
        ("etcdctl le", &["lease"][..]),
        ("etcdctl lease k", &["keep-alive"]),
        ("etcdctl --endpoints a,b member p", &["promote"]),
        ("etcdctl get --pr", &["--prefix", "--print-value-only"]),
        ("etcdctl -w t", &["table"]),
        (
            "etcdctl completion ",
            &["bash", "zsh", "fish", "powershell"],
        ),
        ("etcdctl auth ", &["disable", "enable", "status"]),
    ] {
        assert_eq!(offered(line), expected, "{line}");
    }
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = piped("", &["completion", shell]);
        assert!(script.stdout.contains("__complete"), "{shell}");
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
    }
}

/// The test of the check itself takes as long as the check.
#[test]
fn a_check_of_speed_ends_with_a_verdict() {
    let Some(server) = Server::start(Subject::Kvorum, &[]) else {
        return;
    };
    let endpoint = server.endpoint();
    let check = thread::spawn(move || {
        let check = ["check", "perf", "--prefix=speed/", "--auto-compact"];
        run(&mut etcdctl(&endpoint, &check), "", LIMIT)
    });
    let outcome = check.join().expect("it ends");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    for (line, start) in lines.iter().zip(["Compacting", "Compacted"]) {
        assert!(line.starts_with(start), "{lines:?}");
    }
    // How fast it was is this machine's affair, and so is how slow the slowest of 9,000 writes was.
    assert!(lines[2].contains("Throughput"), "{lines:?}");
    let verdict = *lines.last().expect("a verdict");
    let expected = if outcome.code == Some(0) {
        "PASS"
    } else {
        "FAIL"
    };
    assert_eq!((lines.len(), verdict), (6, expected), "{lines:?}");
    let left = piped(&server.endpoint(), &["get", "", "--prefix", "--limit=1"]);
    assert_eq!(left.stdout, "");
}
