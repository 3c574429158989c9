//! Certificates that are made for a test and forgotten after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

/// The name in certificates of users.
const USER: &str = "worker";

/// The number of an authority's first certificate.
const FIRST_SERIAL: u64 = 200;

/// Who signs certificates.
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The number of the last certificate of each name.
    issued: RefCell<BTreeMap<String, u64>>,
}

impl Authority {
    /// An authority whose own certificate is `NAME.pem` in this folder.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        write(folder, &format!("{name}.pem"), &issuer.pem());
        Self {
            folder: folder.to_owned(),
            issuer,
            issued: RefCell::default(),
        }
    }

    /// Makes or replaces `NAME.pem` and `NAME.key`: a certificate for these hosts, to serve and to call with.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn issue(&self, name: &str, common_name: &str, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let mut issued = self.issued.borrow_mut();
        let serial = issued.values().max().map_or(FIRST_SERIAL, |last| last + 1);
        issued.insert(name.to_owned(), serial);
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(&self.folder, &format!("{name}.pem"), &certificate.pem());
        write(&self.folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

impl Authority {
    /// Makes or replaces `LIST`, a list of revoked certificates in DER: the last ones of these names.
    ///
    /// # Panics
    /// When a name has none, or the file cannot be written.
    pub fn revoke(&self, list: &str, names: &[&str]) {
        let issued = self.issued.borrow();
        let revoked = |name: &&str| RevokedCertParams {
            serial_number: SerialNumber::from(issued[*name]),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: names.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let made = params.signed_by(&self.issuer).expect("a list");
        fs::write(self.folder.join(list), made.der()).expect("a file of a list");
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("a file of a certificate");
}

/// Files of certificates and keys, in a folder of their own.
pub struct Certificates {
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
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn new(folder: &Path) -> Self {
        let made = Self {
            folder: folder.to_owned(),
        };
        let ca = Authority::new(folder, "ca");
        let other = Authority::new(folder, "other-ca");
        ca.issue("server", USER, &["127.0.0.1", "localhost"]);
        ca.issue("elsewhere", USER, &["node.elsewhere.example"]);
        ca.issue("client", USER, &[]);
        other.issue("other", USER, &[]);
        made.alone();
        made
    }

    /// Path of a file, as text.
    ///
    /// # Panics
    /// When the folder's name is no text.
    pub fn path(&self, name: &str) -> String {
        let path = self.folder.join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    fn alone(&self) {
        let hosts = vec!["127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        write(&self.folder, "alone.pem", &certificate.pem());
        write(&self.folder, "alone.key", &key.serialize_pem());
    }
}
