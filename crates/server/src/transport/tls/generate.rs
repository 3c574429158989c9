//! Certificates that a member makes for itself: they encrypt and prove nothing.
//!
//! Source: etcd v3.7.1 `client/pkg/transport/listener.go`, `SelfCert`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
};
use tracing::{info, warn};

use super::{PairFiles, TlsError};

/// A year, as certificates count it.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Longest life of a certificate, in years.
const YEARS_MAX: u32 = 1000;

impl PairFiles {
    /// The certificate of a member's own making in a folder, for these hosts and for so many years, at most 1,000. What is
    /// there already stays.
    ///
    /// # Errors
    /// The number of years is out of range, or the folder cannot be written.
    pub fn own(folder: &Path, hosts: &[&str], years: u64) -> Result<Self, TlsError> {
        let life = u32::try_from(years)
            .ok()
            .filter(|years| *years <= YEARS_MAX);
        let life = match life {
            Some(0) => return Err(TlsError::NoLife),
            Some(years) => YEAR * years,
            None => return Err(TlsError::LongLife),
        };
        let files = Self {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        };
        if files.cert.exists() && files.key.exists() {
            return Ok(files);
        }
        let not_written = |error: io::Error| TlsError::Open {
            path: folder.to_owned(),
            reason: error.to_string(),
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(not_written)?;
        let (cert, key) = make(hosts, life)?;
        write(&files.cert, &cert, 0o644).map_err(not_written)?;
        info!(path = %files.cert.display(), "created cert file");
        write(&files.key, &key, 0o600).map_err(not_written)?;
        info!(path = %files.key.display(), "created key file");
        Ok(files)
    }
}

/// A certificate and its key, in PEM.
fn make(hosts: &[&str], life: Duration) -> Result<(String, String), rcgen::Error> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + life).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    warn!(
        "certificate-validity-bound-not-after" = %params.not_after,
        "automatically generate certificates"
    );
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file that is there as a whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
