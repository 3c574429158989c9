//! The smallest client for the pages beside the gRPC API.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A page may take this long.
const LIMIT: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

/// Fetches a page of the server on `port`.
///
/// # Errors
/// When nobody listens, or what comes back is not HTTP.
pub fn get(port: u16, path: &str) -> io::Result<Page> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    parse(&exchange(port, text.as_bytes())?)
}

/// Sends bytes and returns everything that comes back until the server closes, or says no more.
///
/// # Errors
/// When nobody listens or nothing at all comes within a minute.
pub fn exchange(port: u16, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A server may answer and then reset, because it did not read all of what was sent; or
        // answer and keep the connection for more.
        Err(error) if answer.is_empty() && error.kind() != io::ErrorKind::ConnectionReset => {
            Err(error)
        }
        _ => Ok(answer),
    }
}

fn parse(answer: &[u8]) -> io::Result<Page> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(answer));
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(bad)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &answer[end + 4..];
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|value| value == "chunked");
    let body = if chunked {
        join_chunks(rest).ok_or_else(bad)?
    } else {
        rest.to_vec()
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Page {
        status: status.ok_or_else(bad)?,
        headers,
        body,
    })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = rest.get(end + 2..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// The samples of a metrics page: name with labels, and value.
pub fn samples(page: &str) -> BTreeMap<String, f64> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}
