//! Results as text, in each format.
//!
//! Source: v3.7.1 `etcdutl/etcdutl/printer*.go`.

use kvorum_cli::frame::frame;
use kvorum_cli::json::Object;
use kvorum_cli::{Failure, Line, failure, go, print_text};
use kvorum_mvcc::HashKv;

use crate::run::status::Status;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Fields,
    Json,
    Protobuf,
    Simple,
    Table,
}

impl Format {
    /// The format that the line asks for.
    pub(crate) fn of(line: &Line) -> Result<Self, Failure> {
        Ok(match line.text("write-out").as_str() {
            "fields" => Self::Fields,
            "json" => Self::Json,
            "protobuf" => Self::Protobuf,
            "simple" => Self::Simple,
            "table" => Self::Table,
            _ => {
                let text = "unsupported output format";
                return Err(Failure::new(failure::BAD_FEATURE, text));
            }
        })
    }
}

/// What can be shown.
pub(crate) struct Shown<'a> {
    /// Column by column: the head of a table, the name of a field, the value there, the value in
    /// rows.
    pub(crate) columns: &'a [(&'a str, &'a str, String, String)],
    pub(crate) json: Object,
}

/// Writes a result.
pub(crate) fn show(format: Format, shown: Shown<'_>) -> Result<(), Failure> {
    let row = || -> Vec<String> {
        let columns = shown.columns.iter();
        columns.map(|(_, _, _, cell)| cell.clone()).collect()
    };
    let text = match format {
        Format::Fields => shown
            .columns
            .iter()
            .map(|(_, name, value, _)| format!("\"{name}\" : {value}\n"))
            .collect(),
        Format::Json => format!("{}\n", shown.json.end()),
        Format::Simple => format!("{}\n", row().join(", ")),
        Format::Table => {
            let head: Vec<&str> = shown.columns.iter().map(|(head, ..)| *head).collect();
            frame(&head, &[row()])
        }
        Format::Protobuf => {
            let text = "protobuf not supported as output format";
            return Err(Failure::new(failure::BAD_FEATURE, text));
        }
    };
    print_text(&text);
    Ok(())
}

/// `snapshot status`.
pub(crate) fn status(format: Format, status: &Status) -> Result<(), Failure> {
    let column = |head, name, value: String| (head, name, value.clone(), value);
    let columns = [
        (
            "HASH",
            "Hash",
            status.hash.to_string(),
            format!("{:x}", status.hash),
        ),
        column("REVISION", "Revision", status.revision.to_string()),
        column("TOTAL KEYS", "Keys", status.total_keys.to_string()),
        (
            "TOTAL SIZE",
            "Size",
            status.total_size.to_string(),
            go::bytes_short(status.total_size),
        ),
        column("VERSION", "Version", status.version.clone()),
    ];
    let json = Object::new()
        .always("hash", status.hash)
        .always("revision", status.revision)
        .always("totalKey", status.total_keys)
        .always("totalSize", status.total_size)
        .always("version", go::json_string(&status.version));
    let columns = &columns;
    show(format, Shown { columns, json })
}

/// `hashkv`.
pub(crate) fn hash(format: Format, hash: &HashKv) -> Result<(), Failure> {
    let column = |head, name, value: String| (head, name, value.clone(), value);
    let columns = [
        column("HASH", "Hash", hash.hash.to_string()),
        column("HASH REVISION", "Hash revision", hash.revision.to_string()),
        column(
            "COMPACT REVISION",
            "Compact revision",
            hash.compact_revision.to_string(),
        ),
    ];
    let json = Object::new()
        .always("hash", hash.hash)
        .always("hashRevision", hash.revision)
        .always("compactRevision", hash.compact_revision);
    let columns = &columns;
    show(format, Shown { columns, json })
}
