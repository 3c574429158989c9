//! The text format, line by line.

use super::Metrics;
use super::family::Family;
use super::text::{TextWriter, go_float};
use super::value::{Buckets, Counter, Gauge, Histogram};
use crate::transport::{Code, Method, MethodKind};

#[test]
fn floats_are_written_as_go_writes_them() {
    let cases = [
        (0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.001, "0.001"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.1 + 0.2, "0.30000000000000004"),
        (8.192, "8.192"),
        (52.4288, "52.4288"),
        (999_999.0, "999999"),
        (1_000_000.0, "1e+06"),
        (1_234_567.0, "1.234567e+06"),
        (2_147_483_648.0, "2.147483648e+09"),
        (1.5e21, "1.5e+21"),
        (1e100, "1e+100"),
        (1.844_674_407_370_955_2e19, "1.8446744073709552e+19"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ];
    for (value, expected) in cases {
        assert_eq!(go_float(value), expected);
    }
}

#[test]
fn metrics_come_in_order_with_help_and_type() {
    let counter = Counter::default();
    counter.add(2_000_000);
    let gauge = Gauge::default();
    gauge.set(2.5);
    gauge.add(-1.0);
    let histogram = Histogram::new(Buckets {
        first: 0.001,
        factor: 2.0,
        count: 3,
    });
    for value in [0.0005, 0.001, 0.0011, 0.5] {
        histogram.observe(value);
    }
    let family: Family<Counter> = Family::new(&["code", "method"], None);
    family.with(&["b", "x\"\\\n"]).increment();
    family.with(&["a", "y"]).add(3);
    let empty: Family<Gauge> = Family::new(&["id"], None);
    let mut writer = TextWriter::default();
    writer.metric("z_total", "line one\nand \\ two", &counter);
    writer.metric("m_family", "help", &family);
    writer.metric("b_gauge", "help", &gauge);
    writer.metric("e_empty", "help", &empty);
    writer.metric("h_seconds", "help", &histogram);
    let expected = r#"# HELP b_gauge help
# TYPE b_gauge gauge
b_gauge 1.5
# HELP h_seconds help
# TYPE h_seconds histogram
h_seconds_bucket{le="0.001"} 2
h_seconds_bucket{le="0.002"} 3
h_seconds_bucket{le="0.004"} 3
h_seconds_bucket{le="+Inf"} 4
h_seconds_sum 0.5026
h_seconds_count 4
# HELP m_family help
# TYPE m_family counter
m_family{code="a",method="y"} 3
m_family{code="b",method="x\"\\\n"} 1
# HELP z_total line one\nand \\ two
# TYPE z_total counter
z_total 2e+06
"#;
    assert_eq!(writer.finish(), expected);
}

#[test]
fn grpc_series_start_at_zero_except_those_of_late_services() {
    let metrics = Metrics::new(false);
    let methods = [
        ("/etcdserverpb.KV/Put", MethodKind::Unary),
        ("/v3lockpb.Lock/Lock", MethodKind::Unary),
    ];
    let grpc = metrics.grpc(&methods.map(|(path, kind)| Method { path, kind }));
    let has = |line: &str| metrics.render().lines().any(|found| found == line);
    let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    assert!(has(&format!("grpc_server_started_total{{{put}}} 0")));
    for code in Code::ALL {
        let name = code.name();
        assert!(
            has(&format!(
                "grpc_server_handled_total{{grpc_code=\"{name}\",{put}}} 0"
            )),
            "{name}"
        );
    }
    assert!(!metrics.render().contains("v3lockpb"));
    let started = grpc.started(1);
    grpc.received(1, 10);
    grpc.sent(1, 20);
    grpc.handled(1, Code::Unavailable, started);
    let lock = r#"grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary""#;
    assert!(has(&format!(
        "grpc_server_handled_total{{grpc_code=\"Unavailable\",{lock}}} 1"
    )));
    assert!(has("etcd_network_client_grpc_received_bytes_total 10"));
    assert!(has("etcd_network_client_grpc_sent_bytes_total 20"));
    assert!(!metrics.render().contains("grpc_server_handling_seconds"));
}

#[test]
fn extensive_metrics_measure_calls() {
    let metrics = Metrics::new(true);
    let method = Method {
        path: "/etcdserverpb.Watch/Watch",
        kind: MethodKind::Bidi,
    };
    let grpc = metrics.grpc(&[method]);
    let started = grpc.started(0);
    grpc.handled(0, Code::Ok, started);
    let labels = r#"grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream""#;
    let text = metrics.render();
    assert!(text.contains(&format!(
        "grpc_server_handling_seconds_bucket{{{labels},le=\"+Inf\"}} 1\n"
    )));
    assert!(text.contains(&format!(
        "grpc_server_handling_seconds_count{{{labels}}} 1\n"
    )));
}

#[test]
fn every_line_is_help_type_or_a_sample_of_the_metric_above() {
    let metrics = Metrics::new(true);
    metrics.version.with(&["3.7.1"]).set(1.0);
    let text = metrics.render();
    let mut name = "";
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            name = rest.split(' ').next().unwrap();
            names.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(name), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(name), "{line}");
            assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(names.is_sorted(), "metrics are in order");
    let mut unique = names.clone();
    unique.dedup();
    assert_eq!(names, unique, "every metric appears once");
    for expected in [
        "process_resident_memory_bytes",
        "os_fd_limit",
        "etcd_server_version",
    ] {
        assert!(names.contains(&expected), "{expected}");
    }
}
