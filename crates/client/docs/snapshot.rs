use kvorum_client::{Client, Error};

/// Reads a whole snapshot of the one member that the client has as endpoint, telling how many bytes
/// are still to come.
pub async fn save(client: &Client, mut to_come: impl FnMut(u64)) -> Result<Vec<u8>, Error> {
    let mut snapshot = client.snapshot().await?;
    let mut file = Vec::new();
    while let Some(bytes) = snapshot.next().await? {
        file.extend_from_slice(&bytes);
        to_come(snapshot.remaining_bytes());
    }
    Ok(file)
}
