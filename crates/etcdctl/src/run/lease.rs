//! `lease`: grant, revoke, timetolive, list, keep-alive.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/lease_command.go`.

use kvorum_client::Error;
use kvorum_proto::ids::LeaseId;

use super::settings;
use crate::failure;
use crate::failure::warn_of;
use crate::output::{Format, Reply};
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::failure::{BAD_CONNECTION, ERROR};
use kvorum_cli::{go, print_text};

/// The one argument, a lease in hex.
fn lease_argument(line: &Line, usage: &str) -> Result<LeaseId, Failure> {
    let [lease] = line.arguments.as_slice() else {
        return Err(Failure::arguments(usage));
    };
    let lease = go::parse_int(lease, 16);
    let bad =
        |error| Failure::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex"));
    lease.map(LeaseId).map_err(bad)
}

fn failed_to(what: &str, error: &Error) -> Failure {
    warn_of(error);
    Failure::new(ERROR, format!("failed to {what} lease ({error})"))
}

pub(super) async fn grant(mut line: Line) -> Result<(), Failure> {
    let [ttl] = line.arguments.as_slice() else {
        return Err(Failure::arguments("lease grant command needs TTL argument"));
    };
    let ttl =
        go::parse_int(ttl, 10).map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
    let settings = settings(&mut line).await?;
    let response = settings.client().await?.lease_grant(ttl).await;
    let response = response.map_err(|error| failed_to("grant", &error))?;
    settings.printer.print(&Reply::LeaseGrant(response))
}

pub(super) async fn revoke(mut line: Line) -> Result<(), Failure> {
    let lease = lease_argument(&line, "lease revoke command needs 1 argument")?;
    let settings = settings(&mut line).await?;
    let response = settings.client().await?.lease_revoke(lease).await;
    let response = response.map_err(|error| failed_to("revoke", &error))?;
    settings
        .printer
        .print(&Reply::LeaseRevoke(lease.0, response))
}

pub(super) async fn time_to_live(mut line: Line) -> Result<(), Failure> {
    // Whether the server can be reached is not asked before the arguments are right.
    let lease = lease_argument(&line, "lease timetolive command needs lease ID as argument")?;
    let keys = line.flag("keys");
    let settings = settings(&mut line).await?;
    let response = settings
        .patient_client()
        .await?
        .lease_time_to_live(lease, keys)
        .await;
    let response = response.map_err(|error| failure::call(BAD_CONNECTION, &error))?;
    settings
        .printer
        .print(&Reply::LeaseTimeToLive(response, keys))
}

pub(super) async fn list(mut line: Line) -> Result<(), Failure> {
    let settings = settings(&mut line).await?;
    let response = settings.patient_client().await?.leases().await;
    let response = response.map_err(|error| failure::call(BAD_CONNECTION, &error))?;
    settings.printer.print(&Reply::Leases(response))
}

pub(super) async fn keep_alive(mut line: Line) -> Result<(), Failure> {
    let lease = lease_argument(&line, "lease keep-alive command needs lease ID as argument")?;
    let once = line.flag("once");
    let settings = settings(&mut line).await?;
    let client = settings.patient_client().await?.with_require_leader();
    let failed = |error| failure::call(BAD_CONNECTION, &error);
    if once {
        let response = client.lease_keep_alive_once(lease).await.map_err(failed)?;
        return settings.printer.print(&Reply::LeaseKeepAlive(response));
    }
    let mut keeper = client.lease_keep_alive(lease);
    while let Some(response) = keeper.next().await.map_err(failed)? {
        settings.printer.print(&Reply::LeaseKeepAlive(response))?;
    }
    if settings.printer.format == Format::Simple {
        print_text(&format!("lease {:016x} expired or revoked.\n", lease.0));
    }
    Ok(())
}
