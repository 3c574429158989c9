//! `completion`: scripts for shells, which ask the tool itself.

use kvorum_cli::line::Found;
use kvorum_cli::{Failure, completion, print_text};

use crate::commands::{Action, TOOL};

pub(super) fn run(shell: &str, found: &Found<Action>) -> Result<(), Failure> {
    match completion::script(shell, TOOL.root.name) {
        Some(script) => {
            print_text(&script);
            Ok(())
        }
        None => {
            let text = format!("invalid argument \"{shell}\" for \"etcdutl completion\"");
            Err(super::refused(found, &text))
        }
    }
}
