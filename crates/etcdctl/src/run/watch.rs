//! `watch`: events on one key or range, or, interactively, on as many as lines ask for.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/watch_command.go`.

use std::io::{self, Write as _};
use std::sync::Arc;

use kvorum_client::{Client, Error, KeyRange, Watcher};
use kvorum_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::mvccpb::Event;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::txn::words;
use super::{ending, execute};
use crate::commands::TOOL;
use crate::output::{Printer, Reply};
use crate::settings::Settings;
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::failure::{BAD_ARGS, ERROR, INTERRUPTED, INVALID_INPUT};
use kvorum_cli::{go, print_text};

const BAD_COUNT: &str = "bad number of arguments";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";

/// Key and range end from the environment, empty if there are none.
struct Environment {
    key: String,
    range_end: String,
}

/// What to watch, and the command to run for each event.
#[derive(Debug)]
struct Wanted {
    request: WatchCreateRequest,
    command: Vec<String>,
}

pub(super) async fn run(mut line: Line) -> Result<(), Failure> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let environment = Environment {
        key: variable("ETCDCTL_WATCH_KEY"),
        range_end: variable("ETCDCTL_WATCH_RANGE_END"),
    };
    if environment.key.is_empty() && !environment.range_end.is_empty() {
        let end = go::quote(environment.range_end.as_bytes());
        let text = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}");
        return Err(Failure::arguments(text));
    }
    if line.flag("interactive") {
        return interactive(line, &environment).await;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = command_after_dashes(&arguments)?;
    let own = line.arguments.len() - command.len().min(line.arguments.len());
    let keys = keys(&line.arguments[..own], !command.is_empty(), &environment)
        .map_err(Failure::arguments)?;
    let settings = Settings::read(&mut line, true).await?;
    let client = settings.patient_client().await?.with_require_leader();
    let request = request(&line, &keys).map_err(Failure::arguments)?;
    let watcher = client.watch(request).await;
    follow(watcher, &settings.printer, &command, None).await?;
    Err(Failure::new(INTERRUPTED, "watch is canceled by the server"))
}

/// The words after `--`.
fn command_after_dashes(arguments: &[String]) -> Result<Vec<String>, Failure> {
    match arguments.iter().position(|word| word == "--") {
        None => Ok(Vec::new()),
        Some(at) if at + 1 == arguments.len() => Err(Failure::arguments(NO_COMMAND)),
        Some(at) => Ok(arguments[at + 1..].to_vec()),
    }
}

/// Key and range end: from the line, or from the environment if the line has none.
fn keys(
    own: &[String],
    has_command: bool,
    environment: &Environment,
) -> Result<Vec<String>, &'static str> {
    if environment.key.is_empty() {
        return if own.is_empty() && !has_command {
            Err(BAD_COUNT)
        } else {
            Ok(own.to_vec())
        };
    }
    if !own.is_empty() {
        return Err(CONFLICT);
    }
    let both = [environment.key.clone(), environment.range_end.clone()];
    Ok(both.into_iter().filter(|key| !key.is_empty()).collect())
}

fn request(line: &Line, keys: &[String]) -> Result<WatchCreateRequest, &'static str> {
    let prefix = line.flag("prefix");
    let range = match keys {
        [] => return Err(BAD_COUNT),
        [_, _] if prefix => return Err("`range_end` and `--prefix` are mutually exclusive"),
        [key, end] => KeyRange::between(key.clone(), end.clone()),
        [key, ..] if prefix => KeyRange::prefix(key.clone()),
        [key, ..] => KeyRange::single(key.clone()),
    };
    Ok(WatchCreateRequest {
        key: range.key,
        range_end: range.range_end,
        start_revision: line.int("rev"),
        prev_kv: line.flag("prev-kv"),
        progress_notify: line.flag("progress-notify"),
        ..WatchCreateRequest::default()
    })
}

/// Writes what a watcher sees until the server ends it. Each message on `progress` asks for a
/// progress message.
async fn follow(
    watcher: Result<Watcher, Error>,
    printer: &Printer,
    command: &[String],
    mut progress: Option<UnboundedReceiver<()>>,
) -> Result<(), Failure> {
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => return canceled(&error, printer),
    };
    loop {
        let asked = async {
            match &mut progress {
                Some(progress) => progress.recv().await,
                None => None,
            }
        };
        tokio::select! {
            Some(()) = asked => {
                if let Err(error) = watcher.request_progress().await {
                    return canceled(&error, printer);
                }
            }
            next = watcher.next() => match next {
                Ok(Some(response)) => show(response, printer, command).await?,
                Ok(None) => return Ok(()),
                Err(error) => return canceled(&error, printer),
            }
        }
    }
}

/// Tells of something on standard error, in one write: events go to standard output meanwhile, and where both lead to the same
/// place one must not stand in the midst of the other.
fn complain(text: &str) {
    // Who does not read it goes on without.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn canceled(error: &Error, printer: &Printer) -> Result<(), Failure> {
    complain(&format!("watch was canceled ({error})"));
    let response = match error {
        // Of a watch that never was only that is shown.
        Error::WatchCanceled(response) if !response.created => WatchResponse::clone(response),
        _ => WatchResponse {
            canceled: true,
            ..WatchResponse::default()
        },
    };
    printer.print(&Reply::Watch(response))
}

