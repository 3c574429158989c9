//! `member`: list, add, remove, update, promote.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/member_command.go`.

use kvorum_proto::ids::MemberId;

use super::{is_serializable, settings};
use crate::failure::failed;
use crate::output::{Format, Reply};
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::{go, print_text};

/// The one argument, a member in hex.
fn member_argument(line: &Line) -> Result<MemberId, Failure> {
    let [member] = line.arguments.as_slice() else {
        return Err(Failure::arguments("member ID is not provided"));
    };
    let bad =
        |error| Failure::arguments(format!("bad member ID arg ({error}), expecting ID in Hex"));
    go::parse_uint(member, 16).map(MemberId).map_err(bad)
}

fn peer_urls(line: &Line) -> Result<Vec<String>, Failure> {
    let urls = line.text("peer-urls");
    if urls.is_empty() {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    Ok(urls.split(',').map(str::to_owned).collect())
}

pub(super) async fn list(mut line: Line) -> Result<(), Failure> {
    let linearizable = !is_serializable(&line)?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .member_list(linearizable)
        .await
        .map_err(failed)?;
    settings.printer.print(&Reply::Members(response))
}

pub(super) async fn add(mut line: Line) -> Result<(), Failure> {
    let name = match line.arguments.as_slice() {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => name.clone(),
        arguments => {
            let urls = arguments
                .iter()
                .filter(|word| word.to_lowercase().starts_with("http"));
            let hints: String = urls
                .map(|url| format!(", did you mean --peer-urls={url}"))
                .collect();
            return Err(Failure::arguments(format!("too many arguments{hints}")));
        }
    };
    let urls = peer_urls(&line)?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .member_add(urls, line.flag("learner"))
        .await
        .map_err(failed)?;
    let added = response.member.as_ref().map(|member| member.id);
    // How the new member has to be started.
    let listed = response.members.iter().flat_map(|member| {
        let shown = if Some(member.id) == added {
            &name
        } else {
            &member.name
        };
        member
            .peer_ur_ls
            .iter()
            .map(move |url| format!("{shown}={url}"))
    });
    let cluster = listed.collect::<Vec<_>>().join(",");
    settings.printer.print(&Reply::MemberAdded(response))?;
    if settings.printer.format == Format::Simple {
        let quote = |text: &str| go::quote(text.as_bytes());
        print_text(&format!(
            "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
            quote(&name),
            quote(&cluster),
            quote(&line.text("peer-urls"))
        ));
    }
    Ok(())
}

pub(super) async fn remove(mut line: Line) -> Result<(), Failure> {
    let member = member_argument(&line)?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .member_remove(member)
        .await
        .map_err(failed)?;
    settings
        .printer
        .print(&Reply::MemberRemoved(member, response))
}

pub(super) async fn update(mut line: Line) -> Result<(), Failure> {
    let member = member_argument(&line)?;
    let urls = peer_urls(&line)?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .member_update(member, urls)
        .await
        .map_err(failed)?;
    settings
        .printer
        .print(&Reply::MemberUpdated(member, response))
}

pub(super) async fn promote(mut line: Line) -> Result<(), Failure> {
    let member = member_argument(&line)?;
    let settings = settings(&mut line).await?;
    let response = settings
        .client()
        .await?
        .member_promote(member)
        .await
        .map_err(failed)?;
    settings
        .printer
        .print(&Reply::MemberPromoted(member, response))
}
