//! `auth`, `user` and `role`.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/auth_command.go`, `user_command.go`, `role_command.go`.

use std::io::BufRead as _;

use kvorum_cli::{Failure, Line, print_text};
use kvorum_client::{Client, KeyRange, PermissionType, prefix_end};

use super::settings;
use crate::failure::failed;
use crate::output::Reply;
use crate::password::ask;
use crate::settings::Settings;

/// The user and the role that a cluster needs before it asks who a caller is.
const ROOT: &str = "root";
/// Refusal of a cluster whose root has no such role.
const NO_ROOT_ROLE: &str = "etcdserver: root user does not have root role";
/// Key, or end, without a bound.
const UNBOUNDED: &[u8] = &[0];

/// As many arguments as a command has, or its complaint.
fn arguments<const N: usize>(line: &Line, complaint: &str) -> Result<[String; N], Failure> {
    let arguments = line.arguments.clone();
    arguments
        .try_into()
        .map_err(|_| Failure::arguments(complaint))
}

/// The client for commands that wait as long as it takes, as all about users and roles do.
async fn open(line: &mut Line) -> Result<(Settings, Client), Failure> {
    let settings = settings(line).await?;
    let client = settings.patient_client().await?;
    Ok((settings, client))
}

pub(super) async fn enable(mut line: Line) -> Result<(), Failure> {
    let [] = arguments(&line, "auth enable command does not accept any arguments")?;
    let client = settings(&mut line).await?.client().await?;
    if let Err(error) = client.auth_enable().await {
        if !error.says(NO_ROOT_ROLE) {
            return Err(failed(error));
        }
        client.role_add(ROOT).await.map_err(failed)?;
        client.user_grant_role(ROOT, ROOT).await.map_err(failed)?;
        client.auth_enable().await.map_err(failed)?;
    }
    print_text("Authentication Enabled\n");
    Ok(())
}

pub(super) async fn disable(mut line: Line) -> Result<(), Failure> {
    let [] = arguments(&line, "auth disable command does not accept any arguments")?;
    let client = settings(&mut line).await?.client().await?;
    client.auth_disable().await.map_err(failed)?;
    print_text("Authentication Disabled\n");
    Ok(())
}

pub(super) async fn status(mut line: Line) -> Result<(), Failure> {
    let [] = arguments(&line, "auth status command does not accept any arguments")?;
    let settings = settings(&mut line).await?;
    let response = settings.client().await?.auth_status().await;
    let response = response.map_err(failed)?;
    settings.printer.print(&Reply::AuthStatus(response))
}

pub(super) async fn user_add(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(&line, "user add command requires user name as its argument")?;
    let given = line.text("new-user-password");
    let (name, password) = match name.split_once(':') {
        _ if line.flag("no-password") => (name, None),
        _ if !given.is_empty() => (name, Some(given)),
        Some(("", _)) => return Err(Failure::arguments("empty user name is not allowed")),
        Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
        None => {
            let password = new_password(&line, &name).await?;
            (name, Some(password))
        }
    };
    let (settings, client) = open(&mut line).await?;
    let response = client.user_add(&name, password.as_deref()).await;
    let response = response.map_err(failed)?;
    let done = Reply::Done(format!("User {name} created"), response.header);
    settings.printer.print(&done)
}

pub(super) async fn user_delete(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(
        &line,
        "user delete command requires user name as its argument",
    )?;
    let (settings, client) = open(&mut line).await?;
    let response = client.user_delete(&name).await.map_err(failed)?;
    let done = Reply::Done(format!("User {name} deleted"), response.header);
    settings.printer.print(&done)
}

pub(super) async fn user_get(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(&line, "user get command requires user name as its argument")?;
    let (settings, client) = open(&mut line).await?;
    let response = client.user_get(&name).await.map_err(failed)?;
    if !line.flag("detail") {
        return settings.printer.print(&Reply::User(name, response));
    }
    print_text(&format!("User: {name}\n"));
    for role in response.roles {
        print_text("\n");
        let response = client.role_get(&role).await.map_err(failed)?;
        settings.printer.print(&Reply::Role(role, response))?;
    }
    Ok(())
}

pub(super) async fn user_list(mut line: Line) -> Result<(), Failure> {
    let [] = arguments(&line, "user list command requires no arguments")?;
    let (settings, client) = open(&mut line).await?;
    let response = client.user_list().await.map_err(failed)?;
    settings.printer.print(&Reply::Users(response))
}

pub(super) async fn user_passwd(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(
        &line,
        "user passwd command requires user name as its argument",
    )?;
    let password = new_password(&line, &name).await?;
    let (settings, client) = open(&mut line).await?;
    let response = client.user_change_password(&name, &password).await;
    let response = response.map_err(failed)?;
    let done = Reply::Done("Password updated".to_owned(), response.header);
    settings.printer.print(&done)
}

pub(super) async fn user_grant_role(mut line: Line) -> Result<(), Failure> {
    let complaint = "user grant command requires user name and role name as its argument";
    let [user, role] = arguments(&line, complaint)?;
    let (settings, client) = open(&mut line).await?;
    let response = client.user_grant_role(&user, &role).await.map_err(failed)?;
    let text = format!("Role {role} is granted to user {user}");
    settings.printer.print(&Reply::Done(text, response.header))
}

pub(super) async fn user_revoke_role(mut line: Line) -> Result<(), Failure> {
    let complaint = "user revoke-role requires user name and role name as its argument";
    let [user, role] = arguments(&line, complaint)?;
    let (settings, client) = open(&mut line).await?;
    let response = client.user_revoke_role(&user, &role).await;
    let response = response.map_err(failed)?;
    let text = format!("Role {role} is revoked from user {user}");
    settings.printer.print(&Reply::Done(text, response.header))
}

