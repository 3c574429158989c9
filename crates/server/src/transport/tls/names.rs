//! Names that certificates may bear, and the addresses from which their owners may call.
//!
//! Source: etcd v3.7.1 `client/pkg/transport/listener.go` (`baseConfig`), `listener_tls.go` (`checkCertSAN`,
//! `isHostInDNS`).

use std::net::IpAddr;

use kvorum_client::look_up_address;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::net::lookup_host;

use super::certificate::Certificate;

/// Whose certificates are taken, of those that are good otherwise.
#[derive(Clone, Debug, Default)]
pub enum Allowed {
    /// Everybody's.
    #[default]
    All,
    /// Those with one of these common names.
    CommonNames(Vec<String>),
    /// Those for one of these hosts, names or addresses.
    Hosts(Vec<String>),
}

impl Allowed {
    /// Whether a certificate is taken.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let is_allowed = match self {
            Self::All => true,
            Self::CommonNames(names) => Certificate::read(certificate).is_some_and(|read| {
                !read.common_name.is_empty() && names.contains(&read.common_name)
            }),
            Self::Hosts(hosts) => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                hosts.iter().any(|host| is_for(&parsed, host))
            }
        };
        if is_allowed {
            return Ok(());
        }
        let text = "client certificate authentication failed";
        Err(rustls::Error::General(text.to_owned()))
    }
}

fn is_for(certificate: &ParsedCertificate<'_>, host: &str) -> bool {
    ServerName::try_from(host).is_ok_and(|name| verify_server_name(certificate, &name).is_ok())
}

/// Whether who shows a certificate may call from this address. One without names of hosts and addresses may call from
/// anywhere; otherwise one of them has to be where the call comes from, as far as the name service knows.
///
/// # Errors
/// etcd's text.
pub(super) async fn check_address(
    certificate: &Certificate,
    address: IpAddr,
) -> Result<(), String> {
    let Certificate {
        hosts, addresses, ..
    } = certificate;
    if addresses.contains(&address) || hosts.is_empty() && addresses.is_empty() {
        return Ok(());
    }
    if hosts.is_empty() {
        let valid: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let valid = valid.join(", ");
        return Err(format!(
            "x509: certificate is valid for {valid}, not {address}"
        ));
    }
    let failure = match find(hosts, address).await {
        Ok(true) => return Ok(()),
        Ok(false) => String::new(),
        Err(failure) => format!(" ({failure})"),
    };
    let quoted: Vec<String> = hosts.iter().map(|host| format!("{host:?}")).collect();
    let quoted = quoted.join(" ");
    Err(format!(
        "tls: \"{address}\" does not match any of DNSNames [{quoted}]{failure}"
    ))
}

/// Whether an address belongs to one of these hosts: by the names of the address first, then by the addresses of the names.
/// What stands behind `*.` is the end of a name of the address.
async fn find(hosts: &[String], address: IpAddr) -> Result<bool, String> {
    let mut failure = None;
    match look_up_address(address).await {
        Ok(names) => {
            let is_one = |name: &String| {
                hosts.iter().any(|host| match host.strip_prefix('*') {
                    Some(end) if end.starts_with('.') => name.ends_with(end),
                    _ => host == name,
                })
            };
            if names.iter().any(is_one) {
                return Ok(true);
            }
        }
        Err(error) => failure = Some(error.to_string()),
    }
    for host in hosts.iter().filter(|host| !host.starts_with("*.")) {
        match lookup_host((host.as_str(), 0)).await {
            Ok(mut found) => {
                if found.any(|found| found.ip() == address) {
                    return Ok(true);
                }
            }
            Err(error) => failure = Some(format!("lookup {host}: {error}")),
        }
    }
    failure.map_or(Ok(false), Err)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Certificate, check_address};

    #[tokio::test]
    async fn who_calls_is_where_the_certificate_says() {
        let certificate = |hosts: &[&str], addresses: &[&str]| Certificate {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ..Certificate::default()
        };
        let address: IpAddr = "127.0.0.1".parse().expect("an address");
        let check = async |hosts: &[&str], addresses: &[&str]| {
            check_address(&certificate(hosts, addresses), address).await
        };
        assert_eq!(check(&[], &[]).await, Ok(()));
        assert_eq!(check(&[], &["10.0.0.1", "127.0.0.1"]).await, Ok(()));
        assert_eq!(
            check(&[], &["10.0.0.1", "::1"]).await,
            Err("x509: certificate is valid for 10.0.0.1, ::1, not 127.0.0.1".to_owned())
        );
        // Every machine knows its own name.
        assert_eq!(check(&["localhost"], &[]).await, Ok(()));
        assert_eq!(
            check(&["a.invalid", "localhost"], &["10.0.0.1"]).await,
            Ok(())
        );
        let refused = check(&["a.invalid", "*.invalid"], &["10.0.0.1"]).await;
        let text =
            "tls: \"127.0.0.1\" does not match any of DNSNames [\"a.invalid\" \"*.invalid\"]";
        assert!(refused.is_err_and(|error| error.starts_with(text)));
    }
}
