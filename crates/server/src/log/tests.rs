//! What reaches a log file, and which settings are refused.

use std::collections::BTreeSet;

use tracing_subscriber::layer::SubscriberExt as _;

use super::events::Events;
use super::{Level, Line, LogError, Logger, open_outputs};
use crate::config::Config;
use crate::scratch::Scratch;

fn settings(outputs: &[&str], level: &str) -> Config {
    let mut config = Config::defaults();
    config.log.outputs = outputs.iter().map(ToString::to_string).collect();
    config.log.level = level.to_owned();
    config
}

#[test]
fn a_file_gets_lines_from_the_level_on() {
    let scratch = Scratch::new();
    let path = scratch.file("etcd.log");
    let logger = Logger::open(&settings(&[&path], "warn")).expect("a logger");
    logger.write(&Line::info("too low"));
    logger.write(&Line::warn("kept").field("count", 1));
    logger.write(&Line::fatal("kept too"));
    let text = std::fs::read_to_string(path).expect("the log file");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let messages: Vec<_> = lines.iter().map(|line| line["msg"].as_str()).collect();
    assert_eq!(messages, [Some("kept"), Some("kept too")]);
    assert_eq!(lines[0]["level"], "warn");
    assert_eq!(lines[0]["count"], 1);
    let caller = lines[0]["caller"].as_str().expect("a caller");
    assert!(caller.starts_with("server/log/tests.rs:"), "{caller}");
}

#[test]
fn dev_null_discards_everything() {
    let outputs = open_outputs(&BTreeSet::from([
        "/dev/null".to_owned(),
        "stderr".to_owned(),
    ]));
    assert!(outputs.expect("nothing to open").is_empty());
}

#[test]
fn wrong_settings_are_named() {
    let check = |config: &Config, text: &str| {
        let error = Logger::open(config).expect_err("a wrong setting");
        assert!(error.to_string().starts_with(text), "{error}");
    };
    check(
        &settings(&["stderr"], "loud"),
        "unrecognized level: \"loud\"",
    );
    check(
        &settings(&["/no/such/folder/log"], "info"),
        "couldn't open sink \"/no/such/folder/log\"",
    );
    let mut config = settings(&["stderr"], "info");
    config.log.format = "xml".to_owned();
    check(
        &config,
        "unknown log format: xml, supported values json, console",
    );
    assert!(matches!(Logger::open(&config), Err(LogError::Format(_))));
}

#[test]
fn foreign_events_below_warn_are_left_out() {
    let subscriber = tracing_subscriber::registry().with(Events {
        lowest: Level::Debug,
    });
    tracing::subscriber::with_default(subscriber, || {
        assert!(tracing::enabled!(target: "kvorum_member::apply", tracing::Level::DEBUG));
        assert!(!tracing::enabled!(target: "kvorum_member::apply", tracing::Level::TRACE));
        assert!(!tracing::enabled!(target: "h2::codec", tracing::Level::DEBUG));
        assert!(tracing::enabled!(target: "h2::codec", tracing::Level::WARN));
    });
}