async fn show(
    response: WatchResponse,
    printer: &Printer,
    command: &[String],
) -> Result<(), Failure> {
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    if response.events.is_empty() {
        print_text(&format!("progress notify: {revision}\n"));
    }
    let events = if command.is_empty() {
        Vec::new()
    } else {
        response.events.clone()
    };
    printer.print(&Reply::Watch(response))?;
    for event in events {
        run_for(&event, revision, command).await?;
    }
    Ok(())
}

/// Runs the user's command for one event.
async fn run_for(event: &Event, revision: i64, command: &[String]) -> Result<(), Failure> {
    let kv = event.kv.clone().unwrap_or_default();
    let variables = vec![
        ("ETCD_WATCH_REVISION", revision.to_string()),
        (
            "ETCD_WATCH_EVENT_TYPE",
            go::quote(event.r#type().as_str_name().as_bytes()),
        ),
        ("ETCD_WATCH_KEY", go::quote(&kv.key)),
        ("ETCD_WATCH_VALUE", go::quote(&kv.value)),
    ];
    let error = match execute(command.to_vec(), variables).await {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => ending(status),
        Err(error) => error,
    };
    let words: Vec<String> = command
        .iter()
        .map(|word| go::quote(word.as_bytes()))
        .collect();
    complain(&format!("command [{}] error ({error})", words.join(" ")));
    Err(Failure::silent(ERROR))
}

/// Reads lines and starts a watch for each, until the input ends, which is an error.
async fn interactive(mut line: Line, environment: &Environment) -> Result<(), Failure> {
    let settings = Settings::read(&mut line, true).await?;
    let client = settings.patient_client().await?.with_require_leader();
    let printer = Arc::new(settings.printer);
    let mut watches: Vec<UnboundedSender<()>> = Vec::new();
    let (failed, mut failures) = unbounded_channel();
    let mut lines = lines_of_input();
    loop {
        let text = tokio::select! {
            text = lines.recv() => text.unwrap_or(Err("EOF".to_owned())),
            Some(failure) = failures.recv() => return Err(failure),
        };
        let text = text.map_err(|error| {
            let text = format!("error reading watch request line: {error}");
            Failure::new(INVALID_INPUT, text)
        })?;
        let words = words(&text).map_err(|error| Failure::new(INVALID_INPUT, error))?;
        match words.first().map(String::as_str) {
            None => complain(&format!(
                "Invalid command: {text} (watch and progress supported)"
            )),
            Some("progress") => watches.retain(|watch| watch.send(()).is_ok()),
            Some("watch") if words.len() < 2 && environment.key.is_empty() => {
                complain(&format!(
                    "Invalid command {text} (command type or key is not provided)"
                ));
            }
            Some("watch") => {
                let Some(wanted) = wanted(&text, &words[1..], environment)? else {
                    continue;
                };
                let (ask, asked) = unbounded_channel();
                watches.push(ask);
                start(&client, wanted, Arc::clone(&printer), asked, failed.clone()).await;
            }
            Some(_) => complain(&format!("Invalid command {text} (only support watch)")),
        }
    }
}

/// Registers a watch and leaves it to a task of its own.
async fn start(
    client: &Client,
    wanted: Wanted,
    printer: Arc<Printer>,
    asked: UnboundedReceiver<()>,
    failed: UnboundedSender<Failure>,
) {
    let watcher = client.watch(wanted.request).await;
    tokio::spawn(async move {
        if let Err(failure) = follow(watcher, &printer, &wanted.command, Some(asked)).await {
            // The session is over anyway when nobody listens.
            let _ = failed.send(failure);
        }
    });
}

/// What a line of an interactive session asks for; none after a mistake that is not the end.
fn wanted(
    text: &str,
    words: &[String],
    environment: &Environment,
) -> Result<Option<Wanted>, Failure> {
    let command = command_after_dashes(words)?;
    let table = TOOL
        .root
        .children
        .iter()
        .find(|command| command.name == "watch");
    let table =
        table.ok_or_else(|| Failure::new(BAD_ARGS, "watch is not in the table of commands"))?;
    let line = Line::parse_alone(table, words).map_err(Failure::arguments)?;
    let own = line.arguments.len() - command.len().min(line.arguments.len());
    let keys = keys(&line.arguments[..own], !command.is_empty(), environment)
        .map_err(Failure::arguments)?;
    match request(&line, &keys) {
        Ok(request) => Ok(Some(Wanted { request, command })),
        Err(error) => {
            complain(&format!("Invalid command {text} ({error})"));
            Ok(None)
        }
    }
}

/// Lines of standard input, read by a thread of their own; ends with the input.
fn lines_of_input() -> UnboundedReceiver<Result<String, String>> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let line = line.map_err(|error| error.to_string());
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: &[&str], has_command: bool, key: &str, expected: Result<&[&str], &'static str>) {
        let own: Vec<String> = own.iter().map(|&word| word.to_owned()).collect();
        let environment = Environment {
            key: key.to_owned(),
            range_end: String::new(),
        };
        let keys = keys(&own, has_command, &environment);
        let expected = expected.map(|keys| keys.iter().map(|&key| key.to_owned()).collect());
        assert_eq!(keys, expected);
    }

    #[test]
    fn keys_come_from_the_line_or_from_the_environment() {
        check(&["a", "b"], false, "", Ok(&["a", "b"]));
        check(&[], false, "", Err(BAD_COUNT));
        check(&[], false, "k", Ok(&["k"]));
        check(&[], true, "k", Ok(&["k"]));
        check(&["a"], false, "k", Err(CONFLICT));
        check(&["a"], true, "k", Err(CONFLICT));
    }
}
