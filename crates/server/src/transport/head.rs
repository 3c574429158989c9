//! The headers of a request, checked.
//!
//! A client writes nearly the same headers with every request, so what they say is worked out once per block and
//! kept with it (`http2`).
//!
//! Source of codes and texts: grpc-go `internal/transport/http2_server.go`, `operateHeaders`, and
//! `internal/transport/http_util.go`.

use std::time::{Duration, Instant};

use super::hpack::Fields;
use super::metadata::{self, MalformedBinary};
use super::routes::Routes;
use super::{Code, Metadata, Method, Status};

/// Digits of a timeout before its unit.
const TIMEOUT_DIGITS_MAX: usize = 8;
const APPLICATION_GRPC: &[u8] = b"application/grpc";

/// Statuses of HTTP.
const OK: u16 = 200;
const BAD_REQUEST: u16 = 400;
const METHOD_NOT_ALLOWED: u16 = 405;
const UNSUPPORTED_MEDIA_TYPE: u16 = 415;

/// Headers that speak of one connection and have no place in HTTP/2. Source: RFC 9113, section 8.2.2.
const OF_CONNECTIONS: [&[u8]; 5] = [
    b"connection",
    b"proxy-connection",
    b"keep-alive",
    b"transfer-encoding",
    b"upgrade",
];

/// What the headers of a request say.
#[derive(Debug)]
pub(super) enum Head {
    /// They are none by the rules of HTTP/2.
    Malformed,
    /// They are larger than allowed.
    TooLarge,
    /// No call can be made of them.
    Refused(Refusal),
    /// A call.
    Call(CallHead),
}

/// A call as its headers describe it.
#[derive(Debug)]
pub(super) struct CallHead {
    pub(super) index: usize,
    pub(super) method: Method,
    /// How long the caller waits.
    pub(super) timeout: Option<Duration>,
    pub(super) metadata: Metadata,
}

/// A request refused by its headers alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) http_status: u16,
    pub(super) status: Status,
}

impl Refusal {
    /// A refusal that gRPC clients understand as an ordinary failed call.
    pub(super) fn of_call(status: Status) -> Self {
        Self {
            http_status: OK,
            status,
        }
    }

    fn bad_header(text: String) -> Self {
        Self {
            http_status: BAD_REQUEST,
            status: Status::new(Code::Internal, text),
        }
    }
}

/// Reads the headers of a request.
pub(super) fn read(fields: Fields, routes: &Routes) -> Head {
    if fields.too_large {
        return Head::TooLarge;
    }
    let Some(parts) = Parts::new(fields) else {
        return Head::Malformed;
    };
    let call = check(&parts).and_then(|timeout| {
        let found = routes.find(&String::from_utf8_lossy(&parts.path));
        let (index, method) = found.map_err(Refusal::of_call)?;
        check_encoding(&parts.metadata)?;
        Ok(CallHead {
            index,
            method,
            timeout,
            metadata: parts.metadata.clone(),
        })
    });
    match call {
        Ok(call) => Head::Call(call),
        Err(refusal) => Head::Refused(refusal),
    }
}

/// The fields of a request by their part in it. Nothing looks at the authority: etcdctl 3.4 sends a URL there, clients
/// of 3.5.0 `#initially=[...]`, clients of unix sockets paths.
struct Parts {
    method: Vec<u8>,
    path: Vec<u8>,
    metadata: Metadata,
}

impl Parts {
    /// `None`: a rule of HTTP/2 is broken. Source: RFC 9113, section 8.
    fn new(fields: Fields) -> Option<Self> {
        let (mut method, mut path, mut scheme, mut authority) = (None, None, None, None);
        let mut regular = 0;
        for (name, value) in &fields.list {
            if !metadata::is_value(value) {
                return None;
            }
            if name.first() != Some(&b':') {
                regular += 1;
                if !metadata::is_name(name)
                    || OF_CONNECTIONS.contains(&&name[..])
                    || (name == "te" && value != "trailers")
                {
                    return None;
                }
                continue;
            }
            let pseudo = match &name[..] {
                b":method" => &mut method,
                b":path" => &mut path,
                b":scheme" => &mut scheme,
                b":authority" => &mut authority,
                _ => return None,
            };
            if regular > 0 || pseudo.replace(value.to_vec()).is_some() {
                return None;
            }
        }
        scheme?;
        let pseudos = fields.list.len() - regular;
        Some(Self {
            method: method?,
            path: path.filter(|path| !path.is_empty())?,
            metadata: Metadata::new(fields.list.into_iter().skip(pseudos)),
        })
    }
}

