use kvorum_client::{Client, Error};
use kvorum_proto::etcdserverpb::PutRequest;
use kvorum_proto::ids::LeaseId;

/// Writes a key that is there as long as this process keeps its lease alive, here `times` times.
pub async fn register(client: &Client, times: usize) -> Result<i64, Error> {
    let lease = client.lease_grant(3).await?.id;
    let put = PutRequest {
        key: "workers/host-1".into(),
        lease,
        ..PutRequest::default()
    };
    client.put(&put).await?;
    let mut keeper = client.lease_keep_alive(LeaseId(lease));
    for _ in 0..times {
        // None would mean that the lease is gone, and the key with it.
        if keeper.next().await?.is_none() {
            break;
        }
    }
    Ok(lease)
}
