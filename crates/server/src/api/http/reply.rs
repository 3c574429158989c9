//! Answers in the shapes that Go's HTTP server gives them.

use bytes::Bytes;

use crate::transport::HttpResponse;

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// A 200 answer.
pub(crate) fn ok(content_type: &str, body: impl Into<Bytes>) -> HttpResponse {
    HttpResponse {
        status: 200,
        headers: vec![("Content-Type", content_type.to_owned())],
        body: body.into(),
    }
}

/// A 200 answer of text.
pub(crate) fn text(body: impl Into<Bytes>) -> HttpResponse {
    ok(PLAIN_TEXT, body)
}

/// A failure: text, a line feed, and a header that forbids guessing.
pub(crate) fn error(status: u16, message: &str) -> HttpResponse {
    HttpResponse {
        status,
        headers: vec![
            ("Content-Type", PLAIN_TEXT.to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
        ],
        body: format!("{message}\n").into(),
    }
}

/// The answer for a path that is not there.
pub(crate) fn not_found() -> HttpResponse {
    error(404, "404 page not found")
}

/// The answer for a method that is not taken.
pub(crate) fn method_not_allowed(allowed: &str) -> HttpResponse {
    let mut reply = error(405, "Method Not Allowed");
    reply.headers.push(("Allow", allowed.to_owned()));
    reply
}

/// A string as JSON.
pub(crate) fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            // Go also escapes what HTML could misread.
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                json.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => json.push(other),
        }
    }
    json.push('"');
    json
}
