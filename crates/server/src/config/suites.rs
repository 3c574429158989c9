//! Cipher suites by the names that Go gives them.
//!
//! Source: Go 1.25 `crypto/tls/cipher_suites.go` (`CipherSuites`, `InsecureCipherSuites`); etcd v3.7.1
//! `client/pkg/tlsutil/cipher_suites.go` (`GetCipherSuite`).

/// Names with their numbers (the registry "TLS Cipher Suites" of IANA), and whether this release speaks them. The others
/// have no forward secrecy or ciphers that have been broken.
const SUITES: [(&str, u16, bool); 27] = [
    ("TLS_AES_128_GCM_SHA256", 0x1301, true),
    ("TLS_AES_256_GCM_SHA384", 0x1302, true),
    ("TLS_CHACHA20_POLY1305_SHA256", 0x1303, true),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b, true),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c, true),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f, true),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030, true),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8, true),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", 0xcca8, true),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        0xcca9,
        true,
    ),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", 0xcca9, true),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", 0xc009, false),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", 0xc00a, false),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xc013, false),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", 0xc014, false),
    ("TLS_RSA_WITH_RC4_128_SHA", 0x0005, false),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", 0x000a, false),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", 0x002f, false),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", 0x0035, false),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", 0x003c, false),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009c, false),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", 0x009d, false),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", 0xc007, false),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", 0xc011, false),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", 0xc012, false),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xc023, false),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xc027, false),
];

/// The numbers of cipher suites.
///
/// # Errors
/// The first name that nobody knows, with etcd's text, or that this release does not speak.
pub(crate) fn cipher_suites(names: &[String]) -> Result<Vec<u16>, String> {
    let number = |name: &String| {
        let known = SUITES.iter().find(|(known, ..)| known == name);
        match known {
            Some((_, number, true)) => Ok(*number),
            Some((.., false)) => Err(format!(
                "TLS cipher suite {name:?} is not supported by this release: it has no forward \
                 secrecy or its cipher has been broken"
            )),
            None => Err(format!("unexpected TLS cipher suite {name:?}")),
        }
    };
    names.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;

    use super::SUITES;

    #[test]
    fn what_is_supported_is_spoken_and_nothing_else() {
        let spoken = aws_lc_rs::default_provider().cipher_suites;
        let spoken: Vec<u16> = spoken.iter().map(|suite| suite.suite().into()).collect();
        for (name, number, supported) in SUITES {
            assert_eq!(spoken.contains(&number), supported, "{name}");
        }
        let listed = |number: &u16| SUITES.iter().any(|(_, known, _)| known == number);
        assert!(spoken.iter().all(listed), "{spoken:?}");
    }
}
