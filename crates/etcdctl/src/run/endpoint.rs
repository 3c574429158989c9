//! What is asked of each endpoint by itself: `endpoint`, `defrag`; and `alarm`, `move-leader`.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/ep_command.go`, `defrag_command.go`, `alarm_command.go`,
//! `move_leader_command.go`.

use std::time::Instant;

use kvorum_client::{Code, Error};
use kvorum_proto::etcdserverpb::{AlarmMember, AlarmType};
use kvorum_proto::ids::MemberId;
use tokio::task::JoinSet;

use super::settings;
use crate::failure::{failed, warn_of};
use crate::output::{Health, Reply};
use crate::settings::Settings;
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::failure::{BAD_CONNECTION, ERROR};
use kvorum_cli::{go, print_text};

/// The endpoints as given, or with `--cluster` those that the members announce.
async fn endpoints(line: &Line, settings: &Settings) -> Result<Vec<String>, Failure> {
    if !line.flag("cluster") {
        return Ok(line.list("endpoints"));
    }
    let members = settings
        .client()
        .await?
        .member_list(true)
        .await
        .map_err(|error| {
            warn_of(&error);
            let text = format!("failed to fetch endpoints from etcd cluster member list: {error}");
            Failure::new(ERROR, text)
        })?;
    Ok(members
        .members
        .into_iter()
        .flat_map(|member| member.client_ur_ls)
        .collect())
}

pub(super) async fn health(mut line: Line) -> Result<(), Failure> {
    let settings = settings(&mut line).await?;
    let mut checks = JoinSet::new();
    for endpoint in endpoints(&line, &settings).await? {
        let settings = settings.for_endpoint(&endpoint);
        // Whoever answers first stands first.
        checks.spawn(async move { check_health(&settings, endpoint).await });
    }
    let mut found = Vec::new();
    while let Some(health) = checks.join_next().await {
        found.push(health.map_err(|error| Failure::error(error.to_string()))??);
    }
    let unhealthy = found.iter().any(|health| !health.error.is_empty());
    settings.printer.print(&Reply::Health(found))?;
    if unhealthy {
        return Err(Failure::error("unhealthy cluster"));
    }
    Ok(())
}

async fn check_health(settings: &Settings, endpoint: String) -> Result<Health, Failure> {
    let client = match settings.client().await {
        Ok(client) => client,
        // Nobody was let in, which is this endpoint's affair.
        Err(failure) if failure.code == BAD_CONNECTION => {
            return Ok(Health {
                endpoint,
                healthy: false,
                took: String::new(),
                error: failure.message().to_owned(),
            });
        }
        Err(failure) => return Err(failure),
    };
    let started = Instant::now();
    let request = kvorum_proto::etcdserverpb::RangeRequest {
        key: "health".into(),
        ..Default::default()
    };
    let answer = client.range(&request).await;
    let took = go::duration(started.elapsed());
    let error = match answer {
        Ok(_) => None,
        // Whoever may not read the key has still seen a quorum answer.
        Err(Error::Status(status)) if status.code == Code::PERMISSION_DENIED => None,
        Err(error) => {
            warn_of(&error);
            Some(error.to_string())
        }
    };
    let error = match error {
        Some(error) => error,
        None => match client.alarm_list().await {
            Err(_) => "Unable to fetch the alarm list".to_owned(),
            Ok(response) if response.alarms.is_empty() => String::new(),
            Ok(response) => {
                let name = |alarm: &AlarmMember| match alarm.alarm() {
                    AlarmType::None => "UNKNOWN ",
                    alarm => alarm_name(alarm),
                };
                let names: String = response.alarms.iter().map(name).collect();
                format!("Active Alarm(s): {names}")
            }
        },
    };
    Ok(Health {
        endpoint,
        healthy: error.is_empty(),
        took,
        error,
    })
}

fn alarm_name(alarm: AlarmType) -> &'static str {
    match alarm {
        AlarmType::None => "",
        AlarmType::Nospace => "NOSPACE ",
        AlarmType::Corrupt => "CORRUPT ",
    }
}

