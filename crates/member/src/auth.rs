//! Whether users are asked for. Users and roles themselves are not here yet: requests that would
//! change them are refused before they are proposed, so the status never changes.

/// The switch and the revision counter of the auth store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether requests need a user.
    pub enabled: bool,
    /// Counts changes of users, roles and permissions; 1 in an empty store.
    pub revision: u64,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
        }
    }
}
