use kvorum_client::{Client, Error, Namespace};
use kvorum_proto::etcdserverpb::PutRequest;

/// Writes the key `app/color`, which is `color` here.
pub async fn paint(client: &Client) -> Result<(), Error> {
    let app = Namespace::new(client, "app/");
    let put = PutRequest {
        key: "color".into(),
        value: "blue".into(),
        ..PutRequest::default()
    };
    app.put(&put).await.map(drop)
}