pub(super) async fn status(mut line: Line) -> Result<(), Failure> {
    let settings = settings(&mut line).await?;
    let mut found = Vec::new();
    let mut failed = false;
    for endpoint in endpoints(&line, &settings).await? {
        match settings
            .for_endpoint(&endpoint)
            .client()
            .await?
            .status()
            .await
        {
            Ok(response) => found.push((endpoint, response)),
            Err(error) => {
                warn_of(&error);
                eprintln!("Failed to get the status of endpoint {endpoint} ({error})");
                failed = true;
            }
        }
    }
    settings.printer.print(&Reply::Status(found))?;
    if failed {
        Err(Failure::silent(ERROR))
    } else {
        Ok(())
    }
}

pub(super) async fn hash(mut line: Line) -> Result<(), Failure> {
    let revision = line.int("rev");
    let settings = settings(&mut line).await?;
    let mut found = Vec::new();
    let mut last_error = None;
    for endpoint in endpoints(&line, &settings).await? {
        match settings
            .for_endpoint(&endpoint)
            .client()
            .await?
            .hash_kv(revision)
            .await
        {
            Ok(response) => found.push((endpoint, response)),
            Err(error) => {
                warn_of(&error);
                eprintln!("Failed to get the hash of endpoint {endpoint} ({error})");
                last_error = Some(error);
            }
        }
    }
    settings.printer.print(&Reply::Hashes(found))?;
    match last_error {
        None => Ok(()),
        Some(error) => Err(Failure::error(error.to_string())),
    }
}

pub(super) async fn defragment(mut line: Line) -> Result<(), Failure> {
    let settings = settings(&mut line).await?;
    let mut failed = false;
    for endpoint in endpoints(&line, &settings).await? {
        let client = settings.for_endpoint(&endpoint).client().await?;
        let started = Instant::now();
        let answer = client.defragment().await;
        let took = go::duration(started.elapsed());
        match answer {
            Ok(_) => print_text(&format!(
                "Finished defragmenting etcd member[{endpoint}]. took {took}\n"
            )),
            Err(error) => {
                warn_of(&error);
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({error})");
                failed = true;
            }
        }
    }
    if failed {
        Err(Failure::silent(ERROR))
    } else {
        Ok(())
    }
}

pub(super) async fn alarm_list(mut line: Line) -> Result<(), Failure> {
    if !line.arguments.is_empty() {
        return Err(Failure::arguments(
            "alarm list command accepts no arguments",
        ));
    }
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .alarm_list()
        .await
        .map_err(failed)?;
    settings.printer.print(&Reply::Alarms(response))
}

/// Disarms every alarm that is active and shows what it disarmed.
pub(super) async fn alarm_disarm(mut line: Line) -> Result<(), Failure> {
    if !line.arguments.is_empty() {
        return Err(Failure::arguments(
            "alarm disarm command accepts no arguments",
        ));
    }
    let settings = settings(&mut line).await?;
    let client = settings.client().await?;
    let mut shown = client.alarm_list().await.map_err(failed)?;
    let active = std::mem::take(&mut shown.alarms);
    shown.header = None;
    for alarm in active {
        let answer = client.alarm_disarm(alarm).await.map_err(failed)?;
        shown.alarms.extend(answer.alarms);
    }
    settings.printer.print(&Reply::Alarms(shown))
}

pub(super) async fn move_leader(mut line: Line) -> Result<(), Failure> {
    let [target] = line.arguments.as_slice() else {
        return Err(Failure::arguments("move-leader command needs 1 argument"));
    };
    let target = MemberId(go::parse_uint(target, 16).map_err(Failure::arguments)?);
    let settings = settings(&mut line).await?;
    for endpoint in settings.endpoints() {
        let client = settings.for_endpoint(endpoint).client().await?;
        let status = client.status().await.map_err(failed)?;
        if status
            .header
            .is_some_and(|header| header.member_id == status.leader)
        {
            let response = client.move_leader(target).await.map_err(failed)?;
            let leader = MemberId(status.leader);
            return settings
                .printer
                .print(&Reply::LeaderMoved(leader, target, response));
        }
    }
    let endpoints = settings.endpoints().join(" ");
    Err(Failure::arguments(format!(
        "no leader endpoint given at [{endpoints}]"
    )))
}
