//! The command line: which command it calls, and the values of its flags.
//!
//! Words that are no flag choose commands, by full name or by a prefix that fits only one. Flags
//! may stand anywhere, as `--flag value`, `--flag=value`, `-f value`, `-fvalue` or `-f=value`;
//! a flag of yes and no takes its value only after `=`. `--` ends the flags.
//!
//! Source: cobra v1.10.2 `command.go`, `Find`; pflag v1.0.10 `flag.go`, `parseArgs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::{Command, Flag, Kind, Tool};
use crate::failure::{ERROR, Failure};
use crate::{go, usage};

/// `--help`, which every command has.
pub const HELP: Flag = Flag::new("help", Kind::Bool, "false", "").short('h');

/// Largest distance of a word from a command's name at which the name is suggested.
const SUGGESTION_DISTANCE_MAX: usize = 2;

/// A command that was found, and the words that are left for it.
pub struct Found<A: 'static> {
    tool: &'static Tool<A>,
    /// The command.
    pub command: &'static Command<A>,
    /// From the root to the command.
    pub path: Vec<&'static Command<A>>,
    rest: Vec<String>,
}

/// The value of a flag.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a flag of yes and no.
    Bool(bool),
    /// Of a flag that takes a text.
    Text(String),
    /// Of a flag that takes several texts.
    List(Vec<String>),
    /// Of a flag that takes a number.
    Int(i64),
    /// Of a flag that takes a number that is not negative.
    Uint(u64),
    /// Of a flag that takes a duration.
    Duration(Duration),
}

/// A parsed line: a value for each flag that was given, and the other words.
#[derive(Clone, Debug, Default)]
pub struct Line {
    given: BTreeMap<&'static str, Value>,
    /// Flags that may be given, by name.
    known: Vec<&'static Flag>,
    /// The words that are neither flags nor commands.
    pub arguments: Vec<String>,
}

/// Finds the command that `arguments` call.
///
/// # Errors
/// A word that is no command of the root, with suggestions.
pub fn find<A>(tool: &'static Tool<A>, arguments: &[String]) -> Result<Found<A>, Failure> {
    let root = &tool.root;
    let mut path = vec![root];
    let mut command = root;
    let mut rest = arguments.to_vec();
    while let Some(at) = first_word(&rest, &flags_of(&path)) {
        let Some(next) = child(command, &rest[at]) else {
            if path.len() == 1 {
                return Err(unknown(tool, &rest[at]));
            }
            break;
        };
        rest.remove(at);
        path.push(next);
        command = next;
    }
    Ok(Found {
        tool,
        command,
        path,
        rest,
    })
}

