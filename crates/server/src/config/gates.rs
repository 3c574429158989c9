//! Feature gates: features switched on or off by name.
//!
//! `--feature-gates CompactHashCheck=true,AllBeta=false` sets some gates; the rest keep their
//! defaults. `AllAlpha` and `AllBeta` set every gate of a stage that is not named itself.
//!
//! Source: v3.7.1 `pkg/featuregate/feature_gate.go`, `server/features/etcd_features.go`.

use std::collections::BTreeMap;
use std::fmt;

use super::value::go_bool;

/// A feature that has a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The leader compares compaction hashes with its peers.
    CompactHashCheck,
    /// A keep-alive does not wait for the applied index.
    FastLeaseKeepAlive,
    /// Hashes are compared with the peers before serving.
    InitialCorruptCheck,
    /// The leader replicates remaining times of leases.
    LeaseCheckpoint,
    /// Replicated remaining times are kept.
    LeaseCheckpointPersist,
    /// Lease revocations get room under overload.
    PriorityRequest,
    /// Outgoing peer connections start at the advertised address.
    SetMemberLocalAddr,
    /// The health service says "not serving" during a defragmentation.
    StopGRPCServiceOnDefrag,
    /// The read part of a write transaction shares a buffer.
    TxnModeWriteWithSharedBuffer,
}

/// How settled a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default, may change or go.
    Alpha,
    /// On by default, is going to stay.
    Beta,
}

impl Stage {
    /// The stage as help and metrics write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }

    /// The gate that sets all of a stage.
    fn group(self) -> &'static str {
        match self {
            Self::Alpha => "AllAlpha",
            Self::Beta => "AllBeta",
        }
    }
}

/// One row per gate: name, stage, and what the switch comes to in this release.
const GATES: [(Gate, &str, Stage, Effect); 9] = [
    (
        Gate::CompactHashCheck,
        "CompactHashCheck",
        Stage::Alpha,
        Effect::Alone,
    ),
    (
        Gate::FastLeaseKeepAlive,
        "FastLeaseKeepAlive",
        Stage::Beta,
        Effect::Alone,
    ),
    (
        Gate::InitialCorruptCheck,
        "InitialCorruptCheck",
        Stage::Alpha,
        Effect::Alone,
    ),
    (
        Gate::LeaseCheckpoint,
        "LeaseCheckpoint",
        Stage::Alpha,
        Effect::Works,
    ),
    (
        Gate::LeaseCheckpointPersist,
        "LeaseCheckpointPersist",
        Stage::Alpha,
        Effect::Always,
    ),
    (
        Gate::PriorityRequest,
        "PriorityRequest",
        Stage::Alpha,
        Effect::Repeated,
    ),
    (
        Gate::SetMemberLocalAddr,
        "SetMemberLocalAddr",
        Stage::Alpha,
        Effect::Alone,
    ),
    (
        Gate::StopGRPCServiceOnDefrag,
        "StopGRPCServiceOnDefrag",
        Stage::Alpha,
        Effect::Brief,
    ),
    (
        Gate::TxnModeWriteWithSharedBuffer,
        "TxnModeWriteWithSharedBuffer",
        Stage::Beta,
        Effect::Elsewhere,
    ),
];

/// What a gate off its default comes to in this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It switches its feature.
    Works,
    /// The feature is always on.
    Always,
    /// It concerns a member's peers, and a lone member has none.
    Alone,
    /// A revoke that was refused is asked for again until it is done.
    Repeated,
    /// Defragmentation never keeps requests waiting.
    Brief,
    /// It tunes a part of the official backend that has no counterpart.
    Elsewhere,
}

impl Effect {
    fn reason(self) -> &'static str {
        match self {
            Self::Alone => "it concerns the other members, and a lone member has none",
            Self::Works => "it switches its feature",
            Self::Always => "since 3.6 what was written down is always kept",
            Self::Repeated => "a revoke refused under overload is asked for again until it is done",
            Self::Brief => "a defragmentation does not keep requests waiting",
            Self::Elsewhere => "it tunes a buffer that this server does not have",
        }
    }
}

/// The state of all gates.
#[derive(Clone, Debug, Default)]
pub struct FeatureGates {
    /// Gates set by name, groups included, as they are printed.
    named: BTreeMap<&'static str, bool>,
}

/// Why a text of gates was refused; the text is etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// A name without a value.
    #[error("missing bool value for {0}")]
    NoValue(String),
    /// A value that is no boolean.
    #[error(
        "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    NotBool {
        /// The gate.
        name: String,
        /// What stood behind it.
        value: String,
    },
    /// A name that is no gate.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
}

