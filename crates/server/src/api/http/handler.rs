//! From a request to its handler, with the checks that come before.
//!
//! Source: v3.7.1 `server/embed/serve.go` (`accessController`) and `server/etcdserver/api/etcdhttp`.

use std::sync::Arc;

use super::checks::{self, Group};
use super::facts::HealthFacts;
use super::{health, reply};
use crate::metrics::{self, Metrics};
use crate::transport::{HttpHandler, HttpReply, HttpRequest, HttpResponse};

/// Which paths a port offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Everything, behind the host whitelist and with CORS headers: client ports.
    Client,
    /// Health and metrics alone, without those checks: `--listen-metrics-urls`.
    Metrics,
    /// The version alone: `--listen-peer-urls`.
    Peers,
}

/// What the flags say about HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// `--cors`: origins; empty or with `*` all.
    pub cors: Vec<String>,
    /// `--host-whitelist`: host names; empty or with `*` all.
    pub host_whitelist: Vec<String>,
    /// The version of etcd that the server claims, such as `3.7.1`.
    pub server_version: &'static str,
    /// Kvorum's own version.
    pub kvorum_version: &'static str,
}

/// Answers the HTTP/1 requests of one port.
pub struct HttpPort {
    inner: Arc<Inner>,
}

struct Inner {
    paths: Paths,
    options: HttpOptions,
    facts: Arc<dyn HealthFacts>,
    metrics: Arc<Metrics>,
}

impl HttpPort {
    /// A handler for the ports of one kind.
    #[must_use]
    pub fn new(
        paths: Paths,
        options: HttpOptions,
        facts: Arc<dyn HealthFacts>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let inner = Inner {
            paths,
            options,
            facts,
            metrics,
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl HttpHandler for HttpPort {
    fn handle(&self, request: HttpRequest) -> HttpReply {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.answer(&request).await })
    }
}

impl Inner {
    async fn answer(&self, request: &HttpRequest) -> HttpResponse {
        if self.paths != Paths::Client {
            return self.route(request).await;
        }
        let host = host_name(request.header("host").unwrap_or(""));
        if !allows(&self.options.host_whitelist, host) {
            tracing::warn!(
                host,
                "rejected an HTTP request whose host is not in the whitelist"
            );
            return reply::error(421, &unknown_host(host));
        }
        let mut reply = if request.method == "OPTIONS" {
            HttpResponse {
                status: 200,
                headers: Vec::new(),
                body: bytes::Bytes::new(),
            }
        } else {
            self.route(request).await
        };
        self.put_cors(request, &mut reply);
        reply
    }

    fn put_cors(&self, request: &HttpRequest, reply: &mut HttpResponse) {
        let origin = match request.header("origin") {
            _ if allows(&self.options.cors, "*") => "*",
            Some(origin) if allows(&self.options.cors, origin) => origin,
            _ => return,
        };
        reply.headers.extend([
            (
                "Access-Control-Allow-Methods",
                "POST, GET, OPTIONS, PUT, DELETE".to_owned(),
            ),
            ("Access-Control-Allow-Origin", origin.to_owned()),
            (
                "Access-Control-Allow-Headers",
                "accept, content-type, authorization".to_owned(),
            ),
        ]);
    }

    async fn route(&self, request: &HttpRequest) -> HttpResponse {
        let path = request.path.as_str();
        if self.paths == Paths::Peers && path != "/version" {
            return reply::not_found();
        }
        let checks = Group::at(path);
        let client = self.paths == Paths::Client;
        let known = match path {
            "/metrics" => return reply::ok(metrics::CONTENT_TYPE, self.metrics.render()),
            "/health" => true,
            "/version" => self.paths != Paths::Metrics,
            "/debug/vars" => client,
            _ => checks.is_some(),
        };
        if !known {
            return reply::not_found();
        }
        if request.method != "GET" {
            return reply::method_not_allowed("GET");
        }
        match (path, checks) {
            ("/version", _) => reply::ok("application/json", self.version()),
            ("/debug/vars", _) => reply::ok("application/json; charset=utf-8", self.variables()),
            (_, Some(checks)) => {
                checks::answer(&*self.facts, &self.metrics, checks, &request.query).await
            }
            _ => health::answer(&*self.facts, &self.metrics, &request.query).await,
        }
    }

    fn version(&self) -> String {
        let cluster = self.facts.cluster_version();
        let storage = self.facts.storage_version();
        format!(
            r#"{{"etcdserver":{},"etcdcluster":{},"storage":{},"kvorum":{}}}"#,
            reply::json_string(self.options.server_version),
            reply::json_string(cluster.as_deref().unwrap_or("not_decided")),
            reply::json_string(storage.as_deref().unwrap_or("unknown")),
            reply::json_string(self.options.kvorum_version),
        )
    }

    fn variables(&self) -> String {
        let arguments: Vec<String> = std::env::args()
            .map(|argument| reply::json_string(&argument))
            .collect();
        let limit = metrics::descriptor_limit().unwrap_or(0);
        format!(
            "{{\n\"cmdline\": [{}],\n\"file_descriptor_limit\": {limit},\n\"memstats\": {{}},\n\"raft.status\": {}\n}}\n",
            arguments.join(","),
            self.facts.raft_status_json(),
        )
    }
}

/// A host without its port and without the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or("");
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

fn allows(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == "*" || entry == name)
}

fn unknown_host(host: &str) -> String {
    format!(
        "The Host header of this request names a host that is not allowed.\n\n\
         This protects the member against DNS rebinding (CVE-2018-5702). To let the host in, do one of these:\n\
         - serve clients over TLS, where the check is not needed\n\
         - add the host to the whitelist: etcd --host-whitelist {host:?}\n"
    )
}
