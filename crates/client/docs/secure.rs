use std::path::Path;

use kvorum_client::{Client, Config, Credentials, Error, Tls, TlsOptions};

/// A client that shows a certificate of its own, and logs in with a password.
pub fn connect(endpoint: &str, folder: &Path) -> Result<Client, Error> {
    let mut config = Config::new([endpoint]);
    config.tls = Some(Tls::new(&TlsOptions {
        ca_file: Some(folder.join("ca.pem")),
        cert_file: Some(folder.join("client.pem")),
        key_file: Some(folder.join("client.key")),
        ..TlsOptions::default()
    })?);
    config.credentials = Some(Credentials::Password {
        user: "root".to_owned(),
        password: "secret".to_owned(),
    });
    Client::new(&config)
}