/// Checks the headers of a request and returns how long its caller waits.
///
/// # Errors
/// The request is not gRPC, or its headers are malformed.
fn check(parts: &Parts) -> Result<Option<Duration>, Refusal> {
    let content_type = parts.metadata.bytes("content-type").unwrap_or_default();
    if !is_grpc(content_type) {
        let text = format!(
            "invalid gRPC request content-type {:?}",
            String::from_utf8_lossy(content_type)
        );
        return Err(Refusal {
            http_status: UNSUPPORTED_MEDIA_TYPE,
            status: Status::new(Code::InvalidArgument, text),
        });
    }
    if let Some(malformed) = parts.metadata.malformed_binary() {
        let MalformedBinary {
            name,
            value,
            position,
        } = malformed;
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        return Err(Refusal::bad_header(format!(
            "malformed binary metadata {value:?} in header {name:?}: illegal base64 data at input byte {position}"
        )));
    }
    let timeout = parts.metadata.bytes("grpc-timeout");
    let timeout = timeout
        .map(parse_timeout)
        .transpose()
        .map_err(|text| Refusal::bad_header(format!("malformed grpc-timeout: {text}")))?;
    if parts.method != b"POST" {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            String::from_utf8_lossy(&parts.method)
        );
        return Err(Refusal {
            http_status: METHOD_NOT_ALLOWED,
            status: Status::new(Code::Internal, text),
        });
    }
    Ok(timeout)
}

/// The moment until which the caller of a request that arrives now waits.
///
/// # Errors
/// It has passed: a call that nobody waits for must not run, since its caller takes it for one that failed.
pub(super) fn deadline(timeout: Option<Duration>) -> Result<Option<Instant>, Status> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(Status::deadline_exceeded());
    }
    Ok(deadline)
}

/// Checks that the messages of a request to a known method are not compressed.
///
/// # Errors
/// They are.
fn check_encoding(metadata: &Metadata) -> Result<(), Refusal> {
    let encoding = metadata.bytes("grpc-encoding").unwrap_or_default();
    if matches!(encoding, b"" | b"identity") {
        return Ok(());
    }
    let encoding = String::from_utf8_lossy(encoding);
    let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}");
    Err(Refusal::of_call(Status::new(Code::Unimplemented, text)))
}

/// Whether a content type is `application/grpc`, alone or with a suffix or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(APPLICATION_GRPC.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(APPLICATION_GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Parses a timeout: up to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let shown = || String::from_utf8_lossy(value).into_owned();
    let (unit, digits) = match value {
        [digits @ .., unit] if !digits.is_empty() => (*unit, digits),
        _ => {
            return Err(format!(
                "transport: timeout string is too short: {:?}",
                shown()
            ));
        }
    };
    if digits.len() > TIMEOUT_DIGITS_MAX {
        return Err(format!(
            "transport: timeout string is too long: {:?}",
            shown()
        ));
    }
    if !matches!(unit, b'H' | b'M' | b'S' | b'm' | b'u' | b'n') {
        return Err(format!(
            "transport: timeout unit is not recognized: {:?}",
            shown()
        ));
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = String::from_utf8_lossy(digits);
        return Err(format!(
            "strconv.ParseUint: parsing {digits:?}: invalid syntax"
        ));
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        _ => Duration::from_nanos(number),
    })
}

