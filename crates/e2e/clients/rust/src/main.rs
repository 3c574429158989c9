//! Puts, reads, compares, watches and leases through the `etcd-client` library, and prints what
//! comes back.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetOptions, PutOptions, Txn, TxnOp, WatchOptions,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args()
        .nth(1)
        .expect("usage: rust-client ENDPOINT");
    let mut client = Client::connect([endpoint], None).await?;
    keys(&mut client).await?;
    transaction(&mut client).await?;
    watch(&mut client).await?;
    lease(&mut client).await
}

async fn keys(client: &mut Client) -> Result<(), Error> {
    client.put("rust/ä", "eins", None).await?;
    let put = client
        .put("rust/ä", "zwei", Some(PutOptions::new().with_prev_key()))
        .await?;
    println!(
        "put over {}",
        put.prev_key().expect("asked for").value_str()?
    );
    client.put("rust/b", "drei", None).await?;
    let got = client
        .get("rust/", Some(GetOptions::new().with_prefix()))
        .await?;
    for pair in got.kvs() {
        println!(
            "{} = {} version {}",
            pair.key_str()?,
            pair.value_str()?,
            pair.version()
        );
    }
    Ok(())
}

async fn transaction(client: &mut Client) -> Result<(), Error> {
    let transaction = Txn::new()
        .when([Compare::value("rust/b", CompareOp::Equal, "drei")])
        .and_then([TxnOp::put("rust/b", "vier", None)])
        .or_else([TxnOp::get("rust/b", None)]);
    for _ in 0..2 {
        println!(
            "succeeded {}",
            client.txn(transaction.clone()).await?.succeeded()
        );
    }
    Ok(())
}

async fn watch(client: &mut Client) -> Result<(), Error> {
    let mut stream = client
        .watch("rust/w", Some(WatchOptions::new().with_prefix()))
        .await?;
    client.put("rust/w1", "x", None).await?;
    client.delete("rust/w1", None).await?;
    let mut seen = 0;
    while seen < 2 {
        let message = stream
            .message()
            .await?
            .expect("the server keeps the stream open");
        for event in message.events() {
            let pair = event.kv().expect("an event has a pair");
            let kind = match event.event_type() {
                EventType::Put => "PUT",
                EventType::Delete => "DELETE",
            };
            println!("{kind} {} {:?}", pair.key_str()?, pair.value_str()?);
            seen += 1;
        }
    }
    Ok(())
}

async fn lease(client: &mut Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    client
        .put(
            "rust/leased",
            "x",
            Some(PutOptions::new().with_lease(lease)),
        )
        .await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    println!(
        "ttl {}",
        answers
            .message()
            .await?
            .expect("one answer per request")
            .ttl()
    );
    client.lease_revoke(lease).await?;
    println!("left {}", client.get("rust/leased", None).await?.count());
    let missing = tokio::time::timeout(Duration::from_secs(5), client.lease_revoke(lease));
    match missing.await.expect("answered within 5 s") {
        Err(Error::GRpcStatus(status)) => println!("{:?}: {}", status.code(), status.message()),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
