//! `downgrade`: preparing a cluster for an older release.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/downgrade_command.go`.

use kvorum_cli::{Failure, Line};
use kvorum_client::DowngradeAction;

use super::settings;
use crate::failure::failed;
use crate::output::Reply;

pub(super) async fn run(mut line: Line, action: DowngradeAction) -> Result<(), Failure> {
    let (version, name) = match action {
        DowngradeAction::Validate => (target(&line)?, "validate"),
        DowngradeAction::Enable => (target(&line)?, "enable"),
        DowngradeAction::Cancel => (String::new(), "cancel"),
    };
    let settings = settings(&mut line).await?;
    let client = settings.client().await?;
    let response = client.downgrade(action, &version).await.map_err(failed)?;
    settings.printer.print(&Reply::Downgrade(name, response))
}

fn target(line: &Line) -> Result<String, Failure> {
    match line.arguments.as_slice() {
        [] => Err(Failure::arguments("TARGET_VERSION not provided")),
        [version] if version.is_empty() => Err(Failure::arguments("target version not provided")),
        [version] => Ok(version.clone()),
        _ => Err(Failure::arguments("too many arguments")),
    }
}
