//! What is read of a certificate beside what its verification needs, and lists of revoked ones: both in DER, a notation in
//! which every value has a tag, a length and contents (X.690).
//!
//! Nothing that is read here is trusted: what does not fit is refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Tags of values.
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERAL_TIME: u8 = 0x18;
/// Of text: UTF-8, printable, T.61 and IA5.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
/// Of optional parts of a certificate: its version, and its extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Of alternative names: of a host, and an address.
const DNS_NAME: u8 = 0x82;
const ADDRESS: u8 = 0x87;

/// The attribute "common name", 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// The extension "subject alternative name", 2.5.29.17.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

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
    /// Reads a certificate; `None` for something else.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut signed = Der(Der(der).take(SEQUENCE)?);
        let mut fields = Der(signed.take(SEQUENCE)?);
        fields.take_optional(VERSION)?;
        let serial = serial(fields.take(INTEGER)?);
        // Algorithm, issuer, validity.
        for _ in 0..3 {
            fields.take(SEQUENCE)?;
        }
        let common_name = common_name(fields.take(SEQUENCE)?)?;
        fields.take(SEQUENCE)?;
        let mut read = Self {
            serial,
            common_name,
            ..Self::default()
        };
        while let Some((tag, contents)) = fields.next()? {
            if tag == EXTENSIONS {
                read.extensions(Der(contents).take(SEQUENCE)?)?;
            }
        }
        Some(read)
    }

    fn extensions(&mut self, list: &[u8]) -> Option<()> {
        let mut list = Der(list);
        while let Some((_, extension)) = list.next()? {
            let mut extension = Der(extension);
            if extension.take(OBJECT)? != ALTERNATIVE_NAMES {
                continue;
            }
            // Whether it is critical may stand between.
            while let Some((tag, contents)) = extension.next()? {
                if tag == OCTETS {
                    self.names(Der(contents).take(SEQUENCE)?)?;
                }
            }
        }
        Some(())
    }

    fn names(&mut self, list: &[u8]) -> Option<()> {
        let mut list = Der(list);
        while let Some((tag, name)) = list.next()? {
            match tag {
                DNS_NAME => self.hosts.push(String::from_utf8(name.to_vec()).ok()?),
                ADDRESS => self.addresses.push(match name.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(name).ok()?),
                    16 => IpAddr::from(<[u8; 16]>::try_from(name).ok()?),
                    _ => return None,
                }),
                _ => {}
            }
        }
        Some(())
    }
}

/// The numbers in a list of revoked certificates; `None` for something else.
pub(super) fn revoked(der: &[u8]) -> Option<BTreeSet<Serial>> {
    let mut signed = Der(Der(der).take(SEQUENCE)?);
    let mut fields = Der(signed.take(SEQUENCE)?);
    fields.take_optional(INTEGER)?;
    fields.take(SEQUENCE)?;
    fields.take(SEQUENCE)?;
    let mut serials = BTreeSet::new();
    let mut times = 0;
    while let Some((tag, contents)) = fields.next()? {
        match tag {
            UTC_TIME | GENERAL_TIME => times += 1,
            SEQUENCE => {
                let mut entries = Der(contents);
                while let Some((_, entry)) = entries.next()? {
                    serials.insert(serial(Der(entry).take(INTEGER)?));
                }
            }
            _ => {}
        }
    }
    // A list says when it was made.
    (times > 0).then_some(serials)
}

fn serial(integer: &[u8]) -> Serial {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    integer[zeros..].to_vec()
}

/// The last common name of a subject; empty without one.
fn common_name(subject: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut parts = Der(subject);
    while let Some((tag, part)) = parts.next()? {
        let mut attributes = Der(part);
        while let (SET, Some((_, attribute))) = (tag, attributes.next()?) {
            let mut attribute = Der(attribute);
            if attribute.take(OBJECT)? == COMMON_NAME
                && let Some((tag, text)) = attribute.next()?
                && TEXTS.contains(&tag)
            {
                name = String::from_utf8(text.to_vec()).ok()?;
            }
        }
    }
    Some(name)
}

/// Values one behind the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: `Some(None)` at the end, `None` for what is no value.
    fn next(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        /// The length stands in so many bytes behind this one.
        const LONG: u8 = 0x80;
        let [tag, rest @ ..] = self.0 else {
            return Some(None);
        };
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < LONG {
            (usize::from(first), rest)
        } else {
            let bytes = usize::from(first - LONG);
            if !(1..=size_of::<u32>()).contains(&bytes) {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(bytes)?;
            let length = digits
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Some((*tag, contents)))
    }

    /// The contents of the next value, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()?
            .and_then(|(found, contents)| (found == tag).then_some(contents))
    }

    /// Leaves out the next value if it has this tag.
    fn take_optional(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Some(())
    }
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
