//! The replicated state of a member.

mod error;

pub use error::RequestError;