/// The commands that a line calls which is not finished: as far as its words lead.
pub(crate) fn reach<A>(tool: &'static Tool<A>, words: &[String]) -> Vec<&'static Command<A>> {
    let mut path = vec![&tool.root];
    let mut rest = words.to_vec();
    while let Some(at) = first_word(&rest, &flags_of(&path)) {
        let Some(next) = child(path[path.len() - 1], &rest[at]) else {
            break;
        };
        rest.remove(at);
        path.push(next);
    }
    path
}

/// Follows words without flags, as `help` does; none if they name no command.
pub fn follow<A>(tool: &'static Tool<A>, words: &[String]) -> Option<Vec<&'static Command<A>>> {
    let mut path = vec![&tool.root];
    for word in words {
        match child(path[path.len() - 1], word) {
            Some(next) => path.push(next),
            // A word too many is for the command to judge, except at the root.
            None if path.len() > 1 => break,
            None => return None,
        }
    }
    Some(path)
}

fn child<A>(command: &'static Command<A>, word: &str) -> Option<&'static Command<A>> {
    if let Some(exact) = command.children.iter().find(|child| child.name == word) {
        return Some(exact);
    }
    let mut fitting = command
        .children
        .iter()
        .filter(|child| child.name.starts_with(word));
    let first = fitting.next();
    if fitting.next().is_some() {
        None
    } else {
        first
    }
}

/// Place of the first word that is neither a flag nor the value of one.
fn first_word(words: &[String], flags: &[&Flag]) -> Option<usize> {
    let takes_value = |word: &str| {
        if word.contains('=') {
            return false;
        }
        let flag = match word.strip_prefix("--") {
            Some(name) => flags.iter().find(|flag| flag.name == name),
            None if word.len() == 2 => flags
                .iter()
                .find(|flag| flag.short.is_some_and(|short| word.ends_with(short))),
            None => return false,
        };
        flag.is_none_or(|flag| flag.kind != Kind::Bool)
    };
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if word == "--" {
            return None;
        }
        if !word.starts_with('-') {
            if !word.is_empty() {
                return Some(at);
            }
            at += 1;
        } else {
            at += if takes_value(word) { 2 } else { 1 };
        }
    }
    None
}

/// Flags that a command takes: its own, those of the commands above, and help.
pub(crate) fn flags_of<A>(path: &[&'static Command<A>]) -> Vec<&'static Flag> {
    let own = path.last().into_iter().flat_map(|command| command.flags);
    let inherited = path.iter().flat_map(|command| command.persistent);
    own.chain(inherited).chain([&HELP]).collect()
}

fn unknown<A>(tool: &'static Tool<A>, word: &str) -> Failure {
    let root = &tool.root;
    let quoted = go::quote(word.as_bytes());
    let mut error = format!("unknown command {quoted} for \"{}\"", root.name);
    let lower = word.to_lowercase();
    let near =
        |name: &str| distance(&lower, name) <= SUGGESTION_DISTANCE_MAX || name.starts_with(&lower);
    let names: Vec<&str> = root
        .children
        .iter()
        .map(|child| child.name)
        .filter(|name| near(name))
        .collect();
    if !names.is_empty() {
        error += "\n\nDid you mean this?\n";
        for name in names {
            error += &format!("\t{name}\n");
        }
    }
    let hint = format!("Run '{} --help' for usage.", root.name);
    refused(tool, &error, &hint)
}

/// How many letters must be put in, taken out or replaced to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (number, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for at in 0..to.len() {
            let replaced = diagonal + usize::from(to[at] != letter);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// An error in the command line and what follows it, in the manner of the tool.
fn refused<A>(tool: &'static Tool<A>, error: &str, after: &str) -> Failure {
    let mut text = format!("Error: {error}\n{after}");
    if tool.repeats_errors {
        text += &format!("\nError: {error}");
    }
    Failure::verbatim(ERROR, text)
}

impl<A> Found<A> {
    /// The text that `--help` shows.
    pub fn help(&self) -> String {
        usage::help(self.tool, &self.path)
    }

    /// Reads the flags of the command.
    ///
    /// # Errors
    /// The error and the command's usage, as one text.
    pub fn parse(&self) -> Result<Line, Failure> {
        Line::parse(flags_of(&self.path), &self.rest)
            .and_then(|line| self.check_arguments(line))
            .map_err(|error| refused(self.tool, &error, &usage::usage(self.tool, &self.path)))
    }

    /// Of a command that takes one of a few words, whether it got one.
    fn check_arguments(&self, line: Line) -> Result<Line, String> {
        let values = self.command.values;
        if values.is_empty() || line.flag(HELP.name) {
            return Ok(line);
        }
        let [word] = line.arguments.as_slice() else {
            let count = line.arguments.len();
            return Err(format!("accepts 1 arg(s), received {count}"));
        };
        if !values.contains(&word.as_str()) {
            let word = go::quote(word.as_bytes());
            let path: Vec<&str> = self.path.iter().map(|command| command.name).collect();
            return Err(format!(
                "invalid argument {word} for \"{}\"",
                path.join(" ")
            ));
        }
        Ok(line)
    }
}

impl Line {
    /// Reads `words` with these flags.
    ///
    /// # Errors
    /// The text of pflag's error.
    pub fn parse(known: Vec<&'static Flag>, words: &[String]) -> Result<Self, String> {
        let mut line = Self {
            known,
            ..Self::default()
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                line.arguments.extend(words.cloned());
                break;
            } else if let Some(flag) = word.strip_prefix("--") {
                line.long(word, flag, &mut words)?;
            } else if word.len() > 1 && word.starts_with('-') {
                line.short(&word[1..], &mut words)?;
            } else {
                line.arguments.push(word.clone());
            }
        }
        Ok(line)
    }

    /// The same for a command outside the command line: a request of a transaction, or a watch of
    /// an interactive session.
    ///
    /// # Errors
    /// The text of pflag's error.
    pub fn parse_alone<A>(command: &'static Command<A>, words: &[String]) -> Result<Self, String> {
        Self::parse(command.flags.iter().chain([&HELP]).collect(), words)
    }

    fn long<'a>(
        &mut self,
        word: &str,
        flag: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        if flag.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let known = self.known.iter().find(|flag| flag.name == name);
        let flag = *known.ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: --{name}"))?,
        };
        self.give(flag, &value)
    }

    fn short<'a>(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        let mut left = letters;
        while let Some(letter) = left.chars().next() {
            let after = &left[letter.len_utf8()..];
            let known = self.known.iter().find(|flag| flag.short == Some(letter));
            let flag =
                *known.ok_or_else(|| format!("unknown shorthand flag: '{letter}' in -{left}"))?;
            let value = match after.strip_prefix('=') {
                Some(value) if !value.is_empty() => value.to_owned(),
                _ if flag.kind == Kind::Bool => {
                    self.give(flag, "true")?;
                    left = after;
                    continue;
                }
                _ if !after.is_empty() => after.to_owned(),
                _ => {
                    let missing = || format!("flag needs an argument: '{letter}' in -{left}");
                    rest.next().cloned().ok_or_else(missing)?
                }
            };
            return self.give(flag, &value);
        }
        Ok(())
    }

    fn give(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        let value = read(flag, text).map_err(|error| {
            let text = go::quote(text.as_bytes());
            let name = match flag.short {
                Some(short) => format!("-{short}, --{}", flag.name),
                None => format!("--{}", flag.name),
            };
            format!("invalid argument {text} for \"{name}\" flag: {error}")
        })?;
        match (self.given.get_mut(flag.name), value) {
            (Some(Value::List(list)), Value::List(more)) => list.extend(more),
            (_, value) => {
                self.given.insert(flag.name, value);
            }
        }
        Ok(())
    }

    /// Takes a value that does not come from the line.
    ///
    /// # Errors
    /// Why the text is not a value of this flag.
    pub fn take(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        self.given.insert(flag.name, read(flag, text)?);
        Ok(())
    }

    /// Whether the flag was given, with whatever value.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The flags that may be given.
    pub fn known(&self) -> &[&'static Flag] {
        &self.known
    }

    /// The value of a flag, its default if it was not given.
    ///
    /// # Panics
    /// When the command has no such flag, which is a mistake of the table.
    pub fn value(&self, name: &str) -> Value {
        if let Some(value) = self.given.get(name) {
            return value.clone();
        }
        let flag = self.known.iter().find(|flag| flag.name == name);
        let flag = flag.expect("commands ask for flags that the table gives them");
        read(flag, flag.default).expect("defaults of the table are values of their flags")
    }

    /// The value of a flag of yes and no.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name) == Value::Bool(true)
    }

    /// The value of a flag that takes a text.
    pub fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    /// The value of a flag that takes several texts.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(list) => list,
            _ => Vec::new(),
        }
    }

    /// The value of a flag that takes a number.
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(int) => int,
            _ => 0,
        }
    }

    /// The value of a flag that takes a number that is not negative.
    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(uint) => uint,
            _ => 0,
        }
    }

    /// The value of a flag that takes a duration.
    pub fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Duration(duration) => duration,
            _ => Duration::ZERO,
        }
    }
}

fn read(flag: &Flag, text: &str) -> Result<Value, String> {
    Ok(match flag.kind {
        Kind::Bool => Value::Bool(go::parse_bool(text)?),
        Kind::Text => Value::Text(text.to_owned()),
        Kind::List if text.is_empty() => Value::List(Vec::new()),
        Kind::List => Value::List(text.split(',').map(str::to_owned).collect()),
        Kind::Int => Value::Int(go::parse_int(text, 0)?),
        Kind::Uint => Value::Uint(go::parse_uint(text, 0)?),
        Kind::Duration => Value::Duration(go::parse_duration(text)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_letters() {
        for (from, to, letters) in [
            ("", "abc", 3),
            ("get", "gett", 1),
            ("dle", "del", 2),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(from, to), letters);
        }
    }
}
