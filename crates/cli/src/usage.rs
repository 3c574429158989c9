//! Help texts, laid out as cobra and pflag lay them out.
//!
//! Source: cobra v1.10.2 `command.go`, `defaultUsageFunc`; pflag v1.0.10 `flag.go`,
//! `FlagUsagesWrapped`.

use crate::command::{Command, Flag, Kind, Tool};
use crate::line::HELP;

/// Least width of the column of commands.
const NAME_WIDTH_MIN: usize = 11;
/// The text that `--help` shows for the last command of the path.
pub fn help<A>(tool: &Tool<A>, path: &[&'static Command<A>]) -> String {
    let usage = usage(tool, path);
    if !tool.describes {
        return usage + tool.hint;
    }
    let command = path[path.len() - 1];
    let long = if command.long.is_empty() {
        command.short
    } else {
        command.long
    };
    format!("{}\n\n{usage}{}", long.trim_end(), tool.hint)
}

/// The text that follows an error in the command line.
pub fn usage<A>(tool: &Tool<A>, path: &[&'static Command<A>]) -> String {
    let command = path[path.len() - 1];
    let above: String = path[..path.len() - 1]
        .iter()
        .map(|command| format!("{} ", command.name))
        .collect();
    let above_it = &path[..path.len() - 1];
    let listed = if tool.lists_global {
        above_it
    } else {
        above_it.get(1..).unwrap_or_default()
    };
    if path.len() == 1 || !command.children.is_empty() {
        return with_children(tool, command, &format!("{above}{}", command.name), listed);
    }
    runnable(command, &above, listed)
}

/// The same for a command outside the command line, whose nameless parent leaves a blank.
pub fn usage_alone<A>(command: &'static Command<A>) -> String {
    runnable(command, " ", &[])
}

fn runnable<A>(
    command: &'static Command<A>,
    above: &str,
    parents: &[&'static Command<A>],
) -> String {
    let flags_word = if command.hides_flags { "" } else { " [flags]" };
    let mut text = format!(
        "Usage:\n  {above}{}{flags_word}\n{}\nFlags:\n",
        command.usage,
        examples(command)
    );
    text += &flags(
        command.flags.iter().chain(command.persistent),
        Some(command.name),
    );
    text + &inherited(parents)
}

fn with_children<A>(
    tool: &Tool<A>,
    command: &'static Command<A>,
    path: &str,
    parents: &[&'static Command<A>],
) -> String {
    let mut text = format!("Usage:\n  {path} [command]\n{}", examples(command));
    text.truncate(text.trim_end_matches('\n').len());
    let longest = command.children.iter().map(|child| child.name.len()).max();
    let width = longest.unwrap_or_default().max(NAME_WIDTH_MIN);
    let mut list = |heading: &str, group: &str| {
        text += &format!("\n\n{heading}");
        for child in command.children.iter().filter(|child| child.group == group) {
            text += &format!("\n  {:width$} {}", child.name, child.short);
        }
    };
    if command.children.iter().all(|child| child.group.is_empty()) {
        list("Available Commands:", "");
        text += "\n\nFlags:\n";
        text += &flags(
            command.flags.iter().chain(command.persistent),
            Some(command.name),
        );
        text += &inherited(parents);
    } else {
        for heading in tool.groups {
            list(heading, heading);
        }
        text.push('\n');
    }
    text + &format!("\nUse \"{path} [command] --help\" for more information about a command.\n")
}

/// The examples with their heading; empty if there are none.
fn examples<A>(command: &Command<A>) -> String {
    match command.example {
        "" => String::new(),
        lines => format!("\nExamples:\n{lines}\n"),
    }
}

/// The flags of the commands above, with their heading; empty if there are none.
fn inherited<A>(parents: &[&'static Command<A>]) -> String {
    let mut above = parents
        .iter()
        .flat_map(|parent| parent.persistent)
        .peekable();
    if above.peek().is_none() {
        return String::new();
    }
    format!("\nGlobal Flags:\n{}", flags(above, None))
}

/// What `options` shows.
pub fn global_flags<A>(tool: &Tool<A>) -> String {
    format!(
        "The following options can be passed to any command:\n\n{}",
        flags(tool.root.persistent.iter(), None)
    )
}

/// A line per flag, sorted by name; with the flag of help for a command of this name.
fn flags<'a>(flags: impl Iterator<Item = &'a Flag>, help_for: Option<&str>) -> String {
    let line = |flag: &Flag, usage: String| {
        let short = flag
            .short
            .map_or("    ".to_owned(), |short| format!("-{short}, "));
        let kind = match flag.kind {
            _ if !flag.placeholder.is_empty() => flag.placeholder,
            Kind::Bool => "",
            Kind::Text => " string",
            Kind::List => " strings",
            Kind::Int => " int",
            Kind::Uint => " uint",
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
        (Kind::Bool, "false") | (Kind::Int | Kind::Uint, "0") | (_, "") => String::new(),
        (Kind::Text, text) => format!(" (default \"{text}\")"),
        (Kind::List, list) => format!(" (default [{list}])"),
        (_, text) => format!(" (default {text})"),
    }
}
