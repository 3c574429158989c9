use kvorum_client::{Client, Config, Error, KeyRange};
use kvorum_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};

/// Writes a key, reads it, and sees it in a watch that began before.
pub async fn first_steps(endpoints: &[&str]) -> Result<Vec<String>, Error> {
    let client = Client::new(&Config::new(endpoints.iter().copied()))?;
    let range = KeyRange::prefix("config/");
    let watch = WatchCreateRequest {
        key: range.key.clone(),
        range_end: range.range_end.clone(),
        ..WatchCreateRequest::default()
    };
    let mut watcher = client.watch(watch).await?;
    let put = PutRequest {
        key: "config/color".into(),
        value: "blue".into(),
        ..PutRequest::default()
    };
    client.put(&put).await?;
    let all = RangeRequest {
        key: range.key,
        range_end: range.range_end,
        ..RangeRequest::default()
    };
    let mut seen = Vec::new();
    for kv in client.range(&all).await?.kvs {
        seen.push(format!("read {:?} = {:?}", kv.key, kv.value));
    }
    if let Some(response) = watcher.next().await? {
        for kv in response.events.into_iter().filter_map(|event| event.kv) {
            seen.push(format!("saw {:?} = {:?}", kv.key, kv.value));
        }
    }
    Ok(seen)
}
