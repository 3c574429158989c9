//! `/health`: one yes or no with a reason.
//!
//! Source: v3.7.1 `server/etcdserver/api/etcdhttp/health.go`.

use super::facts::{ActiveAlarm, HealthFacts, ProbeRead, probe};
use super::{query, reply};
use crate::metrics::Metrics;
use crate::transport::HttpResponse;

pub(super) async fn answer(
    facts: &dyn HealthFacts,
    metrics: &Metrics,
    query: &str,
) -> HttpResponse {
    let excluded = query::values(query, "exclude");
    let serializable = query::pairs(query).find(|(name, _)| name == "serializable");
    let serializable = serializable.is_some_and(|(_, value)| value == "true");
    match examine(facts, &excluded, serializable).await {
        Ok(()) => {
            metrics.health_success.increment();
            reply::text(r#"{"health":"true","reason":""}"#)
        }
        Err(reason) => {
            metrics.health_failures.increment();
            let body = format!(
                r#"{{"health":"false","reason":{}}}"#,
                reply::json_string(&reason)
            );
            tracing::warn!(output = body, "status-code" = 503, "/health error");
            reply::error(503, &body)
        }
    }
}

async fn examine(
    facts: &dyn HealthFacts,
    excluded: &[String],
    serializable: bool,
) -> Result<(), String> {
    if let Some(alarm) = worst_alarm(facts, excluded) {
        return Err(format!("ALARM {}", alarm.name()));
    }
    if !serializable && !facts.has_leader() {
        return Err("RAFT NO LEADER".to_owned());
    }
    let read = if serializable {
        ProbeRead::Serializable
    } else {
        ProbeRead::Linearizable
    };
    let outcome = probe(facts, read).await;
    outcome.map_err(|error| format!("RANGE ERROR:{error}"))
}

/// The first alarm that is not excluded.
fn worst_alarm(facts: &dyn HealthFacts, excluded: &[String]) -> Option<ActiveAlarm> {
    let mut alarms = facts.alarms().into_iter();
    alarms.find(|alarm| !excluded.iter().any(|name| name == alarm.name()))
}
