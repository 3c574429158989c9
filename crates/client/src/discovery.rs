//! Endpoints from the name service: SRV records of a domain.
//!
//! A domain tells where its members listen with `_etcd-client-ssl._tcp` and, in plain text,
//! `_etcd-client._tcp`; a suffix tells clusters of one domain apart. The resolver of the system
//! has no call for such records, so they are asked for here: one question by UDP to each name
//! server of `/etc/resolv.conf` in turn, and by TCP when the answer does not fit.
//!
//! Source: v3.7.1 `client/pkg/srv/srv.go`, `GetClient`; RFC 1035, RFC 2782.

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::error::Error;

/// Where the system keeps names of its own.
const HOSTS: &str = "/etc/hosts";
/// Where the system says which name servers to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Port of name servers.
const DNS_PORT: u16 = 53;
/// How long to wait for the answer of one name server.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often each name server is asked.
const ATTEMPTS: usize = 2;
/// Largest answer by UDP, in bytes.
const UDP_BYTES_MAX: usize = 4096;
/// Bytes of the head of a question or answer.
const HEAD_BYTES: usize = 12;
/// Number of the record type PTR, which gives an address its names.
const PTR: u16 = 12;
/// Number of the record type SRV.
const SRV: u16 = 33;
/// Number of the class of the internet.
const INTERNET: u16 = 1;
/// How many jumps a compressed name may make; more is a loop.
const JUMPS_MAX: usize = 64;

/// The client endpoints that a domain announces, those with TLS first, each kind in order of
/// priority. `suffix` tells clusters of one domain apart; empty for none.
///
/// # Errors
/// [`Error::Discovery`] when neither kind can be looked up.
pub async fn discover(domain: &str, suffix: &str) -> Result<Vec<String>, Error> {
    // A file of a few lines: not worth a thread of its own.
    let config = std::fs::read_to_string(RESOLV_CONF);
    let servers = name_servers(&config.unwrap_or_default());
    discover_at(&servers, domain, suffix).await
}

/// The hosts and ports that the SRV records of a whole name (`_service._tcp.domain`) give, in order
/// of priority.
///
/// # Errors
/// [`Error::Discovery`] when there are none or nobody answers.
pub async fn look_up_service(name: &str) -> Result<Vec<(String, u16)>, Error> {
    let config = std::fs::read_to_string(RESOLV_CONF);
    let servers = name_servers(&config.unwrap_or_default());
    let records = look_up_services(&servers, name).await;
    let records = records.map_err(Error::Discovery)?;
    let places = records.into_iter();
    Ok(places.map(|record| (record.target, record.port)).collect())
}

/// The names of an address: those in the system's file of hosts, or those that the name service knows. None ends with a
/// point.
///
/// # Errors
/// [`Error::Discovery`] when there are none or nobody answers.
///
/// Source: Go `net`, `Resolver.LookupAddr`.
pub async fn look_up_address(address: IpAddr) -> Result<Vec<String>, Error> {
    let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
    let local = names_in(&hosts, address);
    if !local.is_empty() {
        return Ok(local);
    }
    let config = std::fs::read_to_string(RESOLV_CONF);
    let servers = name_servers(&config.unwrap_or_default());
    let read = |answer: &[u8], data| Some(name(answer, data)?.0);
    let names = look_up(&servers, &reverse(address), PTR, read).await;
    let names = names.map_err(Error::Discovery)?;
    let bare = names
        .iter()
        .map(|name| name.trim_end_matches('.').to_owned());
    Ok(bare.collect())
}

/// The names that a file of hosts gives an address.
fn names_in(hosts: &str, address: IpAddr) -> Vec<String> {
    let lines = hosts.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let own = words.next()?.parse::<IpAddr>().ok()?;
        (own == address).then_some(words)
    });
    lines.flatten().map(str::to_owned).collect()
}

/// The name below which the names of an address are to be found.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().into_iter().rev();
            let digits = digits.map(|byte| format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            digits.collect::<String>() + "ip6.arpa"
        }
    }
}

async fn discover_at(
    servers: &[SocketAddr],
    domain: &str,
    suffix: &str,
) -> Result<Vec<String>, Error> {
    let mut endpoints = Vec::new();
    let mut failures = Vec::new();
    for (service, scheme) in [("etcd-client-ssl", "https"), ("etcd-client", "http")] {
        let dash = if suffix.is_empty() { "" } else { "-" };
        let name = format!("_{service}{dash}{suffix}._tcp.{domain}");
        match look_up_services(servers, &name).await {
            Ok(records) => endpoints.extend(records.into_iter().map(|record| {
                let Record { target, port, .. } = record;
                format!("{scheme}://{target}:{port}")
            })),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.len() == 2 {
        let text = format!("dns lookup errors: {}", failures.join(" and "));
        return Err(Error::Discovery(text));
    }
    Ok(endpoints)
}

/// The name servers of a resolver's configuration; this machine if it names none.
fn name_servers(config: &str) -> Vec<SocketAddr> {
    let servers = config.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        // A zone behind a link-local address has no place in a socket address of text.
        let address = words.next()?.split('%').next()?;
        let address: IpAddr = address.parse().ok()?;
        Some(SocketAddr::new(address, DNS_PORT))
    });
    let servers: Vec<SocketAddr> = servers.collect();
    if servers.is_empty() {
        return vec![SocketAddr::from(([127, 0, 0, 1], DNS_PORT))];
    }
    servers
}

