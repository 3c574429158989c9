//! Counters of gRPC calls, with the names of the standard gRPC interceptor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::text::{TextWriter, histogram_samples, sample};
use super::value::{Counter, Histogram};
use crate::transport::{Code, Method};

/// Default buckets of Prometheus' client library, in seconds.
const HANDLING_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Services whose series appear with their first call; all others show zeros from the start.
const LATE_SERVICES: [&str; 2] = ["v3lockpb.Lock", "v3electionpb.Election"];

/// When a call started.
#[derive(Clone, Copy, Debug)]
pub struct Started(Instant);

impl Started {
    /// The time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Counters of all methods of a service table, by place in the table.
#[derive(Debug)]
pub struct GrpcMetrics {
    methods: Vec<MethodMetrics>,
    received_bytes: Arc<Counter>,
    sent_bytes: Arc<Counter>,
}

/// Picks one counter of a method.
type CounterOf = fn(&MethodMetrics) -> &Counter;

#[derive(Debug)]
struct MethodMetrics {
    method: Method,
    started: Counter,
    handled: [Counter; Code::ALL.len()],
    received: Counter,
    sent: Counter,
    /// `None` unless `--metrics=extensive`.
    handling: Option<Histogram>,
}

impl GrpcMetrics {
    pub(super) fn new(
        methods: &[Method],
        extensive: bool,
        received_bytes: Arc<Counter>,
        sent_bytes: Arc<Counter>,
    ) -> Self {
        let methods = methods.iter().map(|method| MethodMetrics {
            method: *method,
            started: Counter::default(),
            handled: std::array::from_fn(|_| Counter::default()),
            received: Counter::default(),
            sent: Counter::default(),
            handling: extensive.then(|| Histogram::with_bounds(HANDLING_BOUNDS.to_vec())),
        });
        Self {
            methods: methods.collect(),
            received_bytes,
            sent_bytes,
        }
    }

    /// A call began.
    pub fn started(&self, index: usize) -> Started {
        self.methods[index].started.increment();
        Started(Instant::now())
    }

    /// A request message of `bytes` bytes arrived.
    pub fn received(&self, index: usize, bytes: usize) {
        self.methods[index].received.increment();
        self.received_bytes.add(bytes as u64);
    }

    /// A reply message of `bytes` bytes left.
    pub fn sent(&self, index: usize, bytes: usize) {
        self.methods[index].sent.increment();
        self.sent_bytes.add(bytes as u64);
    }

    /// A call ended.
    pub fn handled(&self, index: usize, code: Code, started: Started) {
        let method = &self.methods[index];
        method.handled[usize::from(code.number())].increment();
        if let Some(histogram) = &method.handling {
            histogram.observe_duration(started.elapsed());
        }
    }

    pub(super) fn write(&self, writer: &mut TextWriter) {
        let simple: [(_, _, CounterOf); 3] = [
            (
                "grpc_server_started_total",
                "Calls begun, by method.",
                |method| &method.started,
            ),
            (
                "grpc_server_msg_received_total",
                "Request messages received, by method.",
                |method| &method.received,
            ),
            (
                "grpc_server_msg_sent_total",
                "Reply messages sent, by method.",
                |method| &method.sent,
            ),
        ];
        for (name, help, counter) in simple {
            writer.samples(name, help, "counter", |text| {
                self.each(|method, labels| {
                    sample(text, name, &labels, counter(method).value() as f64);
                });
            });
        }
        let name = "grpc_server_handled_total";
        writer.samples(
            name,
            "Calls ended, by method and status code.",
            "counter",
            |text| {
                let mut codes = Code::ALL;
                codes.sort_by_key(|code| code.name());
                for code in codes {
                    self.each(|method, labels| {
                        let [method_name, service, kind] = labels;
                        let labels = [("grpc_code", code.name()), method_name, service, kind];
                        let count = method.handled[usize::from(code.number())].value();
                        sample(text, name, &labels, count as f64);
                    });
                }
            },
        );
        let name = "grpc_server_handling_seconds";
        writer.samples(
            name,
            "Time from the start of a call to its end.",
            "histogram",
            |text| {
                self.each(|method, labels| {
                    if let Some(histogram) = &method.handling {
                        histogram_samples(text, name, &labels, histogram);
                    }
                });
            },
        );
    }

    /// Visits the methods that have series, in the order of their labels.
    fn each(&self, mut visit: impl FnMut(&MethodMetrics, [(&'static str, &'static str); 3])) {
        let mut shown: Vec<_> = self.methods.iter().collect();
        shown.retain(|method| {
            !LATE_SERVICES.contains(&method.method.names().0) || method.started.value() > 0
        });
        shown.sort_by_key(|method| {
            let (service, name) = method.method.names();
            (name, service)
        });
        for method in shown {
            let (service, name) = method.method.names();
            let kind = method.method.kind.name();
            visit(
                method,
                [
                    ("grpc_method", name),
                    ("grpc_service", service),
                    ("grpc_type", kind),
                ],
            );
        }
    }
}
