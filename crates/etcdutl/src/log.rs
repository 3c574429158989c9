//! Lines on standard error about what is being done, in the console form of etcd's tools:
//! time, level, place, message and fields, separated by tabs.

use std::time::SystemTime;

use kvorum_cli::go;

/// A value of a field.
pub(crate) enum Value<'a> {
    Text(&'a str),
    Number(u64),
}

/// Says what is being done.
pub(crate) fn info(place: &str, message: &str, fields: &[(&str, Value<'_>)]) {
    line("info", place, message, fields);
}

/// Says what went wrong on the way to a failure.
pub(crate) fn error(place: &str, message: &str, fields: &[(&str, Value<'_>)]) {
    line("error", place, message, fields);
}

/// Says what the user should think about.
pub(crate) fn warn(place: &str, message: &str, fields: &[(&str, Value<'_>)]) {
    line("warn", place, message, fields);
}

fn line(level: &str, place: &str, message: &str, fields: &[(&str, Value<'_>)]) {
    let time = go::timestamp(SystemTime::now());
    // Whole seconds: what stands between the dot and the zone is left out.
    let seconds = time.split('.').next().unwrap_or_default();
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| match value {
            Value::Text(text) => format!("\"{name}\": {}", go::json_string(text)),
            Value::Number(number) => format!("\"{name}\": {number}"),
        })
        .collect();
    let mut text = format!("{seconds}Z\t{level}\tetcdutl/{place}\t{message}");
    if !fields.is_empty() {
        text += &format!("\t{{{}}}", fields.join(", "));
    }
    eprintln!("{text}");
}