/// A place where a service is offered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    /// Lower comes first.
    priority: u16,
    /// Share among those of one priority; the higher one comes first here.
    weight: u16,
    port: u16,
    target: String,
}

/// The SRV records of a name in order of priority, or whom that was asked and what went wrong.
async fn look_up_services(servers: &[SocketAddr], name: &str) -> Result<Vec<Record>, String> {
    let mut records = look_up(servers, name, SRV, service).await?;
    records.sort_by_key(|record| (record.priority, u16::MAX - record.weight));
    Ok(records)
}

/// The records of a name that are of one kind, as `read` reads them in an answer at the place of their data.
async fn look_up<T>(
    servers: &[SocketAddr],
    name: &str,
    kind: u16,
    read: impl Fn(&[u8], usize) -> Option<T>,
) -> Result<Vec<T>, String> {
    let mut failure = format!("lookup {name}: no name server");
    // What an answer must repeat is not to be guessed.
    let secret = RandomState::new();
    for (number, server) in servers
        .iter()
        .cycle()
        .take(servers.len() * ATTEMPTS)
        .enumerate()
    {
        let failed = |reason: &dyn Display| format!("lookup {name} on {server}: {reason}");
        let id = secret.hash_one(number) as u16;
        let question = question(id, name, kind).map_err(|reason| failed(&reason))?;
        let answer = match timeout(ANSWER_LIMIT, ask(*server, &question)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                failure = failed(&error);
                continue;
            }
            Err(_) => {
                failure = failed(&"no answer");
                continue;
            }
        };
        match records(&answer, kind, &read) {
            Ok(records) => return Ok(records),
            Err(Refusal::NoSuchHost) => return Err(failed(&"no such host")),
            Err(Refusal::Other(text)) => {
                failure = failed(&text);
                continue;
            }
        }
    }
    Err(failure)
}

/// A question for the records of a name that are of one kind.
fn question(id: u16, name: &str, kind: u16) -> Result<Vec<u8>, String> {
    /// Asks the server to go on asking others.
    const RECURSION_DESIRED: u16 = 0x0100;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + name.len() + 6);
    for number in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..64).contains(length));
        bytes.push(length.ok_or_else(|| format!("{name:?} is no name"))?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    Ok(bytes)
}

async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => [0, 0, 0, 0].into(),
        SocketAddr::V6(_) => [0u16; 8].into(),
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    // From here on only this server's answers arrive.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        let ours = length >= HEAD_BYTES && answer[..2] == question[..2];
        if !ours {
            continue;
        }
        /// The answer did not fit.
        const TRUNCATED: u8 = 0x02;
        if answer[2] & TRUNCATED != 0 {
            return ask_by_stream(server, question).await;
        }
        answer.truncate(length);
        return Ok(answer);
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(question.len() as u16).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[derive(Debug, PartialEq)]
enum Refusal {
    NoSuchHost,
    Other(String),
}

