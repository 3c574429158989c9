//! The usage and the help, made from the flag table.

use super::flags;
use super::gates::FeatureGates;
use super::value::Kind;

/// What is printed behind a fault in the command line, and before the help.
pub(super) const USAGE: &str = "Usage:

  etcd [flags]
    Start a member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print all flags.

  etcd --config-file FILE
    Start a member from a YAML or JSON file. All other flags and all variables are then ignored.
    Spans of time are whole nanoseconds there: 600000000000 is ten minutes.
";

/// The help: every flag with its default, by section.
#[must_use]
pub fn text() -> String {
    let mut out = String::new();
    for (title, flags) in flags::SECTIONS {
        let shown = flags.iter().filter(|flag| !flag.help.is_empty());
        for (at, flag) in shown.enumerate() {
            if at == 0 {
                out.push_str(&format!("\n{title}:\n"));
            }
            out.push_str(&format!(
                "  --{} '{}'\n    {}\n",
                flag.name, flag.default, flag.help
            ));
            if matches!(flag.kind, Kind::Gates) {
                for gate in FeatureGates::help() {
                    out.push_str(&format!("      {gate}\n"));
                }
            }
            match flag.class {
                flags::Class::Works => {}
                flags::Class::NoEffect(reason) => {
                    out.push_str(&format!("    Without effect: {reason}.\n"));
                }
                flags::Class::Refused(reason) => {
                    out.push_str(&format!("    Not to be changed: {reason}.\n"));
                }
            }
        }
    }
    out
}
