//! The members of a new cluster, as `--initial-cluster` lists them.
//!
//! Source: v3.7.1 `client/pkg/types/urls.go` (`NewURLs`), `urlsmap.go` (`NewURLsMap`),
//! `server/config/config.go` (`VerifyBootstrap`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs as _;

/// Names of members with their peer URLs, sorted.
pub(crate) type Members = BTreeMap<String, Vec<String>>;

/// Reads a list of URLs, separated by commas.
pub(crate) fn urls(text: &str) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    for text in text.split(',') {
        urls.push(url(text)?);
    }
    urls.sort();
    Ok(urls)
}

/// Reads a list such as `a=http://h1:2380,b=http://h2:2380`; a name may repeat.
pub(crate) fn parse(text: &str) -> Result<Members, String> {
    let mut members = Members::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, address) = part.split_once('=').unwrap_or((part, ""));
        let urls = members.entry(name.to_owned()).or_default();
        urls.push(url(address)?);
    }
    members.values_mut().for_each(|urls| urls.sort());
    Ok(members)
}

/// Checks that the list has this member with the URLs that it advertises, and no URL twice.
pub(crate) fn check(name: &str, members: &Members, own: &[String]) -> Result<(), String> {
    let listed = members.get(name).ok_or_else(|| not_listed(name))?;
    let same = |a: &[String], b: &[String]| {
        let set = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
        set(a) == set(b) || resolved(a) == resolved(b)
    };
    if !same(listed, own) {
        let named = |urls: &[String]| -> Vec<String> {
            urls.iter().map(|url| format!("{name}={url}")).collect()
        };
        let missing: Vec<String> = listed
            .iter()
            .filter(|url| !own.contains(url))
            .map(|url| format!("{name}={url}"))
            .collect();
        if !missing.is_empty() {
            return Err(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({})",
                missing.join(","),
                own.join(","),
                difference(own, listed)
            ));
        }
        let extra: Vec<String> = own
            .iter()
            .filter(|url| !listed.contains(url))
            .cloned()
            .collect();
        return Err(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            extra.join(","),
            named(own).join(",")
        ));
    }
    let mut seen = BTreeSet::new();
    if members.values().flatten().all(|url| seen.insert(url)) {
        return Ok(());
    }
    let mut all: Vec<String> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    all.sort();
    Err(format!(
        "initial cluster {} has duplicate url",
        all.join(",")
    ))
}

/// Why two lists of URLs are not the same.
///
/// Source: v3.7.1 `client/pkg/netutil/netutil.go` (`urlsEqual`).
fn difference(own: &[String], listed: &[String]) -> String {
    let quoted = |urls: &[String]| {
        let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
        format!("[{}]", urls.join(" "))
    };
    if own.len() != listed.len() {
        return format!("len({}) != len({})", quoted(own), quoted(listed));
    }
    let differs = |(own, listed): &(&String, &String)| {
        resolved(std::slice::from_ref(own)) != resolved(std::slice::from_ref(listed))
    };
    let pair = own.iter().zip(listed).find(differs);
    let (own, listed) = pair.unwrap_or((&own[0], &listed[0]));
    format!("resolved urls: \"{own}\" != \"{listed}\"")
}

/// What is said when the own name is not in the list.
pub(crate) fn not_listed(name: &str) -> String {
    format!("couldn't find local name \"{name}\" in the initial cluster configuration")
}

/// Reads a URL; what is returned is as it was given, without blanks around it.
fn url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let schemes = ["http://", "https://", "unix://", "unixs://"];
    let Some(scheme) = schemes.iter().find(|scheme| text.starts_with(**scheme)) else {
        return Err(format!(
            "URL scheme must be http, https, unix, or unixs: {text}"
        ));
    };
    let rest = &text[scheme.len()..];
    if scheme.starts_with("http") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let in_brackets = host.starts_with('[') && host.ends_with(']');
            is_number && (in_brackets || !host.contains(':'))
        });
        if !has_port {
            return Err(format!(
                "URL address does not have the form \"host:port\": {text}"
            ));
        }
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
    }
    Ok(text.to_owned())
}

/// The addresses behind URLs; a URL that cannot be looked up stays text.
fn resolved(urls: &[String]) -> BTreeSet<String> {
    let look_up = |url: &String| {
        let (scheme, authority) = url.split_once("://")?;
        let mut addresses: Vec<_> = authority.to_socket_addrs().ok()?.collect();
        addresses.sort_by_key(std::net::SocketAddr::is_ipv6);
        let first = addresses.first()?;
        Some(format!("{scheme}://{first}"))
    };
    urls.iter()
        .map(|url| look_up(url).unwrap_or_else(|| url.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_with_the_texts_of_etcd() {
        let check = |list: &str, own: &str, expected: Result<(), &str>| {
            let found = parse(list)
                .and_then(|members| Ok((members, urls(own)?)))
                .and_then(|(members, own)| check("a", &members, &own));
            assert_eq!(found, expected.map_err(str::to_owned), "{list} {own}");
        };
        let one = "http://127.0.0.1:1";
        check("a=http://127.0.0.1:1,b=http://127.0.0.1:2", one, Ok(()));
        check(
            "b=http://127.0.0.1:1",
            one,
            Err("couldn't find local name \"a\" in the initial cluster configuration"),
        );
        check(
            "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
            one,
            Err("initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url"),
        );
        check(
            "a=http://127.0.0.1:2",
            one,
            Err(
                "--initial-cluster has a=http://127.0.0.1:2 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1 (resolved urls: \"http://127.0.0.1:1\" != \"http://127.0.0.1:2\")",
            ),
        );
        check(
            "a=http://127.0.0.1:1",
            "http://127.0.0.1:1,http://127.0.0.1:3",
            Err(
                "--initial-advertise-peer-urls has http://127.0.0.1:3 but missing from --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:3",
            ),
        );
        let scheme = "URL scheme must be http, https, unix, or unixs: ";
        check("a", one, Err(scheme));
        let port = "URL address does not have the form \"host:port\": http://h";
        check("a=http://h", one, Err(port));
        check(
            "a=http://h:1/x",
            one,
            Err("URL must not contain a path: http://h:1/x"),
        );
    }
}