/// The number at a place of an answer.
fn number(answer: &[u8], at: usize) -> Option<u16> {
    let bytes = answer.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The SRV record whose data stand at a place of an answer.
fn service(answer: &[u8], data: usize) -> Option<Record> {
    Some(Record {
        priority: number(answer, data)?,
        weight: number(answer, data + 2)?,
        port: number(answer, data + 4)?,
        target: name(answer, data + 6)?.0,
    })
}

/// The records of an answer that are of one kind. Nothing in it is trusted: whatever does not fit is a refusal.
fn records<T>(
    answer: &[u8],
    kind: u16,
    read: impl Fn(&[u8], usize) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let malformed = || Refusal::Other("malformed answer".to_owned());
    let number = |at: usize| number(answer, at);
    match number(2).ok_or_else(malformed)? & 0xf {
        0 => {}
        3 => return Err(Refusal::NoSuchHost),
        code => {
            return Err(Refusal::Other(format!(
                "the name server refuses with code {code}"
            )));
        }
    }
    let questions = number(4).ok_or_else(malformed)?;
    let answers = number(6).ok_or_else(malformed)?;
    let mut at = HEAD_BYTES;
    for _ in 0..questions {
        at = name(answer, at).ok_or_else(malformed)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        // Type, class, age and length stand before the data.
        let fixed = name(answer, at).ok_or_else(malformed)?.1;
        let found = number(fixed).ok_or_else(malformed)?;
        let length = number(fixed + 8).ok_or_else(malformed)?;
        let data = fixed + 10;
        at = data + usize::from(length);
        if found == kind {
            records.push(read(answer, data).ok_or_else(malformed)?);
        }
    }
    if records.is_empty() {
        return Err(Refusal::NoSuchHost);
    }
    Ok(records)
}

/// The name at a place of an answer, with a point at its end, and the place behind it.
fn name(answer: &[u8], start: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut at = start;
    let mut behind = None;
    for _ in 0..JUMPS_MAX {
        let length = *answer.get(at)?;
        match length {
            0 => return Some((text, behind.unwrap_or(at + 1))),
            1..=63 => {
                let label = answer.get(at + 1..at + 1 + usize::from(length))?;
                text += &String::from_utf8_lossy(label);
                text.push('.');
                at += 1 + usize::from(length);
            }
            // The rest of the name stands elsewhere.
            0xc0.. => {
                let low = *answer.get(at + 1)?;
                behind = behind.or(Some(at + 2));
                at = usize::from(length & 0x3f) << 8 | usize::from(low);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these records, their targets compressed against the question.
    fn answer(question: &[u8], records: &[(u16, u16, u16, &str)]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] = 0x81;
        bytes[3] = if records.is_empty() { 3 } else { 0 };
        bytes[7] = records.len() as u8;
        for (priority, weight, port, target) in records {
            bytes.extend([0xc0, HEAD_BYTES as u8]);
            for number in [SRV, INTERNET, 0, 60, 6 + target.len() as u16 + 2] {
                bytes.extend(number.to_be_bytes());
            }
            for number in [priority, weight, port] {
                bytes.extend(number.to_be_bytes());
            }
            bytes.push(target.len() as u8);
            bytes.extend(target.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn a_domain_tells_its_endpoints() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let server = socket.local_addr().expect("its address");
            let serve = async {
                let mut question = [0; 512];
                loop {
                    let (length, from) = socket.recv_from(&mut question).await.expect("a question");
                    let question = &question[..length];
                    let secure = question.windows(3).any(|bytes| bytes == b"ssl");
                    let records = match secure {
                        true => &[][..],
                        false => &[(2, 0, 2379, "late"), (1, 1, 1, "b"), (1, 9, 2, "a")],
                    };
                    socket
                        .send_to(&answer(question, records), from)
                        .await
                        .expect("an answer");
                }
            };
            let ask = async {
                let found = discover_at(&[server], "example.com", "prod").await;
                assert_eq!(
                    found,
                    Ok(vec![
                        "http://a.:2".to_owned(),
                        "http://b.:1".to_owned(),
                        "http://late.:2379".to_owned(),
                    ])
                );
            };
            tokio::select! {
                () = ask => {}
                () = serve => {}
            }
        });
    }

    #[test]
    fn name_servers_come_from_the_configuration() {
        let config =
            "# comment\nsearch x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ?";
        let expected = ["10.0.0.1:53", "[fe80::1]:53"].map(|text| text.parse().expect(text));
        assert_eq!(name_servers(config), expected);
        assert_eq!(
            name_servers(""),
            ["127.0.0.1:53".parse().expect("an address")]
        );
    }

    #[test]
    fn bytes_that_are_no_answer_are_refused() {
        let question = question(1, "_etcd-client._tcp.example.com", SRV).expect("a name");
        let good = answer(&question, &[(1, 1, 1, "a")]);
        assert_eq!(records(&good, SRV, service).expect("records").len(), 1);
        assert_eq!(
            records(&answer(&question, &[]), SRV, service),
            Err(Refusal::NoSuchHost)
        );
        for length in 0..good.len() {
            assert!(
                records(&good[..length], SRV, service).is_err(),
                "{length} bytes"
            );
        }
        // A name that leads back to itself.
        let mut looped = good.clone();
        looped[HEAD_BYTES] = 0xc0;
        looped[HEAD_BYTES + 1] = HEAD_BYTES as u8;
        assert!(records(&looped, SRV, service).is_err());
        assert!(super::question(1, "a..b", SRV).is_err());
    }

    #[test]
    fn an_address_has_names() {
        let v4 = "10.0.0.1".parse().expect("an address");
        let v6 = "2001:db8::1".parse().expect("an address");
        let hosts = "127.0.0.1 localhost\n10.0.0.1 a a.example # b\n#10.0.0.1 c\n2001:DB8::1 d";
        assert_eq!(names_in(hosts, v4), ["a", "a.example"]);
        assert_eq!(names_in(hosts, v6), ["d"]);
        assert_eq!(reverse(v4), "1.0.0.10.in-addr.arpa");
        let end = "0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse(v6), format!("1.{}{end}", "0.".repeat(20)));
    }
}
