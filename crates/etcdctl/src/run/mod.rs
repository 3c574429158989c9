//! A function per command: from arguments to requests, in the order in which etcd's tool looks at
//! them, so that of two mistakes the same one is reported.

mod authentication;
mod check;
mod downgrade;
mod endpoint;
mod keys;
mod lease;
mod member;
mod mirror;
mod session;
mod snapshot;
mod txn;
mod watch;

use std::process::{Command, ExitStatus};

use crate::commands::{Action, TOOL};
use crate::settings::Settings;
use kvorum_cli::line::{self, Line};
use kvorum_cli::{Failure, completion};
use kvorum_cli::{print_text, usage};
use kvorum_client::DowngradeAction;

/// Version of etcd that the tool is.
const VERSION: &str = "3.7.1";
/// Version of the API that it speaks.
const API_VERSION: &str = "3.7";

pub(crate) async fn run(action: Action, line: Line) -> Result<(), Failure> {
    match action {
        Action::Put => keys::put(line).await,
        Action::Get => keys::get(line).await,
        Action::Del => keys::delete(line).await,
        Action::Compaction => keys::compact(line).await,
        Action::Txn => txn::run(line).await,
        Action::Watch => watch::run(line).await,
        Action::LeaseGrant => lease::grant(line).await,
        Action::LeaseRevoke => lease::revoke(line).await,
        Action::LeaseTimetolive => lease::time_to_live(line).await,
        Action::LeaseList => lease::list(line).await,
        Action::LeaseKeepAlive => lease::keep_alive(line).await,
        Action::EndpointHealth => endpoint::health(line).await,
        Action::EndpointStatus => endpoint::status(line).await,
        Action::EndpointHashkv => endpoint::hash(line).await,
        Action::Defrag => endpoint::defragment(line).await,
        Action::AlarmList => endpoint::alarm_list(line).await,
        Action::AlarmDisarm => endpoint::alarm_disarm(line).await,
        Action::MoveLeader => endpoint::move_leader(line).await,
        Action::MemberList => member::list(line).await,
        Action::MemberAdd => member::add(line).await,
        Action::MemberRemove => member::remove(line).await,
        Action::MemberUpdate => member::update(line).await,
        Action::MemberPromote => member::promote(line).await,
        Action::AuthEnable => authentication::enable(line).await,
        Action::AuthDisable => authentication::disable(line).await,
        Action::AuthStatus => authentication::status(line).await,
        Action::UserAdd => authentication::user_add(line).await,
        Action::UserDelete => authentication::user_delete(line).await,
        Action::UserGet => authentication::user_get(line).await,
        Action::UserList => authentication::user_list(line).await,
        Action::UserPasswd => authentication::user_passwd(line).await,
        Action::UserGrantRole => authentication::user_grant_role(line).await,
        Action::UserRevokeRole => authentication::user_revoke_role(line).await,
        Action::RoleAdd => authentication::role_add(line).await,
        Action::RoleDelete => authentication::role_delete(line).await,
        Action::RoleGet => authentication::role_get(line).await,
        Action::RoleList => authentication::role_list(line).await,
        Action::RoleGrantPermission => authentication::role_grant_permission(line).await,
        Action::RoleRevokePermission => authentication::role_revoke_permission(line).await,
        Action::DowngradeCancel => downgrade::run(line, DowngradeAction::Cancel).await,
        Action::DowngradeEnable => downgrade::run(line, DowngradeAction::Enable).await,
        Action::DowngradeValidate => downgrade::run(line, DowngradeAction::Validate).await,
        Action::SnapshotSave => snapshot::save(line).await,
        Action::MakeMirror => mirror::run(line).await,
        Action::CheckPerf => check::performance(line).await,
        Action::CheckDatascale => check::datascale(line).await,
        Action::Completion => {
            complete(&line);
            Ok(())
        }
        Action::Lock => session::lock(line).await,
        Action::Elect => session::elect(line).await,
        Action::Help => {
            help(&line);
            Ok(())
        }
        Action::Options => {
            print_text(&usage::global_flags(&TOOL));
            Ok(())
        }
        Action::Version => {
            print_text(&format!(
                "etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n"
            ));
            Ok(())
        }
    }
}

/// Writes the script for the shell of the one argument, which the table has checked.
fn complete(line: &Line) {
    let shell = line.arguments.first().map(String::as_str);
    if let Some(script) = completion::script(shell.unwrap_or_default(), TOOL.root.name) {
        print_text(&script);
    }
}

fn help(line: &Line) {
    match line::follow(&TOOL, &line.arguments) {
        Some(path) => print_text(&usage::help(&TOOL, &path)),
        None => {
            let topic: Vec<String> = line
                .arguments
                .iter()
                .map(|word| format!("`{word}`"))
                .collect();
            let topic = topic.join(" ");
            eprint!(
                "Unknown help topic [{topic}]\n{}",
                usage::usage(&TOOL, &[&TOOL.root])
            );
        }
    }
}

async fn settings(line: &mut Line) -> Result<Settings, Failure> {
    Settings::read(line, false).await
}

/// The value of `--consistency`: whether a read may be answered by one member alone.
fn is_serializable(line: &Line) -> Result<bool, Failure> {
    let text = line.text("consistency");
    match text.as_str() {
        "s" => Ok(true),
        "l" => Ok(false),
        _ => {
            let quoted = kvorum_cli::go::quote(text.as_bytes());
            let message = format!("unknown consistency flag {quoted}");
            Err(Failure::new(kvorum_cli::failure::BAD_FEATURE, message))
        }
    }
}

/// Runs a command of the user beside the runtime, with more variables in its environment.
async fn execute(
    words: Vec<String>,
    variables: Vec<(&'static str, String)>,
) -> Result<ExitStatus, String> {
    let running = tokio::task::spawn_blocking(move || {
        let Some((program, arguments)) = words.split_first() else {
            return Err("no command".to_owned());
        };
        let status = Command::new(program)
            .args(arguments)
            .envs(variables)
            .status();
        status.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if !program.contains('/') => {
                let program = kvorum_cli::go::quote(program.as_bytes());
                format!("exec: {program}: executable file not found in $PATH")
            }
            _ => format!("fork/exec {program}: {error}"),
        })
    });
    running.await.map_err(|error| error.to_string())?
}

/// How a command ended that did not succeed, in Go's words.
fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}
