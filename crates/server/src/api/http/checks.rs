//! `/livez` and `/readyz`: named checks, together or one by one.
//!
//! Source: v3.7.1 `server/etcdserver/api/etcdhttp/health.go`.

use super::facts::{ActiveAlarm, HealthFacts, ProbeRead, probe};
use super::{query, reply};
use crate::metrics::Metrics;
use crate::transport::HttpResponse;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// A group of checks under one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Live,
    Ready,
}

impl Group {
    /// The group at `path`, with the one check that a sub path names.
    pub(super) fn at(path: &str) -> Option<(Self, Option<Check>)> {
        for group in [Self::Live, Self::Ready] {
            let Some(rest) = path
                .strip_prefix('/')
                .and_then(|path| path.strip_prefix(group.name()))
            else {
                continue;
            };
            if rest.is_empty() {
                return Some((group, None));
            }
            let name = rest.strip_prefix('/')?;
            let mut checks = group.checks().iter();
            return checks
                .find(|check| check.name() == name)
                .map(|check| (group, Some(*check)));
        }
        None
    }

    fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Self::Live => &[Check::SerializableRead],
            Self::Ready => &[
                Check::DataCorruption,
                Check::SerializableRead,
                Check::LinearizableRead,
                Check::NonLearner,
            ],
        }
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, facts: &dyn HealthFacts) -> Result<(), String> {
        match self {
            Self::DataCorruption if facts.alarms().contains(&ActiveAlarm::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::NonLearner if facts.is_learner() => Err("not supported for learner".to_owned()),
            Self::DataCorruption | Self::NonLearner => Ok(()),
            Self::SerializableRead => probe(facts, ProbeRead::Serializable).await,
            Self::LinearizableRead => probe(facts, ProbeRead::Linearizable).await,
        }
    }
}

pub(super) async fn answer(
    facts: &dyn HealthFacts,
    metrics: &Metrics,
    (group, only): (Group, Option<Check>),
    query: &str,
) -> HttpResponse {
    let checks = match only {
        Some(check) => vec![check],
        None => included(group, &query::values(query, "exclude")),
    };
    let mut lines = String::new();
    let mut good = true;
    for check in checks {
        let outcome = check.run(facts).await;
        let (name, group) = (check.name(), group.name());
        let (value, status) = if outcome.is_ok() {
            (1.0, "success")
        } else {
            (0.0, "error")
        };
        metrics.healthcheck.with(&[name, group]).set(value);
        metrics
            .healthchecks
            .with(&[name, status, group])
            .increment();
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(error) => {
                good = false;
                lines.push_str(&format!("[-]{name} failed: {error}\n"));
            }
        }
    }
    if !good {
        tracing::error!(
            path = group.name(),
            reason = lines,
            "status-code" = 503,
            "Health check error"
        );
        return reply::error(503, &lines);
    }
    let verbose = query::pairs(query).any(|(name, _)| name == "verbose");
    let details = if verbose { lines.as_str() } else { "" };
    let mut reply = reply::text(format!("{details}ok\n"));
    reply
        .headers
        .push(("X-Content-Type-Options", "nosniff".to_owned()));
    reply
}

fn included(group: Group, excluded: &[String]) -> Vec<Check> {
    let known = |name: &str| group.checks().iter().any(|check| check.name() == name);
    for name in excluded.iter().filter(|name| !known(name)) {
        tracing::warn!(
            path = group.name(),
            check = name,
            "some health checks cannot be excluded: not known"
        );
    }
    let wanted = |check: &Check| !excluded.iter().any(|name| name == check.name());
    group.checks().iter().copied().filter(wanted).collect()
}
