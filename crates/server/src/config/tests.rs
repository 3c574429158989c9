//! Whole configurations: what a command line, an environment or a file becomes.

use super::{Exit, Parsed, parse_on};

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn pairs(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, Exit> {
    parse_on(&strings(arguments), &pairs(variables), None)
}

#[test]
fn nothing_said_gives_the_defaults() {
    let parsed = parse(&[], &[]).expect("a configuration");
    assert_eq!(parsed.config.name, "default");
    assert_eq!(parsed.config.data_dir, "default.etcd");
}
