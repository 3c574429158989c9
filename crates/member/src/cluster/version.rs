//! The version of the cluster: the lowest version of its members, which all of them can speak.
//!
//! Source: etcd v3.7.1 server/etcdserver/v3_server.go (Downgrade), version/downgrade.go,
//! server/etcdserver/api/membership/cluster.go (SetVersion).

use std::fmt;
use std::str::FromStr;

use kvorum_proto::etcdserverpb::DowngradeInfo;

use crate::apply::RequestError;

/// The version this member speaks and announces.
pub const SERVER_VERSION: Version = Version {
    major: 3,
    minor: 7,
    patch: 1,
};
/// The version of a cluster whose members all speak ours.
pub const CLUSTER_VERSION: Version = Version {
    major: 3,
    minor: 7,
    patch: 0,
};
/// The version of what is stored, once the cluster has ours.
pub const STORAGE_VERSION: Version = Version {
    major: 3,
    minor: 7,
    patch: 0,
};

/// A version of three numbers. Versions of clusters have patch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Raised when nothing old is understood.
    pub major: u64,
    /// Raised by a feature release.
    pub minor: u64,
    /// Raised by a fix.
    pub patch: u64,
}

impl Version {
    /// Major and minor with patch 0, as versions of clusters are.
    pub fn of_cluster(self) -> Self {
        Self { patch: 0, ..self }
    }

    /// Major and minor as text, such as `3.7`.
    pub fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// The only version that a cluster of this version can go down to.
    pub fn below(self) -> Option<Self> {
        Some(Self {
            minor: self.minor.checked_sub(1)?,
            patch: 0,
            ..self
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that is no version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version of three numbers")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    /// Reads three numbers; what follows a `-` or `+` is left out.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits {
                part.parse().map_err(|_| VersionError)
            } else {
                Err(VersionError)
            }
        });
        let mut next = || parts.next().unwrap_or(Err(VersionError));
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        if parts.next().is_some() {
            Err(VersionError)
        } else {
            Ok(version)
        }
    }
}

/// A running downgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downgrade {
    /// The target as it stands in the log; none when no downgrade runs.
    pub target: Option<String>,
}

impl Downgrade {
    /// The form clients see.
    pub fn to_wire(&self) -> DowngradeInfo {
        DowngradeInfo {
            enabled: self.target.is_some(),
            target_version: self.target.clone().unwrap_or_default(),
        }
    }
}

/// Reads the target of a downgrade: `X.Y`, or `X.Y.Z` of which the patch is dropped.
///
/// # Errors
/// `WrongDowngradeVersionFormat`.
pub fn downgrade_target(text: &str) -> Result<Version, RequestError> {
    let version = text
        .parse::<Version>()
        .or_else(|_| format!("{text}.0").parse());
    version
        .map(Version::of_cluster)
        .map_err(|_| RequestError::WrongDowngradeVersionFormat)
}

/// Says whether a downgrade to `target` may begin; the answer of a validation, and the check
/// before one is switched on.
///
/// # Errors
/// `ClusterVersionUnavailable`, `InvalidDowngradeTargetVersion` or `DowngradeInProcess`.
pub fn check_downgrade(
    cluster: Option<Version>,
    running: &Downgrade,
    target: Version,
) -> Result<(), RequestError> {
    let cluster = cluster.ok_or(RequestError::ClusterVersionUnavailable)?;
    if cluster.of_cluster().below() != Some(target) {
        return Err(RequestError::InvalidDowngradeTargetVersion);
    }
    if running.target.is_some() {
        return Err(RequestError::DowngradeInProcess);
    }
    Ok(())
}
