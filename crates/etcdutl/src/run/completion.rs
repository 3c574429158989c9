//! `completion`: scripts for shells.

use kvorum_cli::Failure;
use kvorum_cli::line::Found;

use crate::commands::Action;

pub(super) fn run(shell: &str, found: &Found<Action>) -> Result<(), Failure> {
    let text = format!("invalid argument \"{shell}\" for \"etcdutl completion\"");
    Err(super::refused(found, &text))
}
