use kvorum_client::{Client, Error, Mutex, Session};

/// Holds a lock while something is done; one process at a time comes that far.
pub async fn alone<T>(client: &Client, work: impl Future<Output = T>) -> Result<T, Error> {
    let session = Session::open(client, 10).await?;
    let lock = Mutex::lock(&session, "jobs/backup").await?;
    let done = work.await;
    lock.unlock().await?;
    session.close().await?;
    Ok(done)
}
