//! Help texts, laid out as cobra and pflag lay them out.
//!
//! Source: cobra v1.10.2 `command.go`, `defaultUsageFunc`; pflag v1.0.10 `flag.go`,
//! `FlagUsagesWrapped`.

use crate::commands::{Command, Flag, GLOBAL, GROUPS, Group, Kind};
use crate::line::HELP;

/// Least width of the column of commands.
const NAME_WIDTH_MIN: usize = 11;
/// Closes every help text.
const OPTIONS_HINT: &str = "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n";

/// The text that `--help` shows for the last command of the path.
pub(crate) fn help(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let long = if command.long.is_empty() {
        command.short
    } else {
        command.long
    };
    format!("{}\n\n{}{OPTIONS_HINT}", long.trim_end(), usage(path))
}

/// The text that follows an error in the command line.
pub(crate) fn usage(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let above: String = path[..path.len() - 1]
        .iter()
        .map(|command| format!("{} ", command.name))
        .collect();
    if path.len() == 1 || !command.children.is_empty() {
        return with_children(command, &format!("{above}{}", command.name));
    }
    runnable(command, &above, &path[1..path.len() - 1])
}

/// The same for a command outside the command line, whose nameless parent leaves a blank.
pub(crate) fn usage_alone(command: &'static Command) -> String {
    runnable(command, " ", &[])
}

fn runnable(command: &'static Command, above: &str, parents: &[&'static Command]) -> String {
    let mut text = format!("Usage:\n  {above}{} [flags]\n\nFlags:\n", command.usage);
    text += &flags(
        command.flags.iter().chain(command.persistent),
        Some(command.name),
    );
    let inherited: Vec<&Flag> = parents
        .iter()
        .flat_map(|parent| parent.persistent)
        .collect();
    if !inherited.is_empty() {
        text += "\nGlobal Flags:\n";
        text += &flags(inherited.into_iter(), None);
    }
    text
}

fn with_children(command: &'static Command, path: &str) -> String {
    let mut text = format!("Usage:\n  {path} [command]");
    let longest = command.children.iter().map(|child| child.name.len()).max();
    let width = longest.unwrap_or_default().max(NAME_WIDTH_MIN);
    let mut list = |heading: &str, group: Group| {
        text += &format!("\n\n{heading}");
        for child in command.children.iter().filter(|child| child.group == group) {
            text += &format!("\n  {:width$} {}", child.name, child.short);
        }
    };
    if command
        .children
        .iter()
        .all(|child| child.group == Group::None)
    {
        list("Available Commands:", Group::None);
        text += "\n\nFlags:\n";
        text += flags(
            command.flags.iter().chain(command.persistent),
            Some(command.name),
        )
        .trim_end();
    } else {
        for (group, heading) in GROUPS {
            list(heading, group);
        }
    }
    text + &format!("\n\nUse \"{path} [command] --help\" for more information about a command.\n")
}

/// What `options` shows.
pub(crate) fn global_flags() -> String {
    format!(
        "The following options can be passed to any command:\n\n{}",
        flags(GLOBAL.iter(), None)
    )
}

/// A line per flag, sorted by name; with the flag of help for a command of this name.
fn flags<'a>(flags: impl Iterator<Item = &'a Flag>, help_for: Option<&str>) -> String {
    let line = |flag: &Flag, usage: String| {
        let short = flag
            .short
            .map_or("    ".to_owned(), |short| format!("-{short}, "));
        let kind = match flag.kind {
            Kind::Bool => "",
            Kind::Text => " string",
            Kind::List => " strings",
            Kind::Int => " int",
            Kind::Duration => " duration",
        };
        (
            flag.name.to_owned(),
            format!("  {short}--{}{kind}", flag.name),
            usage,
        )
    };
    let mut lines: Vec<_> = flags
        .map(|flag| line(flag, flag.usage.to_owned() + &default(flag)))
        .collect();
    lines.extend(help_for.map(|name| line(&HELP, format!("help for {name}"))));
    lines.sort();
    let width = lines
        .iter()
        .map(|(_, left, _)| left.len())
        .max()
        .unwrap_or_default();
    lines
        .iter()
        .map(|(_, left, usage)| format!("{left:width$}   {usage}\n"))
        .collect()
}

fn default(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (Kind::Bool, "false") | (Kind::Int, "0") | (_, "") => String::new(),
        (Kind::Text, text) => format!(" (default \"{text}\")"),
        (Kind::List, list) => format!(" (default [{list}])"),
        (_, text) => format!(" (default {text})"),
    }
}
