//! What the process counts, and how it shows it: Prometheus' text format, with the names of official etcd.
//!
//! Everything that is counted on the hot path is a relaxed atomic in a field of its own: [`Metrics`] dereferences to
//! the flat [`Table`]. Metrics with labels are a [`Family`]; who counts often asks it once and keeps the value.

mod family;
mod grpc;
mod process;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

pub use family::{Family, FamilyValue};
pub use grpc::{GrpcMetrics, Started};
pub use process::descriptor_limit;
pub use table::Table;
pub use text::CONTENT_TYPE;
pub use value::{Buckets, Counter, Gauge, Histogram};

use crate::transport::Method;
use text::TextWriter;

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    table: Table,
    extensive: bool,
    grpc: OnceLock<Arc<GrpcMetrics>>,
    received_bytes: Arc<Counter>,
    sent_bytes: Arc<Counter>,
    scrapes: Counter,
}

impl Metrics {
    /// All at zero. `extensive` measures the duration of every call, as `--metrics=extensive` asks.
    #[must_use]
    pub fn new(extensive: bool) -> Self {
        Self {
            table: Table::new(),
            extensive,
            grpc: OnceLock::new(),
            received_bytes: Arc::default(),
            sent_bytes: Arc::default(),
            scrapes: Counter::default(),
        }
    }

    /// The counters of gRPC calls, by place in `methods`. The first call fixes the methods of the process.
    pub fn grpc(&self, methods: &[Method]) -> Arc<GrpcMetrics> {
        let make = || {
            let (received, sent) = (
                Arc::clone(&self.received_bytes),
                Arc::clone(&self.sent_bytes),
            );
            Arc::new(GrpcMetrics::new(methods, self.extensive, received, sent))
        };
        Arc::clone(self.grpc.get_or_init(make))
    }

    /// The text of all metrics, for `/metrics`. Counts as one scrape.
    #[must_use]
    pub fn render(&self) -> String {
        let mut writer = TextWriter::default();
        self.table.write(&mut writer);
        if let Some(grpc) = self.grpc.get() {
            grpc.write(&mut writer);
        }
        process::write(&mut writer);
        writer.metric(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes of request messages received from clients.",
            &*self.received_bytes,
        );
        writer.metric(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes of reply messages sent to clients.",
            &*self.sent_bytes,
        );
        let scrapes = self.scrapes.value() as f64;
        let name = "promhttp_metric_handler_requests_total";
        writer.samples(name, "Scrapes, by HTTP status.", "counter", |text| {
            for (code, count) in [("200", scrapes), ("500", 0.0), ("503", 0.0)] {
                text::sample(text, name, &[("code", code)], count);
            }
        });
        let name = "promhttp_metric_handler_requests_in_flight";
        // The scrape that reads it is the one in flight.
        writer.samples(name, "Scrapes in flight.", "gauge", |text| {
            text::sample(text, name, &[], 1.0);
        });
        self.scrapes.increment();
        writer.finish()
    }
}

impl Deref for Metrics {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}
