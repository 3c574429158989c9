//! Certificates that are made for a test and forgotten after it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Files of certificates and keys, in a folder of their own.
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Files, in this folder:
    ///
    /// | name | what it is |
    /// |---|---|
    /// | `ca.pem` | the authority that both sides trust |
    /// | `server.pem`, `server.key` | by it, for `127.0.0.1` and `localhost` |
    /// | `elsewhere.pem`, `elsewhere.key` | by it, for another host |
    /// | `client.pem`, `client.key` | by it, for the user `worker` |
    /// | `alone.pem`, `alone.key` | for `127.0.0.1`, an authority by itself, as simple recipes make it |
    /// | `other-ca.pem` | an authority that nobody trusts |
    /// | `other.pem`, `other.key` | a client by that one |
    pub(crate) fn new(folder: &Path) -> Self {
        let made = Self {
            folder: folder.to_owned(),
        };
        let (ca, other) = (made.authority("ca"), made.authority("other-ca"));
        made.leaf("server", &ca, &["127.0.0.1", "localhost"]);
        made.leaf("elsewhere", &ca, &["node.elsewhere.example"]);
        made.leaf("client", &ca, &[]);
        made.leaf("other", &other, &[]);
        made.alone();
        made
    }

    /// Path of a file, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("a file of a certificate");
    }

    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        self.write(&format!("{name}.pem"), &issuer.pem());
        issuer
    }

    fn alone(&self) {
        let hosts = vec!["127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write("alone.pem", &certificate.pem());
        self.write("alone.key", &key.serialize_pem());
    }

    fn leaf(&self, name: &str, issuer: &CertifiedIssuer<'_, KeyPair>, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.distinguished_name.push(DnType::CommonName, "worker");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, issuer).expect("a certificate");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }
}
