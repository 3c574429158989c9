use std::collections::BTreeMap;

use kvorum_client::{Client, Error, Mirror};
use kvorum_proto::mvccpb::event::EventType;

/// Copies the keys with a prefix into a map and follows their changes until one key is there.
pub async fn follow(client: &Client, until: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut copy = BTreeMap::new();
    let mut mirror = Mirror::new(client, "config/");
    while let Some(page) = mirror.next_page().await? {
        copy.extend(page.into_iter().map(|kv| (kv.key.into(), kv.value.into())));
    }
    let mut changes = mirror.changes().await?;
    while !copy.contains_key(until.as_bytes()) {
        let Some(response) = changes.next().await? else {
            break;
        };
        for event in response.events {
            let is_delete = event.r#type() == EventType::Delete;
            let kv = event.kv.unwrap_or_default();
            if is_delete {
                copy.remove(&kv.key[..]);
            } else {
                copy.insert(kv.key.into(), kv.value.into());
            }
        }
    }
    Ok(copy)
}
