use kvorum_client::{Client, Election, Error, Session};

/// Works while this process leads. False: the lead was lost before the work was done.
pub async fn lead(client: &Client, work: impl Future<Output = ()>) -> Result<bool, Error> {
    let mut session = Session::open(client, 10).await?;
    let leader = Election::campaign(&session, "scheduler", "host-1").await?;
    tokio::select! {
        () = work => leader.resign().await?,
        () = session.expired() => return Ok(false),
    }
    session.close().await?;
    Ok(true)
}
