//! Who belongs to the cluster, and what everybody agreed on beside keys and leases.
//!
//! - [`Roster`]: the members and the ids that may never come back. Changed by configuration
//!   changes and by what members publish about themselves, both through the log.
//! - [`Member`]: one of them, with the JSON form it has in log entries.
//! - [`identity`]: how ids are computed.
//! - [`Version`]: the version of the cluster, and the rules of a downgrade.

mod change;
pub mod identity;
mod member;
mod reconfigure;
mod roster;
mod version;

pub use change::{Change, ChangeError};
pub use member::Member;
pub use reconfigure::{move_leader, ready_to_add_voter, ready_to_promote, ready_to_remove_voter};
pub use roster::Roster;
pub use version::{
    CLUSTER_VERSION, Downgrade, SERVER_VERSION, STORAGE_VERSION, Version, check_downgrade,
    downgrade_target,
};

#[cfg(test)]
mod tests;