/// Encodes what may not stand in a header: all but printable ASCII, and the percent sign.
pub(super) fn percent_encode(text: &str) -> std::borrow::Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'%';
    if text.bytes().all(plain) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::{
        Code, Metadata, Parts, Refusal, Status, check, check_encoding, parse_timeout,
        percent_encode,
    };
    use crate::transport::hpack::Fields;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Fields {
            list: list
                .iter()
                .map(|(name, value)| (copy(name), copy(value)))
                .collect(),
            ..Fields::default()
        }
    }

    /// A request with these fields after the usual first ones.
    fn request(method: &str, headers: &[(&str, &str)]) -> Option<Parts> {
        let pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":path", "/a.B/C"),
            (":authority", "unix:%2Ftmp%2Fetcd"),
        ];
        Parts::new(fields(&[&pseudo[..], headers].concat()))
    }

    #[test]
    fn headers_that_break_the_rules_are_malformed() {
        let cases: &[(&[(&str, &str)], bool)] = &[
            (
                &[
                    ("te", "trailers"),
                    ("x", "anything \t goes"),
                    ("x", ""),
                    ("y", "\u{e9}"),
                ],
                true,
            ),
            (&[("te", "gzip")], false),
            (&[("Upper", "x")], false),
            (&[("", "x")], false),
            (&[("a b", "x")], false),
            (&[("x", "a\nb")], false),
            (&[("x", "a\0b")], false),
            (&[("connection", "close")], false),
            (&[("x", "y"), (":path", "/")], false),
            (&[(":path", "/")], false),
            (&[(":status", "200")], false),
        ];
        for (headers, valid) in cases {
            assert_eq!(request("POST", headers).is_some(), *valid, "{headers:?}");
        }
        let incomplete: &[&[(&str, &str)]] = &[
            &[],
            &[(":method", "POST"), (":path", "/")],
            &[(":method", "POST"), (":scheme", "http")],
            &[(":scheme", "http"), (":path", "/")],
            &[(":method", "POST"), (":scheme", "http"), (":path", "")],
        ];
        for list in incomplete {
            assert!(Parts::new(fields(list)).is_none(), "{list:?}");
        }
        let parts = request("POST", &[("token", "abc")]).unwrap();
        assert_eq!(
            (&parts.path[..], parts.metadata.text("token")),
            (&b"/a.B/C"[..], Some("abc"))
        );
        assert_eq!(parts.metadata.bytes(":authority"), None);
    }

    #[test]
    fn timeouts_follow_the_specification() {
        let cases: &[(&str, Result<Duration, &str>)] = &[
            ("1H", Ok(Duration::from_secs(3600))),
            ("2M", Ok(Duration::from_secs(120))),
            ("3S", Ok(Duration::from_secs(3))),
            ("99999999m", Ok(Duration::from_millis(99_999_999))),
            ("5u", Ok(Duration::from_micros(5))),
            ("0n", Ok(Duration::ZERO)),
            ("S", Err("transport: timeout string is too short: \"S\"")),
            ("", Err("transport: timeout string is too short: \"\"")),
            (
                "123456789S",
                Err("transport: timeout string is too long: \"123456789S\""),
            ),
            (
                "5x",
                Err("transport: timeout unit is not recognized: \"5x\""),
            ),
            (
                "-5S",
                Err("strconv.ParseUint: parsing \"-5\": invalid syntax"),
            ),
            (
                "+5S",
                Err("strconv.ParseUint: parsing \"+5\": invalid syntax"),
            ),
        ];
        for (text, expected) in cases {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn compressed_requests_are_refused() {
        let cases = [
            (None, None),
            (Some(""), None),
            (Some("identity"), None),
            (
                Some("gzip"),
                Some("grpc: Decompressor is not installed for grpc-encoding \"gzip\""),
            ),
        ];
        for (encoding, expected) in cases {
            let pairs: Vec<_> = encoding
                .map(|encoding| ("grpc-encoding", encoding))
                .into_iter()
                .collect();
            let expected =
                expected.map(|text| Refusal::of_call(Status::new(Code::Unimplemented, text)));
            assert_eq!(
                check_encoding(&Metadata::from_pairs(&pairs)).err(),
                expected
            );
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        let cases = [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("100%", "100%25"),
            ("a\nb\tc", "a%0Ab%09c"),
            ("schlüssel", "schl%C3%BCssel"),
        ];
        for (text, expected) in cases {
            assert_eq!(percent_encode(text), expected);
        }
    }

    #[test]
    fn bad_headers_are_refused_with_their_text() {
        let grpc = ("content-type", "application/grpc");
        type Case<'a> = (
            &'a str,
            &'a [(&'a str, &'a str)],
            Option<(u16, Code, &'a str)>,
        );
        let cases: &[Case<'_>] = &[
            ("POST", &[grpc], None),
            ("POST", &[("content-type", "application/grpc+proto")], None),
            (
                "POST",
                &[("content-type", "application/grpc;charset=utf-8")],
                None,
            ),
            ("POST", &[grpc, ("grpc-encoding", "identity")], None),
            (
                "GET",
                &[grpc],
                Some((
                    405,
                    Code::Internal,
                    "Received a HEADERS frame with :method \"GET\" which should be POST",
                )),
            ),
            (
                "GET",
                &[],
                Some((
                    415,
                    Code::InvalidArgument,
                    "invalid gRPC request content-type \"\"",
                )),
            ),
            (
                "POST",
                &[("content-type", "application/grpcx")],
                Some((
                    415,
                    Code::InvalidArgument,
                    "invalid gRPC request content-type \"application/grpcx\"",
                )),
            ),
            (
                "POST",
                &[grpc, ("grpc-timeout", "5x")],
                Some((
                    400,
                    Code::Internal,
                    "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"",
                )),
            ),
            (
                "POST",
                &[grpc, ("trace-bin", "?")],
                Some((
                    400,
                    Code::Internal,
                    "malformed binary metadata \"?\" in header \"trace-bin\": illegal base64 data at input byte 0",
                )),
            ),
        ];
        for (method, headers, expected) in cases {
            let parts = request(method, headers).unwrap();
            let refusal = check(&parts).err();
            let seen = refusal.as_ref().map(|refusal| {
                let status = &refusal.status;
                (refusal.http_status, status.code(), status.message())
            });
            assert_eq!(seen, *expected, "{method} {headers:?}");
        }
    }
}
