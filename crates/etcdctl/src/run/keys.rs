//! `put`, `get`, `del` and `compaction`.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/put_command.go`, `get_command.go`, `del_command.go`,
//! `compaction_command.go`.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use kvorum_client::KeyRange;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::{is_serializable, settings};
use crate::failure::failed;
use crate::output::{Format, Reply};
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::failure::{BAD_FEATURE, ERROR};
use kvorum_cli::go;
use kvorum_cli::print_text;

/// Time to think before a range is deleted that was not called one.
const DELETE_PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn put(mut line: Line) -> Result<(), Failure> {
    let request = put_request(&line)?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .put(&request)
        .await
        .map_err(failed)?;
    settings.printer.print(&Reply::Put(response))
}

pub(super) fn put_request(line: &Line) -> Result<PutRequest, Failure> {
    let usage =
        || Failure::arguments("put command needs 1 argument and input from stdin or 2 arguments");
    let ignore_value = line.flag("ignore-value");
    let (key, value) = match line.arguments.as_slice() {
        [] => return Err(usage()),
        [_, _, ..] if ignore_value => {
            return Err(Failure::arguments(
                "put command needs only 1 argument when 'ignore-value' is set",
            ));
        }
        [key] if ignore_value => (key, Bytes::new()),
        [key] => (key, Bytes::from(standard_input().ok_or_else(usage)?)),
        [key, value, ..] => (key, Bytes::from(value.clone())),
    };
    let lease = go::parse_int(&line.text("lease"), 16).map_err(|error| {
        Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex"))
    })?;
    Ok(PutRequest {
        key: key.clone().into(),
        value,
        lease,
        prev_kv: line.flag("prev-kv"),
        ignore_value,
        ignore_lease: line.flag("ignore-lease"),
    })
}

/// All of standard input; none if there is nothing or it cannot be read.
fn standard_input() -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

pub(super) async fn get(mut line: Line) -> Result<(), Failure> {
    let request = get_request(&line)?;
    let mut settings = settings(&mut line).await?;
    let client = settings.client().await?;
    let response = if line.flag("stream") {
        client.range_stream(&request).await.map_err(failed)?
    } else {
        client.range(&request).await.map_err(failed)?
    };
    if line.flag("count-only") && settings.printer.format != Format::Fields {
        return Err(Failure::arguments(
            "--count-only is only for `--write-out=fields`",
        ));
    }
    if line.flag("print-value-only") {
        if settings.printer.format != Format::Simple {
            return Err(Failure::arguments(
                "print-value-only is only for `--write-out=simple`",
            ));
        }
        settings.printer.values_only = true;
    }
    settings.printer.print(&Reply::Range(response))
}

pub(super) fn get_request(line: &Line) -> Result<RangeRequest, Failure> {
    if line.arguments.is_empty() {
        let text = "get command needs one argument as key and an optional argument as range_end";
        return Err(Failure::arguments(text));
    }
    exclusive(line, "prefix", "from-key")?;
    exclusive(line, "keys-only", "count-only")?;
    let serializable = is_serializable(line)?;
    let range = key_range(line)?;
    let sort_order = sort_order(&line.text("order"))?;
    let sort_target = sort_target(&line.text("sort-by"))?;
    let (min_create_revision, max_create_revision) =
        revisions(line, "Create", "min-create-rev", "max-create-rev")?;
    let (min_mod_revision, max_mod_revision) =
        revisions(line, "Mod", "min-mod-rev", "max-mod-rev")?;
    Ok(RangeRequest {
        key: range.key,
        range_end: range.range_end,
        limit: line.int("limit"),
        revision: line.int("rev").max(0),
        // Keys come in their order anyway, and the server need not sort them again.
        sort_order: match (sort_order, sort_target) {
            (SortOrder::Ascend, SortTarget::Key) => SortOrder::None.into(),
            (order, _) => order.into(),
        },
        sort_target: sort_target.into(),
        serializable,
        keys_only: line.flag("keys-only"),
        count_only: line.flag("count-only"),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    })
}

fn exclusive(line: &Line, one: &str, other: &str) -> Result<(), Failure> {
    if line.flag(one) && line.flag(other) {
        let text = format!("`--{one}` and `--{other}` cannot be set at the same time, choose one");
        return Err(Failure::arguments(text));
    }
    Ok(())
}

/// The keys that the arguments, `--prefix` and `--from-key` mean together.
fn key_range(line: &Line) -> Result<KeyRange, Failure> {
    let key = line.arguments.first().cloned().unwrap_or_default();
    let (prefix, from_key) = (line.flag("prefix"), line.flag("from-key"));
    match line.arguments.get(1) {
        Some(_) if prefix || from_key => {
            let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
            Err(Failure::arguments(text))
        }
        Some(end) => Ok(KeyRange::between(key, end.clone())),
        None if prefix => Ok(KeyRange::prefix(key)),
        None if from_key => Ok(KeyRange::from_key(key)),
        None => Ok(KeyRange::single(key)),
    }
}

fn sort_order(text: &str) -> Result<SortOrder, Failure> {
    match text.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(Failure::new(BAD_FEATURE, format!("bad sort order {text}"))),
    }
}

fn sort_target(text: &str) -> Result<SortTarget, Failure> {
    match text.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Failure::new(BAD_FEATURE, format!("bad sort target {text}"))),
    }
}

/// Bounds of revisions, 0 for none.
fn revisions(line: &Line, name: &str, min: &str, max: &str) -> Result<(i64, i64), Failure> {
    let (min, max) = (line.int(min), line.int(max));
    if max > 0 && min > max {
        let text = format!("getMin{name}Rev(={min}) > getMax{name}Rev(={max})");
        return Err(Failure::new(BAD_FEATURE, text));
    }
    Ok((min.max(0), max.max(0)))
}

pub(super) async fn delete(mut line: Line) -> Result<(), Failure> {
    let request = delete_request(&line).await?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .delete(&request)
        .await
        .map_err(failed)?;
    settings.printer.print(&Reply::Delete(response))
}

pub(super) async fn delete_request(line: &Line) -> Result<DeleteRangeRequest, Failure> {
    if !(1..=2).contains(&line.arguments.len()) {
        let text = "del command needs one argument as key and an optional argument as range_end";
        return Err(Failure::arguments(text));
    }
    exclusive(line, "prefix", "from-key")?;
    let range = key_range(line)?;
    if let [key, end] = line.arguments.as_slice()
        && !line.flag("range")
    {
        let (key, end) = (go::quote(key.as_bytes()), go::quote(end.as_bytes()));
        eprintln!(
            "Warning: Keys between {key} and {end} will be deleted. Please interrupt the command within next 2 \
             seconds to cancel. You can provide `--range` flag to avoid the delay."
        );
        tokio::time::sleep(DELETE_PAUSE).await;
    }
    Ok(DeleteRangeRequest {
        key: range.key,
        range_end: range.range_end,
        prev_kv: line.flag("prev-kv"),
    })
}

pub(super) async fn compact(mut line: Line) -> Result<(), Failure> {
    let [revision] = line.arguments.as_slice() else {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    };
    let revision = go::parse_int(revision, 10).map_err(|error| Failure::new(ERROR, error))?;
    let settings = settings(&mut line).await?;
    settings
        .client()
        .await?
        .compact(revision, line.flag("physical"))
        .await
        .map_err(failed)?;
    print_text(&format!("compacted revision {revision}\n"));
    Ok(())
}