/// A password for this user: typed twice, or with `--interactive=false` the first word of the
/// input.
async fn new_password(line: &Line, user: &str) -> Result<String, Failure> {
    if !line.flag("interactive") {
        let mut text = String::new();
        // Without an input the password is empty, which the server judges.
        let _ = std::io::stdin().lock().read_line(&mut text);
        return Ok(text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned());
    }
    let failed = |error| Failure::arguments(format!("failed to ask password: {error}"));
    let first = ask(&format!("Password of {user}: "))
        .await
        .map_err(failed)?;
    if first.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    let prompt = format!("Type password of {user} again for confirmation: ");
    let second = ask(&prompt).await.map_err(failed)?;
    if first != second {
        return Err(Failure::arguments("given passwords are different"));
    }
    Ok(first)
}

pub(super) async fn role_add(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(&line, "role add command requires role name as its argument")?;
    let (settings, client) = open(&mut line).await?;
    let response = client.role_add(&name).await.map_err(failed)?;
    let done = Reply::Done(format!("Role {name} created"), response.header);
    settings.printer.print(&done)
}

pub(super) async fn role_delete(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(
        &line,
        "role delete command requires role name as its argument",
    )?;
    let (settings, client) = open(&mut line).await?;
    let response = client.role_delete(&name).await.map_err(failed)?;
    let done = Reply::Done(format!("Role {name} deleted"), response.header);
    settings.printer.print(&done)
}

pub(super) async fn role_get(mut line: Line) -> Result<(), Failure> {
    let [name] = arguments(&line, "role get command requires role name as its argument")?;
    let (settings, client) = open(&mut line).await?;
    let response = client.role_get(&name).await.map_err(failed)?;
    settings.printer.print(&Reply::Role(name, response))
}

pub(super) async fn role_list(mut line: Line) -> Result<(), Failure> {
    let [] = arguments(&line, "role list command requires no arguments")?;
    let (settings, client) = open(&mut line).await?;
    let response = client.role_list().await.map_err(failed)?;
    settings.printer.print(&Reply::Roles(response))
}

pub(super) async fn role_grant_permission(mut line: Line) -> Result<(), Failure> {
    let [role, kind, keys @ ..] = line.arguments.as_slice() else {
        return Err(Failure::arguments(GRANT_USAGE));
    };
    if keys.is_empty() {
        return Err(Failure::arguments(GRANT_USAGE));
    }
    let kind = match kind.to_lowercase().as_str() {
        "read" => PermissionType::Read,
        "write" => PermissionType::Write,
        "readwrite" => PermissionType::Readwrite,
        _ => {
            let text = format!("invalid permission type: {kind}");
            return Err(Failure::arguments(text));
        }
    };
    let range = permission_range(&line, keys)?;
    let role = role.clone();
    let (settings, client) = open(&mut line).await?;
    let response = client.role_grant_permission(&role, kind, range).await;
    let response = response.map_err(failed)?;
    let done = Reply::Done(format!("Role {role} updated"), response.header);
    settings.printer.print(&done)
}

const GRANT_USAGE: &str =
    "role grant command requires role name, permission type, and key [endkey] as its argument";

pub(super) async fn role_revoke_permission(mut line: Line) -> Result<(), Failure> {
    let [role, keys @ ..] = line.arguments.as_slice() else {
        return Err(Failure::arguments(REVOKE_USAGE));
    };
    let Some(key) = keys.first() else {
        return Err(Failure::arguments(REVOKE_USAGE));
    };
    let range = permission_range(&line, keys)?;
    let end = String::from_utf8_lossy(&range.range_end);
    let what = match range.range_end.as_ref() {
        [] => format!("key {key}"),
        UNBOUNDED => format!("range [{key}, <open ended>"),
        _ => format!("range [{key}, {end})"),
    };
    let text = format!("Permission of {what} is revoked from role {role}");
    let role = role.clone();
    let (settings, client) = open(&mut line).await?;
    let response = client.role_revoke_permission(&role, range).await;
    let response = response.map_err(failed)?;
    settings.printer.print(&Reply::Done(text, response.header))
}

const REVOKE_USAGE: &str =
    "role revoke-permission command requires role name and key [endkey] as its argument";

/// The keys of a permission. An empty key is the least one; with a flag it means all keys.
fn permission_range(line: &Line, keys: &[String]) -> Result<KeyRange, Failure> {
    let (prefix, from_key) = (line.flag("prefix"), line.flag("from-key"));
    let [key, rest @ ..] = keys else {
        return Err(Failure::arguments(REVOKE_USAGE));
    };
    let refuse = |text| Err(Failure::arguments(text));
    let (key, range_end) = match rest.first() {
        _ if prefix && from_key && (key.is_empty() || rest.is_empty()) => {
            return refuse("--from-key and --prefix flags are mutually exclusive");
        }
        _ if key.is_empty() && (prefix || from_key) => (UNBOUNDED.into(), UNBOUNDED.into()),
        _ if key.is_empty() => (UNBOUNDED.into(), Vec::new().into()),
        Some(_) if prefix => return refuse("unexpected endkey argument with --prefix flag"),
        Some(_) if from_key => return refuse("unexpected endkey argument with --from-key flag"),
        Some(end) => (key.clone().into(), end.clone().into()),
        None if prefix => (key.clone().into(), prefix_end(key.as_bytes())),
        None if from_key => (key.clone().into(), UNBOUNDED.into()),
        None => (key.clone().into(), Vec::new().into()),
    };
    Ok(KeyRange { key, range_end })
}