impl FeatureGates {
    /// Adds the gates named in a text such as `A=true,B=false`; nothing changes on an error.
    ///
    /// # Errors
    /// The text is malformed or names an unknown gate.
    pub fn set(&mut self, text: &str) -> Result<(), GateError> {
        let mut asked: BTreeMap<&'static str, bool> = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(GateError::NoValue(part.trim().to_owned()));
            };
            let (name, value) = (name.trim(), value.trim());
            let switch = go_bool(value).ok_or_else(|| GateError::NotBool {
                name: name.to_owned(),
                value: value.to_owned(),
            })?;
            let known = known_name(name).ok_or_else(|| GateError::Unknown(name.to_owned()))?;
            asked.insert(known, switch);
        }
        // A group fills only gates that are not named, so groups may be kept and looked up last.
        self.named.extend(asked);
        Ok(())
    }

    /// Whether a feature is on.
    #[must_use]
    pub fn enabled(&self, gate: Gate) -> bool {
        let (_, name, stage, _) = row(gate);
        self.named
            .get(name)
            .or_else(|| self.named.get(stage.group()))
            .copied()
            .unwrap_or(*stage == Stage::Beta)
    }

    /// Every gate with its stage and state, ordered by name: what
    /// `etcd_server_feature_enabled{name,stage}` shows, groups included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Stage, bool)> {
        let groups = [Stage::Alpha, Stage::Beta].map(|stage| {
            let name = stage.group();
            (name, stage, self.named.get(name).copied().unwrap_or(false))
        });
        let gates: Vec<_> = GATES
            .iter()
            .map(|(gate, name, stage, _)| (*name, *stage, self.enabled(*gate)))
            .collect();
        groups.into_iter().chain(gates)
    }

    /// Gates off their defaults although they change nothing, each with the reason.
    pub fn without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.changed()
            .filter(|(_, effect)| *effect != Effect::Works)
            .map(|(name, effect)| (name, effect.reason()))
    }

    /// Gates off their defaults, by name or through their group.
    fn changed(&self) -> impl Iterator<Item = (&'static str, Effect)> {
        GATES
            .iter()
            .filter(|(gate, _, stage, _)| self.enabled(*gate) != (*stage == Stage::Beta))
            .map(|(_, name, _, effect)| (*name, *effect))
    }

    /// The lines of help: each gate with its stage and default.
    #[must_use]
    pub fn help() -> Vec<String> {
        GATES
            .iter()
            .map(|(_, name, stage, _)| {
                format!(
                    "{name}=true|false ({} - default={})",
                    stage.name(),
                    *stage == Stage::Beta
                )
            })
            .collect()
    }
}

impl fmt::Display for FeatureGates {
    /// The gates that were set, as the start line shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, switch)) in self.named.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={switch}")?;
        }
        Ok(())
    }
}

fn row(gate: Gate) -> &'static (Gate, &'static str, Stage, Effect) {
    GATES
        .iter()
        .find(|(known, ..)| *known == gate)
        .expect("every gate has a row in the table")
}

fn known_name(name: &str) -> Option<&'static str> {
    GATES
        .iter()
        .map(|(_, known, ..)| *known)
        .chain([Stage::Alpha.group(), Stage::Beta.group()])
        .find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::{FeatureGates, Gate, Stage};

    fn gates(text: &str) -> FeatureGates {
        let mut gates = FeatureGates::default();
        gates
            .set(text)
            .unwrap_or_else(|error| panic!("{text:?}: {error}"));
        gates
    }

    #[test]
    fn defaults_follow_the_stage() {
        for (name, stage, enabled) in gates("").all().skip(2) {
            assert_eq!(enabled, stage == Stage::Beta, "{name}");
        }
        assert_eq!(gates("").all().count(), 11);
    }

    #[test]
    fn a_group_sets_what_is_not_named() {
        let gates = gates("AllAlpha=true,LeaseCheckpoint=false,AllBeta=0");
        assert!(gates.enabled(Gate::CompactHashCheck));
        assert!(!gates.enabled(Gate::LeaseCheckpoint));
        assert!(!gates.enabled(Gate::FastLeaseKeepAlive));
        assert_eq!(
            gates.to_string(),
            "AllAlpha=true,AllBeta=false,LeaseCheckpoint=false"
        );
    }

    #[test]
    fn every_gate_off_its_default_is_named() {
        let check = |text: &str, without_effect: &[&str]| {
            let gates = gates(text);
            let names: Vec<_> = gates.without_effect().map(|(name, _)| name).collect();
            assert_eq!(names, without_effect, "{text:?}");
        };
        check("AllBeta=true,CompactHashCheck=false", &[]);
        check("PriorityRequest=true", &["PriorityRequest"]);
        check("LeaseCheckpoint=true", &[]);
        check(
            "AllBeta=false",
            &["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"],
        );
        check(
            "AllAlpha=true",
            &[
                "CompactHashCheck",
                "InitialCorruptCheck",
                "LeaseCheckpointPersist",
                "PriorityRequest",
                "SetMemberLocalAddr",
                "StopGRPCServiceOnDefrag",
            ],
        );
    }

    #[test]
    fn refuses_with_the_texts_of_etcd() {
        let check = |text: &str, error: &str| {
            assert_eq!(
                FeatureGates::default().set(text).unwrap_err().to_string(),
                error
            );
        };
        check("Nonsense=true", "unrecognized feature gate: Nonsense");
        check(
            "CompactHashCheck",
            "missing bool value for CompactHashCheck",
        );
        check(
            "CompactHashCheck=yes",
            "invalid value of CompactHashCheck=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
        );
    }
}
