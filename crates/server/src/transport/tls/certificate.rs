//! What is read of a certificate beside what its verification needs, and lists of revoked ones.
//!
//! Nothing that is read here is trusted: what does not fit is refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Name;

/// The number that an authority gives a certificate: big-endian, without zeros in front.
pub(super) type Serial = Vec<u8>;

/// Of whom a certificate is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Its number.
    pub(super) serial: Serial,
    /// The last common name of its subject; empty when there is none.
    pub(super) common_name: String,
    /// Names of hosts.
    pub(super) hosts: Vec<String>,
    /// Addresses of hosts.
    pub(super) addresses: Vec<IpAddr>,
}

impl Certificate {
    /// Reads a certificate in DER; `None` for something else.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut read = Self {
            serial: serial(certificate.raw_serial()),
            common_name: common_name(certificate.subject())?,
            ..Self::default()
        };
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            read.add(name)?;
        }
        Some(read)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Option<()> {
        match name {
            GeneralName::DNSName(host) => self.hosts.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => self.addresses.push(address(bytes)?),
            GeneralName::Invalid(..) => return None,
            _ => {}
        }
        Some(())
    }
}

/// The numbers in a list of revoked certificates in DER; `None` for something else.
pub(super) fn revoked(der: &[u8]) -> Option<BTreeSet<Serial>> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let revoked = list.iter_revoked_certificates();
    Some(revoked.map(|it| serial(it.raw_serial())).collect())
}

fn serial(integer: &[u8]) -> Serial {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    integer[zeros..].to_vec()
}

/// The last common name of a subject; empty without one.
fn common_name(subject: &X509Name<'_>) -> Option<String> {
    subject
        .iter_common_name()
        .last()
        .map_or(Some(String::new()), |name| {
            String::from_utf8(name.as_slice().to_vec()).ok()
        })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, KeyIdMethod,
        KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::{Certificate, revoked};

    fn made(names: &[&str], common_name: &str, serial: &[u8]) -> CertifiedIssuer<'static, KeyPair> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "org");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::self_signed(params, key).expect("a certificate")
    }

    fn list(serials: &[&[u8]]) -> Vec<u8> {
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = made(&[], "ca", &[1]);
        let list = params.signed_by(&issuer).expect("a list");
        list.der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_names() {
        let certificate = made(
            &["a.example", "*.b.example", "10.0.0.1", "::1"],
            "n\u{e4}me",
            &[0x81, 2, 3],
        );
        let read = Certificate::read(certificate.der()).expect("a certificate");
        let addresses: [IpAddr; 2] = ["10.0.0.1", "::1"].map(|text| text.parse().expect(text));
        assert_eq!(
            read,
            Certificate {
                serial: vec![0x81, 2, 3],
                common_name: "n\u{e4}me".to_owned(),
                hosts: vec!["a.example".to_owned(), "*.b.example".to_owned()],
                addresses: addresses.to_vec(),
            }
        );
    }

    #[test]
    fn a_list_tells_what_was_revoked() {
        let read = revoked(&list(&[&[0, 0x81, 2], &[7]])).expect("a list");
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [vec![7], vec![0x81, 2]]
        );
        assert!(revoked(&list(&[])).is_some_and(|read| read.is_empty()));
        // A certificate is no list, and a list no certificate.
        assert_eq!(revoked(made(&["a"], "a", &[1]).der()), None);
        assert_eq!(Certificate::read(&list(&[&[1]])), None);
        // Half a list would let in whom the other half keeps out.
        let whole = list(&[&[1], &[2]]);
        for bytes in 0..whole.len() {
            assert_eq!(revoked(&whole[..bytes]), None, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            at in 0_usize..600,
            byte: u8,
            rubbish: Vec<u8>,
        ) {
            let mut bytes = made(&["a.example", "10.0.0.1"], "a", &[1]).der().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Certificate::read(&bytes);
            let _ = Certificate::read(&rubbish);
            let _ = revoked(&bytes);
            let _ = revoked(&rubbish);
        }
    }
}
