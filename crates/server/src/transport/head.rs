//! The headers of a request, checked, and the headers of answers.
//!
//! Source of codes and texts: grpc-go `internal/transport/http2_server.go`, `operateHeaders`, and
//! `internal/transport/http_util.go`.

use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};

use super::metadata::MalformedBinary;
use super::{Code, Metadata, Status};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Digits of a timeout before its unit.
const TIMEOUT_DIGITS_MAX: usize = 8;
const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A request refused by its headers alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) http_status: StatusCode,
    pub(super) status: Status,
}

impl Refusal {
    /// A refusal that gRPC clients understand as an ordinary failed call.
    pub(super) fn of_call(status: Status) -> Self {
        Self {
            http_status: StatusCode::OK,
            status,
        }
    }

    fn bad_header(text: String) -> Self {
        Self {
            http_status: StatusCode::BAD_REQUEST,
            status: Status::new(Code::Internal, text),
        }
    }
}

/// Checks the headers of a request and returns how long its caller waits.
///
/// # Errors
/// The request is not gRPC, or its headers are malformed.
pub(super) fn check(head: &request::Parts) -> Result<Option<Duration>, Refusal> {
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    if !is_grpc(content_type) {
        let text = format!(
            "invalid gRPC request content-type {:?}",
            String::from_utf8_lossy(content_type)
        );
        return Err(Refusal {
            http_status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            status: Status::new(Code::InvalidArgument, text),
        });
    }
    if let Some(malformed) = Metadata::malformed_binary(&head.headers) {
        let MalformedBinary {
            name,
            value,
            position,
        } = malformed;
        let value = String::from_utf8_lossy(value.as_bytes());
        return Err(Refusal::bad_header(format!(
            "malformed binary metadata {value:?} in header {name:?}: illegal base64 data at input byte {position}"
        )));
    }
    let timeout = head.headers.get(GRPC_TIMEOUT);
    let timeout = timeout
        .map(|value| parse_timeout(value.as_bytes()))
        .transpose()
        .map_err(|text| Refusal::bad_header(format!("malformed grpc-timeout: {text}")))?;
    if head.method != Method::POST {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            head.method.as_str()
        );
        return Err(Refusal {
            http_status: StatusCode::METHOD_NOT_ALLOWED,
            status: Status::new(Code::Internal, text),
        });
    }
    Ok(timeout)
}

/// The moment until which the caller of a request that arrived at `arrived` waits.
///
/// # Errors
/// It has passed: a call that nobody waits for must not run, since its caller takes it for one that failed.
pub(super) fn deadline(
    arrived: Instant,
    timeout: Option<Duration>,
) -> Result<Option<Instant>, Refusal> {
    let deadline = timeout.and_then(|timeout| arrived.checked_add(timeout));
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(Refusal::of_call(Status::deadline_exceeded()));
    }
    Ok(deadline)
}

/// Checks that the messages of a request to a known method are not compressed.
///
/// # Errors
/// They are.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(encoding) = headers.get(GRPC_ENCODING) else {
        return Ok(());
    };
    if matches!(encoding.as_bytes(), b"" | b"identity") {
        return Ok(());
    }
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}");
    Err(Refusal::of_call(Status::new(Code::Unimplemented, text)))
}

/// Whether a content type is `application/grpc`, alone or with a suffix or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    let base = APPLICATION_GRPC;
    let Some((start, rest)) = content_type.split_at_checked(base.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(base.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';'))
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

/// The headers before the first message of an answer.
pub(super) fn answer() -> Response<()> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, APPLICATION_GRPC);
    response
}

/// The trailers behind the last message.
pub(super) fn trailers(result: &Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put_status(&mut trailers, result.as_ref().err());
    trailers
}

/// The whole answer to a call that fails before its first message.
pub(super) fn failure(refusal: &Refusal) -> Response<()> {
    let mut response = answer();
    *response.status_mut() = refusal.http_status;
    put_status(response.headers_mut(), Some(&refusal.status));
    response
}

fn put_status(headers: &mut HeaderMap, status: Option<&Status>) {
    let code = status.map_or(Code::Ok, Status::code);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    let message = status.map_or("", Status::message);
    let message = HeaderValue::from_str(&percent_encode(message));
    // Encoded text is printable ASCII, which a header always takes.
    headers.insert(
        GRPC_MESSAGE,
        message.unwrap_or(HeaderValue::from_static("")),
    );
}

/// Encodes what may not stand in a header: all but printable ASCII, and the percent sign.
fn percent_encode(text: &str) -> std::borrow::Cow<'_, str> {
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

    use http::{HeaderMap, HeaderValue, Request};

    use super::{
        Code, Refusal, Status, check, check_encoding, parse_timeout, percent_encode, trailers,
    };

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
            let mut headers = HeaderMap::new();
            if let Some(encoding) = encoding {
                headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
            }
            let expected =
                expected.map(|text| Refusal::of_call(Status::new(Code::Unimplemented, text)));
            assert_eq!(check_encoding(&headers).err(), expected);
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
    fn every_status_has_its_number() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            let result = Err(Status::new(code, "text"));
            let trailers = trailers(&result);
            assert_eq!(trailers["grpc-status"], number.to_string());
            assert_eq!(trailers["grpc-message"], "text");
        }
        assert_eq!(trailers(&Ok(()))["grpc-status"], "0");
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
            let mut request = Request::builder().method(*method).uri("/a.B/C");
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let refusal = check(&head).err();
            let seen = refusal.as_ref().map(|refusal| {
                let status = &refusal.status;
                (
                    refusal.http_status.as_u16(),
                    status.code(),
                    status.message(),
                )
            });
            assert_eq!(seen, *expected, "{method} {headers:?}");
        }
    }
}
